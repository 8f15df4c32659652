"""Records as tokens of a template, and words of labels as tokens. Needs a tokenizer, no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpft.errors import ConfigurationError
from dpft.recipes.infilling.wording import Wording

__all__ = ["WordedFields", "answer_tokens", "encode_worded", "lengths_of_worded", "word_tokens"]

_PROBE = "x"


@dataclass(frozen=True)
class WordedFields:
    """Which fields of a row are worded, and how long a record may become.

    Args:
        text: Field of the text.
        pair: Field of a second text, None for single texts.
        label: Field of the label.
        max_length: Most tokens, special ones included.

    Privacy:
        Nothing, no data touched.
    """

    text: str
    pair: str | None
    label: str
    max_length: int


def word_tokens(tokenizer: Any, wording: Wording) -> tuple[int, ...]:
    """Return the one token of each word.

    Args:
        tokenizer: Tokenizer of a masked language model.
        wording: The wording.

    Raises:
        ConfigurationError: If the tokenizer has no mask, or a word is not one token to it.

    Privacy:
        Nothing, no data touched.
    """
    if tokenizer.mask_token_id is None:
        raise ConfigurationError(
            "Expected architecture.family=infilling with a model that has a mask token. This one "
            "was not trained to fill anything in. Choose a masked language model, or "
            "architecture.family=classifier."
        )
    tokens = {word: _one_token(tokenizer, word) for word in wording.words}
    wrong = [word for word, token in tokens.items() if token is None]
    if wrong:
        raise ConfigurationError(
            [
                f"Expected architecture.label_words to hold words of one token, but {word!r} is "
                "none to this tokenizer. One mask takes one token. Choose another word."
                for word in wrong
            ]
        )
    found = tuple(token for token in tokens.values() if token is not None)
    if len(set(found)) != len(found):
        raise ConfigurationError(
            f"Expected architecture.label_words={list(wording.words)} to differ as tokens. To this "
            "tokenizer some are the same, and their labels could not be told apart. Choose others."
        )
    return found


def answer_tokens(tokenizer: Any, wording: Wording) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of each word as an answer of an encoder-decoder, end token included.

    Privacy:
        Nothing, no data touched.
    """
    ids = tokenizer(list(wording.words), add_special_tokens=False)["input_ids"]
    return tuple((*word, tokenizer.eos_token_id) for word in ids)


def encode_worded(
    rows: Sequence[Mapping[str, Any]], tokenizer: Any, wording: Wording, fields: WordedFields
) -> list[dict[str, Any]]:
    """Word and tokenise records, each for itself.

    A text that leaves no room is cut, the first before the second; the template never is. A mask
    that a record brings along is taken out of it.

    Args:
        rows: Records.
        tokenizer: The tokenizer.
        wording: The wording.
        fields: Fields of a row, and the length.

    Returns:
        One row a record: what the tokenizer gives, and `labels`.

    Raises:
        ConfigurationError: If the template alone leaves no room for a text.

    Privacy:
        Row b depends on record b only (`tests/recipes/infilling/test_encoding.py`). The rows are
        raw data.
    """
    room = fields.max_length - _template_length(tokenizer, wording)
    if room < 1:
        raise ConfigurationError(
            f"Expected architecture.max_length={fields.max_length} to leave room beside the "
            "template. Nothing of a record would be read. Raise it."
        )
    encoded = []
    for row in rows:
        text = wording.text_of(_fitted(row, tokenizer, fields, room))
        one = dict(tokenizer(text, truncation=True, max_length=fields.max_length))
        encoded.append({**one, "labels": row[fields.label]})
    return encoded


def lengths_of_worded(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    wording: Wording,
    fields: tuple[str, str | None],
) -> list[int]:
    """Return the tokens of every worded record; `encode_worded` cuts those above `max_length`.

    Args:
        rows: Records.
        tokenizer: The tokenizer.
        wording: The wording.
        fields: Fields of the text and of a second text.

    Privacy:
        Raw: lengths of private texts (`tests/recipes/test_lengths.py`).
    """
    template = _template_length(tokenizer, wording)
    names = [field for field in fields if field is not None]
    return [
        template + sum(_count(_unmasked(row[name], tokenizer), tokenizer) for name in names)
        for row in rows
    ]


def _one_token(tokenizer: Any, word: str) -> int | None:
    """Return the token of a word within a sentence, None if it is not one."""
    ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    known = len(ids) == 1 and ids[0] != tokenizer.unk_token_id
    return int(ids[0]) if known else None


def _template_length(tokenizer: Any, wording: Wording) -> int:
    """Return how many tokens the template takes, and one more for each text: a cut may cost it."""
    texts = [name for name in wording.fields() if name != "mask"]
    values = dict.fromkeys(texts, _PROBE) | {"mask": str(tokenizer.mask_token)}
    return len(tokenizer(wording.text_of(values))["input_ids"]) + len(texts)


def _fitted(
    row: Mapping[str, Any], tokenizer: Any, fields: WordedFields, room: int
) -> dict[str, str]:
    """Return the texts of a record, cut so that together they have at most `room` tokens."""
    values = {"mask": str(tokenizer.mask_token)}
    if fields.pair is not None:
        pair = _cut(_unmasked(row[fields.pair], tokenizer), tokenizer, room - 1)
        values["pair"] = pair
        room -= _count(pair, tokenizer)
    return {**values, "text": _cut(_unmasked(row[fields.text], tokenizer), tokenizer, room)}


def _unmasked(text: Any, tokenizer: Any) -> str:
    """Return a text without masks of its own; some tokenizers have no mask."""
    mask = tokenizer.mask_token
    return str(text) if mask is None else str(text).replace(mask, " ")


def _count(text: str, tokenizer: Any) -> int:
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _cut(text: str, tokenizer: Any, most: int) -> str:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    if len(found["input_ids"]) <= most:
        return text
    return text[: found["offset_mapping"][most - 1][1]] if most > 0 else ""
