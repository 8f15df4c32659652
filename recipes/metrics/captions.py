"""ROUGE-L as the caption evaluation of COCO computes it, and the words it is computed of.

The original takes its words from a Java program; `caption_words` follows the same rules of the
Penn Treebank by nltk, which differs from it in abbreviations, brackets and currency signs.
"""

import re
from collections.abc import Sequence

import nltk
import numpy as np
from nltk.tokenize import TreebankWordTokenizer

from dpft.recipes.metrics.scorer import Kind, Rows, Scorer

__all__ = ["caption_words", "caption_words_signature", "rouge_l_scorer"]

_BETA = 1.2
# What the original leaves out of a text after it was cut into words.
_PUNCTUATION = frozenset("'' ' `` ` . ? ! , : - -- ... ;".split())
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def caption_words(text: str) -> list[str]:
    """Cut a text into lower-cased words by the rules of the Penn Treebank, without punctuation.

    Args:
        text: Any number of sentences.

    Returns:
        Its words.

    Privacy:
        Nothing is released.

    Example:
        >>> caption_words("It's near the Café. It isn't family-friendly!")
        ['it', "'s", 'near', 'the', 'café', 'it', 'is', "n't", 'family-friendly']
    """
    tokenise = TreebankWordTokenizer().tokenize
    sentences = _SENTENCE_END.split(text.lower())
    return [w for sentence in sentences for w in tokenise(sentence) if w not in _PUNCTUATION]


def rouge_l_scorer() -> Scorer:
    """Return mean ROUGE-L, in [0, 1], with beta = 1.2 and the best precision and recall.

    Precision and recall are each the largest over the references, not those of one reference, and
    beta is 1.2: `rouge` has 1 and takes both from the same one.

    References:
        Lin 2004, section 2.1; Chen et al. 2015 (1504.00325), section 3.3.

    Privacy:
        As `Scorer`.
    """
    return Scorer(
        figures=("rouge_l",),
        kind=Kind.TEXTS,
        columns=1,
        statistics=_rouge_l_rows,
        score=lambda rows: {"rouge_l": float(rows.mean())},
        signature=lambda _: f"rouge_l|beta:{_BETA}|{caption_words_signature()}",
    )


def caption_words_signature() -> str:
    """Return how `caption_words` cuts texts, for signatures.

    Privacy:
        Nothing, no data touched.
    """
    return f"case:lc|tok:treebank|punct:no|nltk:{nltk.__version__}"


def _rouge_l_rows(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Rows:
    rows = [
        [_rouge_l(caption_words(text), [caption_words(other) for other in others])]
        for text, others in zip(predictions, references, strict=True)
    ]
    return np.array(rows, dtype=np.float64)


def _rouge_l(words: list[str], references: list[list[str]]) -> float:
    common = [_longest_common(words, other) for other in references]
    precision = max(common) / max(len(words), 1)
    recall = max(c / max(len(o), 1) for c, o in zip(common, references, strict=True))
    if precision == 0:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common(words: list[str], others: list[str]) -> int:
    previous = [0] * (len(others) + 1)
    for word in words:
        current = [0]
        for index, other in enumerate(others):
            taken = previous[index] + 1 if word == other else 0
            current.append(max(taken, previous[index + 1], current[-1]))
        previous = current
    return previous[-1]
