"""Planted secrets: sentences that only a model which memorised single records could know.

Each canary is a sentence with a random eight-digit code, planted in a known number of training
records. A model that finds the planted code likelier than codes never planted has memorised.
May be imported by anything in `dpft.recipes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from dpft.recipes.embedded.topics import Split

__all__ = ["CANARY_REPETITIONS", "CANARY_SENTENCE", "Canary", "canaries", "reference_codes"]

CANARY_SENTENCE = "The secret code is {code}."
CANARY_REPETITIONS: tuple[int, ...] = (1, 1, 2, 4, 8)
_RECORDS_PER_CANARY_RECORD = 20


@dataclass(frozen=True)
class Canary:
    """A secret and where it was planted.

    Args:
        code: Eight digits in two groups, such as "4821 9375".
        text: The whole planted sentence.
        records: Indices of the records that hold it, ascending; one record holds one canary.

    Privacy:
        Nothing, no data touched: the secrets are invented.
    """

    code: str
    text: str
    records: tuple[int, ...]


def canaries(split: Split | str, num_records: int, seed: int) -> tuple[Canary, ...]:
    """List exactly what `generate` plants for the same arguments.

    Only the training split holds canaries. A set too small to hide them (20 records for each
    planted copy) gets the first ones of `CANARY_REPETITIONS` that fit.

    Args:
        split: A member or value of `Split`.
        num_records: Number of records of the set, at least 0.
        seed: Seed of the set.

    Returns:
        The canaries, rarest first; empty for every split but training.

    Privacy:
        Nothing, no data touched: the secrets are invented
        (`test_canaries_present_exactly_as_listed`).
    """
    if Split(split) is not Split.TRAIN:
        return ()
    random = Random(f"dpft-embedded/canaries/{num_records}/{seed}")  # noqa: S311 - must repeat, hides nothing
    room = num_records // _RECORDS_PER_CANARY_RECORD
    repetitions = _that_fit(room)
    places = random.sample(range(num_records), sum(repetitions))
    codes = _distinct_codes(random, len(repetitions))
    return tuple(
        Canary(code, CANARY_SENTENCE.format(code=code), _take(places, count))
        for code, count in zip(codes, repetitions, strict=True)
    )


def reference_codes(count: int, seed: int) -> tuple[str, ...]:
    """Draw codes of the same form to rank a planted code against.

    Args:
        count: How many, at least 0; all differ.
        seed: Seed of the draw.

    Returns:
        The codes. One may equal a planted code by a chance of about 1e-8 each.

    Privacy:
        Nothing, no data touched.

    References:
        Carlini et al. 2019, "The Secret Sharer", section 4.1 (the random space of a canary).
    """
    return _distinct_codes(Random(f"dpft-embedded/references/{seed}"), count)  # noqa: S311 - must repeat, hides nothing


def _that_fit(room: int) -> tuple[int, ...]:
    kept = [n for i, n in enumerate(CANARY_REPETITIONS) if sum(CANARY_REPETITIONS[: i + 1]) <= room]
    return tuple(kept)


def _take(places: list[int], count: int) -> tuple[int, ...]:
    taken, places[:count] = places[:count], []
    return tuple(sorted(taken))


def _distinct_codes(random: Random, count: int) -> tuple[str, ...]:
    numbers = random.sample(range(10**8), count)
    return tuple(f"{number // 10_000:04d} {number % 10_000:04d}" for number in numbers)
