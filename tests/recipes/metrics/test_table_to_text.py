"""Figures of the official programs for the same texts, rounded as the programs print them.

BLEU and NIST are of mteval-v13a as the E2E challenge ships it, ROUGE-L and CIDEr of its copy of
coco-caption on our words, BLEU and TER of DART of multi-bleu.perl and tercom 7.25.
"""

from typing import Any

import pytest

from dpft.recipes.metrics import metric

_PREDICTIONS = [
    "The Blue Heron is a cheap riverside pub.",
    "Near the Old Mill, Café Lune serves Italian food for £20-25.",
    "It has a customer rating of 3.5 out of 5, and it isn't family-friendly.",
    "Zizzi",
    "The Golden Hen is a pub in the city centre. It is near the Old Mill.",
    "The Blue Heron, a riverside pub, is cheap and the pub is family-friendly.",
]
_REFERENCES = [
    [
        "The Blue Heron is a cheap pub by the riverside.",
        "A cheap pub, The Blue Heron, is riverside.",
    ],
    ["Café Lune, near the Old Mill, serves Italian food for £20-25."],
    [
        "Its customer rating is 3.5 out of 5; it is not family-friendly.",
        "It has a rating of 3.5 out of 5 and isn't family-friendly.",
        "Customers rate it 3.5 out of 5.",
    ],
    ["Zizzi is a pub.", "A pub: Zizzi."],
    ["The Golden Hen is a city centre pub near the Old Mill."],
    [
        "The Blue Heron is a cheap, family-friendly pub in the riverside area.",
        "The riverside pub The Blue Heron is cheap.",
    ],
]
_CUT = [" ".join(text.split()[:4]) for text in _PREDICTIONS]


def _figures(name: str, predictions: list[str]) -> dict[str, Any]:
    found = metric(name).compute(predictions=predictions, references=_REFERENCES)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("predictions", "bleu", "nist"), [(_PREDICTIONS, 0.4905, 4.9932), (_CUT, 0.1414, 0.0695)]
)
def test_e2e_agrees_with_mteval(predictions: list[str], bleu: float, nist: float) -> None:
    found = _figures("e2e", predictions)
    assert found["bleu"] / 100 == pytest.approx(bleu, abs=5e-5)
    assert found["nist"] == pytest.approx(nist, abs=5e-5)


def test_e2e_agrees_with_coco_caption() -> None:
    found = _figures("e2e", _PREDICTIONS)
    assert found["rouge_l"] == pytest.approx(0.72204778948611, rel=1e-12)
    assert found["cider"] == pytest.approx(3.6742729439007022, rel=1e-12)


@pytest.mark.parametrize(
    ("predictions", "bleu", "ter"),
    [(_PREDICTIONS, 39.60, 0.5014925373134328), (_CUT, 63.17, 0.626865671641791)],
)
def test_dart_agrees_with_multi_bleu_and_tercom(
    predictions: list[str], bleu: float, ter: float
) -> None:
    found = _figures("dart", predictions)
    assert found["bleu"] == pytest.approx(bleu, abs=5e-3)
    assert found["ter"] / 100 == pytest.approx(ter, rel=1e-12)


def test_the_signature_has_one_part_per_figure() -> None:
    for name, figures in (("e2e", 5), ("dart", 3)):
        assert len(metric(name).signature(_REFERENCES).split(" ; ")) == figures
        assert len(_figures(name, _PREDICTIONS)) == figures
