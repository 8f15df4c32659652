"""Tables made of ordinary sentences, so that the decoder learns to write a text from a table.

A sentence is cut at its function words; what stands between becomes a row, and the key is what
stood before it, its own last word, or its kind. Nobody's tables are used. No torch in here. May be
imported by `corpus.py`.
"""

from dataclasses import dataclass
from random import Random

__all__ = ["table_of"]

_MAX_ROWS = 8
_MIN_ROWS = 2
_MAX_WORDS = 5  # of one value
_KEEP_NAME, _KEEP_WORDS = 0.97, 0.8
_SHUFFLED = 0.6
_TRIPLES = 0.35
_SIGNS = ".,;:!?\"'()"
_FUNCTION_WORDS = frozenset(
    """
    a about above after again against all also although am an and any are as at be because been
    before being between both but by can could did do does during each either every few for from
    further had has have he her here hers him his how i if in into is it its itself just later may
    me might more most much must my near no nor not now of off on once one only onto or other our
    out over own same she should since so some such than that the their them then there these they
    this those through to too under until up upon us very was we well were what when where whether
    which while who whom whose why will with within without would you your
    """.split()
)


@dataclass(frozen=True)
class _Phrase:
    """A run of content words, and up to two function words that stood before it."""

    before: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def is_name(self) -> bool:
        return self.words[0][0].isupper() or self.words[0][0].isdigit()

    @property
    def kind(self) -> str:
        first = self.words[0][0]
        return "number" if first.isdigit() else "name" if first.isupper() else "topic"


def table_of(sentence: str, random: Random) -> list[tuple[str, ...]] | None:
    """Make a table of a sentence.

    Args:
        sentence: An ordinary sentence.
        random: Source of randomness.

    Returns:
        Slots (key, value) or triples (subject, key, value), at most eight; None for a sentence of
        which no table can be made.

    Privacy:
        Nothing private: the sentences are published.

    References:
        Splitting at function words follows Rose et al. 2010, "Automatic keyword extraction from
        individual documents" (RAKE). Pretraining on text paired with what was taken from it is in
        the spirit of Chen et al. 2020, "KGPT" (2010.02307), without their knowledge graph.
    """
    kept = [phrase for phrase in _phrases(sentence) if _is_kept(phrase, random)][:_MAX_ROWS]
    if len(kept) < _MIN_ROWS:
        return None
    subject = next((phrase for phrase in kept if phrase.is_name), None)
    if subject is not None and random.random() < _TRIPLES:
        rest = [phrase for phrase in kept if phrase is not subject]
        rows: list[tuple[str, ...]] = [
            (" ".join(subject.words), *_slot(phrase, random)) for phrase in rest
        ]
    else:
        rows = [_slot(phrase, random) for phrase in kept]
    if random.random() < _SHUFFLED:
        random.shuffle(rows)
    return rows


def _is_kept(phrase: _Phrase, random: Random) -> bool:
    return random.random() < (_KEEP_NAME if phrase.is_name else _KEEP_WORDS)


def _slot(phrase: _Phrase, random: Random) -> tuple[str, str]:
    draw = random.random()
    value = " ".join(phrase.words)
    if draw < 0.4 and phrase.before:
        return " ".join(phrase.before), value
    if draw < 0.8 and len(phrase.words) > 1 and not phrase.is_name:
        return phrase.words[-1], " ".join(phrase.words[:-1])
    return phrase.kind, value


def _phrases(sentence: str) -> list[_Phrase]:
    phrases: list[_Phrase] = []
    before: list[str] = []
    words: list[str] = []
    for raw in sentence.split():
        word = raw.strip(_SIGNS)
        if word.lower() in _FUNCTION_WORDS or not word:
            _close(phrases, before, words)
            before.append(word.lower())
            continue
        words.append(word)
        if raw[-1] in _SIGNS or len(words) == _MAX_WORDS:
            _close(phrases, before, words)
    _close(phrases, before, words)
    return phrases


def _close(phrases: list[_Phrase], before: list[str], words: list[str]) -> None:
    """End the phrase that is being read, if there is one."""
    if words:
        phrases.append(_Phrase(tuple(word for word in before[-2:] if word), tuple(words)))
        words.clear()
        before.clear()
