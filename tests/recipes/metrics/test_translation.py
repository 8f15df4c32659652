import itertools
import math
from collections.abc import Sequence

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from dpft.recipes.metrics import metric
from dpft.recipes.metrics.translation import bleu_scorer

_PREDICTION = "the cat sat on the mat"
_REFERENCE = "the cat is on the mat"
_TEXTS = ["The cat sat on the mat.", "It's a dog, isn't it?", "3.5 of 5"]
_MANY = [["The cat is on the mat.", "A cat sat on it."], ["It's a dog."], ["3.5 out of 5", "5"]]


def test_bleu_of_a_worked_example() -> None:
    # 5 of 6 words, 3 of 5 pairs, 1 of 4 triples, and 0 of 3 quadruples, smoothed to 1 / (2 * 3).
    found = metric("bleu").compute(predictions=[_PREDICTION], references=[_REFERENCE])
    assert found == pytest.approx({"bleu": 100 * (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25})


def test_bleu_penalises_brevity_against_the_closest_reference() -> None:
    references = ["the cat sat on the mat", "the cat sat on the mat all day long today"]
    found = metric("bleu").compute(predictions=["the cat sat on"], references=[references])
    assert found == pytest.approx({"bleu": 100 * math.exp(1 - 6 / 4)})


def test_bleu_clips_counts_as_in_example_2_of_papineni() -> None:
    references = ["The cat is on the mat.", "There is a cat on the mat."]
    scorer = bleu_scorer(lowercase=True)
    row = scorer.statistics(["the the the the the the the."], [references])[0]
    assert row[2] - 1 == 2  # matches, less the full stop
    assert row[6] - 1 == 7  # words, likewise


def test_multi_bleu_neither_smooths_nor_cuts_nor_folds() -> None:
    one = metric("multi_bleu")
    found = one.compute(predictions=[_PREDICTION], references=[_REFERENCE])
    assert found == pytest.approx({"bleu": 0.0})
    found = one.compute(predictions=["a b c d. A"], references=["a b c d . a"])
    assert found == pytest.approx({"bleu": 0.0})


def test_multi_bleu_takes_a_missing_reference_for_an_empty_one() -> None:
    four, nine = "a b c d", "a b c d e f g h i"
    found = metric("multi_bleu").compute(predictions=[four, four], references=[[nine], [four] * 2])
    # 4 words are nearer to 0 than to 9: the reference length is 0 + 4, less than what was said.
    assert found == pytest.approx({"bleu": 100.0})
    found = metric("bleu").compute(predictions=[four, four], references=[[nine], [four] * 2])
    assert found == pytest.approx({"bleu": 100 * math.exp(1 - 13 / 8)})


def test_chrf_of_a_worked_example() -> None:
    # "ab" against "abc": precision 1 and 1, recall 2/3 and 1/2; no triple was said.
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    found = metric("chrf").compute(predictions=["ab"], references=["ab c"])
    assert found == pytest.approx({"chrf": 100 * 5 * precision * recall / (4 * precision + recall)})


def test_ter_is_edits_over_the_mean_length_of_references() -> None:
    references = ["the cat sat", "the cat sat on the old mat"]
    found = metric("ter").compute(predictions=["The cat sits"], references=[references])
    assert found == pytest.approx({"ter": 100 * 1 / 5})


def _distance(words: Sequence[str], others: Sequence[str]) -> int:
    row = list(range(len(others) + 1))
    for i, word in enumerate(words, start=1):
        previous, row = row, [i]
        for j, other in enumerate(others, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (word != other)))
    return row[-1]


def _shifted(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Everything one moved block away."""
    cuts = itertools.combinations(range(len(words) + 1), 2)
    found = set()
    for start, end in cuts:
        block, rest = words[start:end], words[:start] + words[end:]
        found |= {rest[:at] + block + rest[at:] for at in range(len(rest) + 1)}
    return found


def _fewest_edits(words: tuple[str, ...], others: tuple[str, ...]) -> int:
    best, reached, shifts = _distance(words, others), {words}, 0
    while shifts + 1 < best:
        shifts += 1
        reached = {new for old in reached for new in _shifted(old)}
        best = min(best, *(shifts + _distance(new, others) for new in reached))
    return best


def test_ter_of_short_texts_is_the_fewest_edits_by_brute_force() -> None:
    texts = [t for n in (1, 2, 3) for t in itertools.product("abc", repeat=n)]
    scorer = metric("ter").scorer
    pairs = list(itertools.product(texts, texts))
    rows = scorer.statistics([" ".join(p) for p, _ in pairs], [[" ".join(r)] for _, r in pairs])
    assert rows[:, 0].tolist() == [_fewest_edits(*pair) for pair in pairs]
    assert rows[:, 1].tolist() == [len(r) for _, r in pairs]


@pytest.mark.parametrize(("name", "metric_class"), [("bleu", BLEU), ("chrf", CHRF), ("ter", TER)])
def test_rows_give_what_the_public_method_of_sacrebleu_gives(
    name: str, metric_class: type[BLEU | CHRF | TER]
) -> None:
    original = metric_class()
    expected = original.corpus_score(_TEXTS, list(itertools.zip_longest(*_MANY)))
    found = metric(name)
    assert found.compute(predictions=_TEXTS, references=_MANY) == {name: expected.score}
    assert found.signature(_MANY) == f"{name}|{original.get_signature()}"
