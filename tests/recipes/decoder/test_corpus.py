"""The decoder's corpus: made of sentences alone, repeatable, and free of benchmarks."""

from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpft.recipes.decoder.corpus import Document, public_documents, tokenise
from dpft.recipes.decoder.overlap import benchmark_runs, shares_a_run, word_runs
from dpft.recipes.decoder.pseudo_tables import table_of
from dpft.recipes.decoder.sentences import FACT_FILES, STORY_FILES, sentences_of
from dpft.recipes.decoder.tokenizer import train_tokenizer

SENTENCE = "Quintyambi is a remote rural locality of Evelyn County in New South Wales."
REFERENCE = "The Vaults is a cheap pub near the river and serves Italian food every day."


def assets(folder: Path, text: str) -> Path:
    for name in STORY_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": [text]}), folder / name)
    (folder / "data/nlg/e2e").mkdir(parents=True, exist_ok=True)
    rows = pa.table({"meaning_representation": ["name[x]"], "human_reference": [REFERENCE]})
    pq.write_table(rows, folder / "data/nlg/e2e/train.parquet")
    return folder


def test_a_table_is_made_of_the_words_of_its_sentence() -> None:
    for seed in range(50):
        rows = table_of(SENTENCE, Random(seed))
        if rows is None:
            continue
        assert 1 <= len(rows) <= 8
        for row in rows:
            assert row[-1] in SENTENCE
    assert table_of("It was so.", Random(0)) is None


def test_a_text_with_eight_words_of_a_benchmark_is_kept_out(tmp_path: Path) -> None:
    copied = "Yesterday the vaults is a cheap pub near the river, said Tom."
    runs = benchmark_runs(assets(tmp_path, f"{SENTENCE} {copied}"))
    assert shares_a_run(copied, runs)
    assert not shares_a_run(SENTENCE, runs)
    texts = {document.text for document in public_documents(tmp_path, 9, 9, seed=0)}
    assert SENTENCE in texts
    assert not any("cheap pub" in text for text in texts)


def test_short_texts_are_compared_as_a_whole() -> None:
    assert list(word_runs("Blue Spice, a pub.")) == [("blue", "spice", "a", "pub")]


def test_without_benchmarks_the_corpus_is_refused_rather_than_unchecked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        benchmark_runs(tmp_path)


def test_the_corpus_repeats_by_seed(tmp_path: Path) -> None:
    folder = assets(tmp_path, SENTENCE)
    assert public_documents(folder, 9, 9, seed=1) == public_documents(folder, 9, 9, seed=1)


def test_only_texts_that_may_be_passed_on_are_read() -> None:
    names = {Path(name).stem for name in (*FACT_FILES, *STORY_FILES)}
    assert not names & {"multi30k_captions", "brown", "imdb_unsup_sample", "fdu_mtl_unlabelled"}


def test_gaps_and_headings_are_no_sentences() -> None:
    text = "== History ==\nThe leader of the Senate, , welcomed the passage of it.\n" + SENTENCE
    assert list(sentences_of(text)) == [SENTENCE]


def test_documents_become_table_start_text_end() -> None:
    tokenizer = train_tokenizer([SENTENCE] * 3, 300)
    found = tokenise([Document("a : b", "One."), Document("", "Two.")], tokenizer, 50)
    first = found.ids[found.starts[0] : found.starts[1]]
    text = found.text_starts[0]
    assert tokenizer.decode(first[: text - 1]) == "a : b"
    assert first[text - 1] == tokenizer.bos_token_id
    assert first[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(found.ids[found.text_starts[1] : -1]) == " Two."
    assert len(tokenise([Document("", "x " * 99)] * 2 + [Document("", "y")], tokenizer, 50)) == 1
    assert found.ids.dtype == np.uint16


def test_digits_stand_alone_so_that_numbers_can_be_copied() -> None:
    tokenizer = train_tokenizer(["in 1973 1973 1973 1973 it was 1973"] * 5, 400)
    tokens = tokenizer.tokenize("in 1973")
    assert [token.strip("Ġ") for token in tokens][-4:] == ["1", "9", "7", "3"]
    assert tokenizer.decode(tokenizer("née in 1973 £20.")["input_ids"]) == "née in 1973 £20."
