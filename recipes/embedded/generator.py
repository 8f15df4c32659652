"""The embedded task: labelled customer messages that look private and belong to nobody.

Holds `generate`, the only maker of labelled records. The unlabelled pretraining corpus is made in
`corpus.py`. May be imported by anything in `dpft.recipes`.
"""

from __future__ import annotations

from random import Random
from typing import TypedDict

from dpft.accounting.errors import ConfigurationError
from dpft.recipes.embedded.canaries import canaries
from dpft.recipes.embedded.messages import PRIVATE_STYLE, compose
from dpft.recipes.embedded.topics import LABEL_NAMES, Split

__all__ = ["DEFAULT_NUM_RECORDS", "LABEL_NOISE", "Record", "generate"]

DEFAULT_NUM_RECORDS: dict[Split, int] = {Split.TRAIN: 6000, Split.VALIDATION: 1000}
LABEL_NOISE = 0.02


class Record(TypedDict):
    """A labelled message.

    Args:
        text: The message, at most 64 tokens of the embedded tokenizer.
        label: Index into `LABEL_NAMES` of what is asked for.

    Privacy:
        Nothing, no data touched: the people are invented.
    """

    text: str
    label: int


def generate(
    split: Split | str = Split.TRAIN, num_records: int | None = None, seed: int = 0
) -> list[Record]:
    """Generate the records of a split.

    Every record has its own stream of randomness, hence the first records of a longer set are
    those of a shorter one but for the canaries (see `canaries`). A share `LABEL_NOISE` of the
    labels is drawn anew among the other labels.

    Args:
        split: `train` or `validation`; they share neither names, canaries nor set phrases.
        num_records: How many records; `None` means `DEFAULT_NUM_RECORDS` of the split.
        seed: Any integer; other seeds give other people and messages.

    Returns:
        The records, labels balanced in expectation.

    Raises:
        ConfigurationError: The split has no labels, or the number of records is negative.

    Privacy:
        Nothing, no data touched: the records are invented.

    Example:
        >>> sorted(generate("validation", 1, seed=0)[0])
        ['label', 'text']
    """
    split = _labelled_split(split)
    size = DEFAULT_NUM_RECORDS[split] if num_records is None else num_records
    if size < 0:
        msg = (
            f"Expected num_records={size} >= 0. "
            "A set cannot hold fewer than no records. Set num_records to 0 or more."
        )
        raise ConfigurationError(msg)
    secrets = {i: canary.text for canary in canaries(split, size, seed) for i in canary.records}
    return [_record(split, seed, index, secrets.get(index)) for index in range(size)]


def _labelled_split(split: Split | str) -> Split:
    known = [member.value for member in DEFAULT_NUM_RECORDS]
    value = split.value if isinstance(split, Split) else split
    if value not in known:
        msg = (
            f"Expected split={value} to be one of {', '.join(known)}. "
            "Only these splits have labelled records. Choose one of them."
        )
        raise ConfigurationError(msg)
    return Split(value)


def _record(split: Split, seed: int, index: int, secret: str | None) -> Record:
    random = Random(f"dpft-embedded/{split.value}/{seed}/{index}")  # noqa: S311 - must repeat, hides nothing
    message = compose(random, split, PRIVATE_STYLE)
    label = _noisy(random, message.topic)
    sentences = message.sentences if secret is None else (*message.sentences, secret)
    return {"text": " ".join(sentences), "label": label}


def _noisy(random: Random, label: int) -> int:
    if random.random() >= LABEL_NOISE:
        return label
    return (label + random.randrange(1, len(LABEL_NAMES))) % len(LABEL_NAMES)
