"""A worded record: its template is whole, its mask is one, and its neighbours do not matter."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from dpft.errors import ConfigurationError
from dpft.recipes.infilling.encoding import WordedFields, answer_tokens, encode_worded, word_tokens
from dpft.recipes.infilling.wording import Wording

SINGLE = Wording("{text} it was {mask} .", ("terrible", "great"))
PAIR = Wording("{text} ? {mask} , {pair}", ("bad", "good"))


@pytest.fixture
def tokenizer(tiny_masked: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_masked)


def fields(max_length: int, pair: str | None = None) -> WordedFields:
    return WordedFields("text", pair, "label", max_length)


def test_a_long_text_is_cut_and_the_template_is_not(tokenizer: Any) -> None:
    row = {"text": " ".join(["one"] * 50), "label": 1}
    (found,) = encode_worded([row], tokenizer, SINGLE, fields(12))
    words = tokenizer.convert_ids_to_tokens(found["input_ids"])
    assert len(words) <= 12
    assert words[-5:] == ["it", "was", "[MASK]", ".", "[SEP]"]
    assert words[1] == "one"
    assert found["labels"] == 1


def test_of_a_pair_the_first_is_cut_before_the_second(tokenizer: Any) -> None:
    row = {"text": " ".join(["one"] * 50), "pair": "two three", "label": 0}
    (found,) = encode_worded([row], tokenizer, PAIR, fields(14, "pair"))
    words = tokenizer.convert_ids_to_tokens(found["input_ids"])
    assert len(words) <= 14
    assert words[-3:] == ["two", "three", "[SEP]"]
    assert words.count("[MASK]") == 1


def test_a_mask_that_a_record_brings_along_is_taken_out(tokenizer: Any) -> None:
    (found,) = encode_worded([{"text": "one [MASK]", "label": 0}], tokenizer, SINGLE, fields(20))
    assert found["input_ids"].count(tokenizer.mask_token_id) == 1


def test_a_record_does_not_depend_on_its_neighbours(tokenizer: Any) -> None:
    rows = [{"text": text, "label": 0} for text in ("one", "two three " * 9, "four")]
    together = encode_worded(rows, tokenizer, SINGLE, fields(16))
    assert together == [encode_worded([row], tokenizer, SINGLE, fields(16))[0] for row in rows]


def test_a_template_that_leaves_no_room_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigurationError, match="leave room beside the template"):
        encode_worded([{"text": "one", "label": 0}], tokenizer, SINGLE, fields(6))


def test_words_become_their_tokens(tokenizer: Any) -> None:
    assert word_tokens(tokenizer, SINGLE) == tuple(
        tokenizer.convert_tokens_to_ids(["terrible", "great"])
    )


def test_answers_end(tiny_encoder_decoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder_decoder)
    for answer in answer_tokens(tokenizer, SINGLE):
        assert answer[-1] == tokenizer.eos_token_id
        assert len(answer) > 1
