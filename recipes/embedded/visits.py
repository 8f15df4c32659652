"""The embedded table-to-text task: notes on visits to invented clinics, from tables.

A table names a patient, an age, a town, a clinic, a day, a complaint, what was done and when to
come again; one to three notes say the same in words. Nobody of that name exists. Holds the only
maker of these records. May be imported by anything in `dpft.recipes`.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from dpft.accounting.errors import ConfigurationError
from dpft.recipes.embedded.people import LAST_NAMES, draw_person
from dpft.recipes.embedded.topics import Split

__all__ = ["DEFAULT_NUM_VISITS", "Visit", "visits"]

DEFAULT_NUM_VISITS: dict[Split, int] = {Split.TRAIN: 4000, Split.VALIDATION: 60}
_MAX_NOTES = 3
_TOWNS: dict[Split, tuple[str, ...]] = {
    Split.TRAIN: tuple(
        "Ashford Bexley Corby Dover Exeter Frome Grimsby Hexham Ilkley Kendal".split()
    ),
    Split.VALIDATION: tuple("Luton Malvern Newark Oakham Penrith Ripon".split()),
}
_CLINICS = ("Elm Street", "Harbour Road", "Mill Lane", "North Gate", "Park View", "St Anne")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_COMPLAINTS = (
    "a sore knee",
    "a dry cough",
    "back pain",
    "a skin rash",
    "headaches",
    "an ear infection",
    "high blood pressure",
    "a sprained ankle",
    "chest pain",
    "poor sleep",
)
_TREATMENTS = (
    "rest and ice",
    "a blood test",
    "cough syrup",
    "a new cream",
    "an X-ray",
    "a course of tablets",
    "physiotherapy",
    "a hearing test",
)
_RETURNS = ("in a week", "in ten days", "in two weeks", "in a month", "if it gets worse")
# Every frame of a group names the same slots; a group that is left out takes its slots along.
_OPENINGS = (
    "{patient}, {age}, from {town} came to the {clinic} clinic on {day} with {complaint}.",
    "On {day} the {clinic} clinic saw {patient} ({age}) from {town} because of {complaint}.",
    "{patient}, aged {age}, of {town} visited the {clinic} clinic on {day} about {complaint}.",
    "The {clinic} clinic saw {patient} of {town}, aged {age}, for {complaint} on {day}.",
)
_TREATED = (
    "{doctor} ordered {treatment}.",
    "{doctor} advised {treatment}.",
    "The treatment by {doctor} is {treatment}.",
)
_FOLLOWED = (
    "The patient comes back {back}.",
    "The next visit is {back}.",
    "A new appointment follows {back}.",
)


class Visit(NamedTuple):
    """A visit.

    Args:
        table: Slots with their values, in order.
        notes: One to three texts that say the same, no two alike.

    Privacy:
        Nothing, no data touched: the people are invented.
    """

    table: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def visits(
    split: Split | str = Split.TRAIN, num_visits: int | None = None, seed: int = 0
) -> list[Visit]:
    """Generate the visits of a split.

    Every visit has its own stream of randomness, hence the first ones of a longer set are those of
    a shorter one.

    Args:
        split: `train` or `validation`; they share neither the names of patients nor towns.
        num_visits: How many; `None` means `DEFAULT_NUM_VISITS` of the split.
        seed: Any integer; other seeds give other people.

    Returns:
        The visits.

    Raises:
        ConfigurationError: The split has no visits, or their number is negative.

    Privacy:
        Nothing, no data touched: the records are invented.

    Example:
        >>> visits("validation", 1)[0].table[0][0]
        'patient'
    """
    known = {member.value: member for member in DEFAULT_NUM_VISITS}
    value = split.value if isinstance(split, Split) else split
    if value not in known:
        raise ConfigurationError(
            f"Expected split={value} to be one of {', '.join(known)}. Only these splits have "
            "visits. Choose one of them."
        )
    size = DEFAULT_NUM_VISITS[known[value]] if num_visits is None else num_visits
    if size < 0:
        raise ConfigurationError(
            f"Expected num_visits={size} >= 0. A set cannot hold fewer than no records. Set "
            "num_visits to 0 or more."
        )
    return [_visit(known[value], seed, index) for index in range(size)]


def _visit(split: Split, seed: int, index: int) -> Visit:
    random = Random(f"dpft-embedded/visits/{split.value}/{seed}/{index}")  # noqa: S311 - must repeat, hides nothing
    person = draw_person(random, split)
    slots = {
        "patient": f"{person.first} {person.last}",
        "age": str(random.randrange(18, 90)),
        "town": random.choice(_TOWNS[split]),
        "clinic": random.choice(_CLINICS),
        "day": random.choice(_DAYS),
        "complaint": random.choice(_COMPLAINTS),
        "doctor": f"Dr {random.choice(LAST_NAMES[split])}",
        "treatment": random.choice(_TREATMENTS),
        "back": random.choice(_RETURNS),
    }
    sentences = [_OPENINGS, *(part for part in (_TREATED, _FOLLOWED) if random.random() < 0.6)]
    notes = {_note(sentences, slots, random): None for _ in range(random.randint(1, _MAX_NOTES))}
    return Visit(_named(slots, sentences), tuple(notes))


def _note(sentences: list[tuple[str, ...]], slots: dict[str, str], random: Random) -> str:
    return " ".join(random.choice(frames).format(**slots) for frames in sentences)


def _named(slots: dict[str, str], sentences: list[tuple[str, ...]]) -> tuple[tuple[str, str], ...]:
    """Return the slots that every choice of sentences names."""
    named = " ".join(frames[0] for frames in sentences)
    return tuple((name, value) for name, value in slots.items() if f"{{{name}}}" in named)
