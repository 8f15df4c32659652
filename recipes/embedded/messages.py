"""One support message: a request in its setting of greetings, contact strings and asides.

Holds the composition of a message and how often each part appears. What becomes of the label is
decided in `generator.py`; the pretraining corpus throws it away in `corpus.py`. May be imported
by anything in `dpft.recipes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dpft.recipes.embedded import frames
from dpft.recipes.embedded.people import contact_sentence, draw_person
from dpft.recipes.embedded.topics import TOPICS, Split, share

if TYPE_CHECKING:
    from random import Random

__all__ = ["PRIVATE_STYLE", "PUBLIC_STYLE", "Message", "MessageStyle", "compose"]


@dataclass(frozen=True)
class MessageStyle:
    """How often each part of a message appears, every field a probability in [0, 1].

    Args:
        single: The message names its own topic alone.
        states: Otherwise, the two topics are told apart by clauses rather than by frames.
        detail: A sentence follows that only makes sense for the request.
        contact: A name, account number, telephone number or e-mail address is given.
        aside: A sentence that says nothing about the request is added.
        opening: The message begins with a greeting.
        closing: The message ends with a set phrase.
        typo: A word of five letters or more has two letters exchanged or one dropped.

    Privacy:
        Nothing, no data touched.
    """

    single: float
    states: float
    detail: float
    contact: float
    aside: float
    opening: float
    closing: float
    typo: float


PRIVATE_STYLE = MessageStyle(
    single=0.40,
    states=0.30,
    detail=0.35,
    contact=0.50,
    aside=0.20,
    opening=0.30,
    closing=0.15,
    typo=0.02,
)
PUBLIC_STYLE = MessageStyle(
    single=0.15,
    states=0.30,
    detail=0.95,
    contact=0.20,
    aside=0.10,
    opening=0.15,
    closing=0.05,
    typo=0.02,
)


class Message(NamedTuple):
    """A composed message.

    Args:
        sentences: Its sentences in order, greeting included.
        topic: Index into `TOPICS` of what is really asked for.

    Privacy:
        Nothing, no data touched.
    """

    sentences: tuple[str, ...]
    topic: int


def compose(random: Random, split: Split, style: MessageStyle) -> Message:
    """Write one message.

    Args:
        random: Source of randomness; the same state gives the same message everywhere.
        split: Whose names and phrases to use.
        style: How often each part appears.

    Returns:
        The message and the topic of its request, uniform over `TOPICS`.

    Privacy:
        Nothing, no data touched: every person is invented.
    """
    topic = random.randrange(len(TOPICS))
    body = [_request(random, split, style, topic), *_details(random, split, style, topic)]
    if random.random() < style.aside:
        body.insert(random.randrange(len(body) + 1), _pick(random, frames.ASIDES, split))
    if random.random() < style.contact:
        contact = contact_sentence(random, draw_person(random, split))
        body.insert(random.choice((0, len(body))), contact)
    if random.random() < style.opening:
        body.insert(0, _pick(random, frames.OPENINGS, split))
    if random.random() < style.closing:
        body.append(_pick(random, frames.CLOSINGS, split))
    return Message(tuple(_misspell(random, line, style.typo) for line in body), topic)


def _pick(random: Random, pool: tuple[str, ...], split: Split) -> str:
    return random.choice(share(pool, split))


def _request(random: Random, split: Split, style: MessageStyle, topic: int) -> str:
    if random.random() < style.single:
        return _single(random, split, topic)
    other = (topic + random.randrange(1, len(TOPICS))) % len(TOPICS)
    if random.random() < style.states:
        return _states(random, split, topic, other)
    frame = random.choice(frames.PAIR_FRAMES)
    want = _pick(random, TOPICS[topic].matters, split)
    return _sentence(frame.format(want=want, other=_pick(random, TOPICS[other].matters, split)))


def _single(random: Random, split: Split, topic: int) -> str:
    if random.random() < 0.4:
        return _sentence(random.choice(share(TOPICS[topic].states, split))[0] + ".")
    frame = random.choice(frames.SINGLE_FRAMES)
    return _sentence(frame.format(want=_pick(random, TOPICS[topic].matters, split)))


def _states(random: Random, split: Split, topic: int, other: int) -> str:
    trouble, _ = random.choice(share(TOPICS[topic].states, split))
    _, solved = random.choice(share(TOPICS[other].states, split))
    frame = random.choice(frames.STATE_FRAMES)
    return _sentence(frame.format(trouble=trouble, solved=solved))


def _details(random: Random, split: Split, style: MessageStyle, topic: int) -> tuple[str, ...]:
    if random.random() >= style.detail:
        return ()
    return (_pick(random, TOPICS[topic].details, split),)


def _sentence(text: str) -> str:
    pieces = text.split(". ")
    return ". ".join(piece[:1].upper() + piece[1:] for piece in pieces)


def _misspell(random: Random, line: str, chance: float) -> str:
    return " ".join(_typo(random, word, chance) for word in line.split(" "))


def _typo(random: Random, word: str, chance: float) -> str:
    if len(word) < 5 or not word.isalpha() or random.random() >= chance:
        return word
    place = random.randrange(1, len(word) - 2)
    if random.random() < 0.5:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + word[place + 1 :]
