"""METEOR without synonyms, by nltk: exact words and stems only, under a name that says so.

METEOR needs WordNet, and METEOR 1.5 of the papers a Java program with its paraphrases; neither can
ship here or be fetched without a network. What is left is not METEOR and is not called so.
"""

from collections.abc import Sequence

import numpy as np
from nltk.translate.meteor_score import meteor_score

from dpft.recipes.metrics.captions import caption_words, caption_words_signature
from dpft.recipes.metrics.scorer import Kind, Rows, Scorer

__all__ = ["meteor_exact_stem_scorer"]


class _NoSynonyms:
    """Stands where nltk expects WordNet."""

    def synsets(self, _: str) -> list[object]:
        """Return no synonyms."""
        return []


def meteor_exact_stem_scorer() -> Scorer:
    """Return mean METEOR of words and Porter stems, in [0, 1], of the best reference.

    References:
        Lavie and Agarwal 2007, sections 2 and 3, with alpha 0.9, beta 3 and gamma 0.5; the module
        of synonyms is left out.

    Privacy:
        As `Scorer`.
    """
    return Scorer(
        figures=("meteor_exact_stem",),
        kind=Kind.TEXTS,
        columns=1,
        statistics=_statistics,
        score=lambda rows: {"meteor_exact_stem": float(rows.mean())},
        signature=lambda _: (
            f"meteor_exact_stem|alpha:0.9|beta:3|gamma:0.5|{caption_words_signature()}"
        ),
    )


def _statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Rows:
    none = _NoSynonyms()
    rows = [
        [meteor_score([caption_words(t) for t in texts], caption_words(text), wordnet=none)]
        for text, texts in zip(predictions, references, strict=True)
    ]
    return np.array(rows, dtype=np.float64)
