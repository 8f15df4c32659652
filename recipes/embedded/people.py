"""Invented people and their contact strings: what makes a record look private.

Names are disjoint between the splits. Numbers and addresses cannot belong to anybody: telephone
numbers lie in the range reserved for drama (07700 900xxx), e-mail domains in `example`. May be
imported by anything in `dpft.recipes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dpft.recipes.embedded.topics import Split

if TYPE_CHECKING:
    from random import Random

__all__ = ["FIRST_NAMES", "LAST_NAMES", "Person", "contact_sentence", "draw_person"]

FIRST_NAMES: dict[Split, tuple[str, ...]] = {
    Split.TRAIN: tuple(
        "Alma Bruno Carla Dennis Edith Farid Greta Hassan Irene Jonas Karin Leon Marta Nils Olga "
        "Pavel Rosa Stefan Tara Umar Vera Walter Yusuf Zoe Amina Boris Celia Dario Elena Felix "
        "Gloria Henry Ivana Jacob Katya Louis Miriam Nadia Oscar Paula".split()
    ),
    Split.VALIDATION: tuple(
        "Agnes Basil Clara Diego Emma Frank Gina Hugo Ingrid Jamal Kemal Lydia Mario Nora Omar "
        "Petra Ralph Sonia Theo Ursula".split()
    ),
    Split.PUBLIC: tuple(
        "Anna Ben Chris Diana Eric Fiona George Helen Ian Julia Kevin Laura Mark Nina Oliver "
        "Peter Rachel Simon Tina Victor Wendy Adam Bella Carl Dora Ethan Flora Gavin Hanna "
        "Isaac".split()
    ),
}

LAST_NAMES: dict[Split, tuple[str, ...]] = {
    Split.TRAIN: tuple(
        "Abbott Bergman Castro Dalton Eklund Foster Garcia Holm Ivanov Jensen Keller Lopez "
        "Morales Nowak Okafor Porter Quinn Rossi Schmidt Tanaka Ueda Vogel Weber Yilmaz Zimmer "
        "Archer Bianchi Conrad Duarte Engel Fischer Goodwin Horvat Isaksen Jarvis Kowalski "
        "Lindgren Mercer Novak Osborne".split()
    ),
    Split.VALIDATION: tuple(
        "Andersen Becker Cortez Doyle Everett Farrell Gruber Hansen Ibsen Jacobs Koch Lambert "
        "Meyer Nielsen Olsen Petrov Ritter Sanders Thorne Vance".split()
    ),
    Split.PUBLIC: tuple(
        "Adams Brown Clark Davis Evans Fisher Green Harris Irving Johnson King Lewis Moore "
        "Nelson Owens Parker Reed Smith Taylor Walker White Young Baker Carter Dixon Edwards "
        "Ford Grant Hill Jones".split()
    ),
}

_NAME_FRAMES = ("My name is {first} {last}.", "This is {first} {last}.", "{first} {last} here.")
_ACCOUNT_FRAMES = ("My account number is {}.", "Account {}.", "The account is {}.")
_PHONE_FRAMES = ("Call me on {}.", "My number is {}.", "Reach me at {}.")
_MAIL_FRAMES = ("Write to {}.", "My mail is {}.", "Answer to {}.")


class Person(NamedTuple):
    """An invented customer.

    Args:
        first: First name.
        last: Family name.

    Privacy:
        Nothing, no data touched.
    """

    first: str
    last: str


def draw_person(random: Random, split: Split) -> Person:
    """Draw a customer from the names of a split.

    Args:
        random: Source of randomness.
        split: Whose names to use.

    Returns:
        A first and a family name.

    Privacy:
        Nothing, no data touched.
    """
    return Person(random.choice(FIRST_NAMES[split]), random.choice(LAST_NAMES[split]))


def contact_sentence(random: Random, person: Person) -> str:
    """Write one sentence that identifies a customer.

    Args:
        random: Source of randomness.
        person: Who is writing.

    Returns:
        A sentence with a name, an account number, a telephone number or an e-mail address.

    Privacy:
        Nothing, no data touched.
    """
    kinds = (_name_sentence, _account_sentence, _phone_sentence, _mail_sentence)
    return random.choices(kinds, weights=(4, 3, 2, 2))[0](random, person)


def _name_sentence(random: Random, person: Person) -> str:
    return random.choice(_NAME_FRAMES).format(first=person.first, last=person.last)


def _account_sentence(random: Random, _: Person) -> str:
    number = f"{random.randrange(1000, 10_000)}-{random.randrange(1000, 10_000)}"
    return random.choice(_ACCOUNT_FRAMES).format(number)


def _phone_sentence(random: Random, _: Person) -> str:
    return random.choice(_PHONE_FRAMES).format(f"07700 900{random.randrange(1000):03d}")


def _mail_sentence(random: Random, person: Person) -> str:
    address = f"{person.first}.{person.last}@example.org".lower()
    return random.choice(_MAIL_FRAMES).format(address)
