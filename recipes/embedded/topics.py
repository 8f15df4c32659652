"""What customers write about: five topics, each said in many ways.

Holds the phrases of the five labels and the rule that shares them out among the splits. How a
phrase becomes a sentence is in `frames.py`. May be imported by anything in `dpft.recipes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

__all__ = ["LABEL_NAMES", "TOPICS", "Split", "Topic", "share"]


_Phrase = TypeVar("_Phrase")


class Split(str, Enum):
    """Which part of the embedded task a message belongs to.

    `PUBLIC` is the unlabelled corpus of the pretraining recipe; the other two are the private
    task itself.

    Privacy:
        Nothing, no data touched.
    """

    TRAIN = "train"
    VALIDATION = "validation"
    PUBLIC = "public"


@dataclass(frozen=True)
class Topic:
    """One label and the ways to speak of it.

    Args:
        name: Label name.
        matters: Noun phrases, singular, that fit after "about" and before "is".
        states: Pairs of clauses (still a problem, settled) that share most of their words.
        details: Sentences that only make sense when this topic is the request.

    Privacy:
        Nothing, no data touched.
    """

    name: str
    matters: tuple[str, ...]
    states: tuple[tuple[str, str], ...]
    details: tuple[str, ...]


_BILLING = Topic(
    name="billing",
    matters=(
        "the charge on my bill",
        "the last invoice",
        "a fee I do not recognise",
        "the payment you took twice",
        "my monthly bill",
        "the missing refund",
        "the amount you debited",
        "a payment reminder",
        "the direct debit",
        "a wrong statement",
        "the price on the invoice",
        "the late fee",
        "my open balance",
        "the tax on my receipt",
        "the credit note",
        "the sum that was overcharged",
    ),
    states=(
        ("my refund has not been paid out", "my refund has been paid out"),
        ("the bill is still wrong", "the bill is no longer wrong"),
        ("the invoice was never corrected", "the invoice was corrected"),
        ("I was charged twice again", "I was not charged twice again"),
        ("the balance is not clear to me", "the balance is clear to me"),
        ("the fee has not been taken off", "the fee has been taken off"),
        ("the statement does not add up", "the statement does add up now"),
        ("the debit cannot be explained", "the debit can be explained"),
    ),
    details=(
        "The total is forty pounds too high.",
        "Please give the money back.",
        "I want an explanation of every item.",
        "My bank shows two debits on the same day.",
        "The discount we agreed on is missing from the total.",
        "I will not pay that sum.",
        "Somebody added tax that is not due.",
        "Please check the figures once more.",
        "The reminder came although I had paid in time.",
        "It should have been half of that amount.",
        "I need a corrected copy for my accountant.",
        "The reimbursement is overdue.",
    ),
)

_CARD = Topic(
    name="card",
    matters=(
        "a replacement card",
        "my debit card",
        "the stolen card",
        "the spending limit",
        "the PIN letter",
        "a second card for my partner",
        "the cracked chip",
        "my credit card",
        "the worn magnetic stripe",
        "the contactless chip",
        "my new plastic",
        "a forgotten PIN",
        "the blocked card",
        "the cash machine that kept my card",
        "the limit abroad",
        "the lost wallet with my card",
    ),
    states=(
        ("my card is still blocked", "my card is no longer blocked"),
        ("the new card does not work", "the new card does work"),
        ("the PIN was never sent", "the PIN was sent"),
        ("the chip is not read by the till", "the chip is read by the till"),
        ("the limit has not been raised", "the limit has been raised"),
        ("the cash machine refuses me", "the cash machine no longer refuses me"),
        ("contactless cannot be used", "contactless can be used"),
        ("the stolen one was not replaced", "the stolen one was replaced"),
    ),
    details=(
        "The till declines it every time.",
        "I need one before I travel abroad.",
        "Somebody may be using it in shops.",
        "The chip has come loose.",
        "I cannot withdraw cash anywhere.",
        "Please raise what I may spend in a day.",
        "I left it in a taxi last night.",
        "The machine swallowed it on Sunday.",
        "The four digits do not come back to me.",
        "The stripe is scratched beyond use.",
        "Please block the old one at once.",
        "My wallet was taken on the train.",
    ),
)

_DELIVERY = Topic(
    name="delivery",
    matters=(
        "the late parcel",
        "my last order",
        "the missing package",
        "the courier",
        "the shipment you promised",
        "a damaged box",
        "the delivery date",
        "the tracking number",
        "an incomplete order",
        "the driver who left no note",
        "my parcel at the depot",
        "the wrong item in the box",
        "the express shipping",
        "a lost consignment",
        "the pick-up at the post office",
        "the goods I ordered",
    ),
    states=(
        ("my parcel has not arrived", "my parcel has arrived"),
        ("the tracking page does not move", "the tracking page does move again"),
        ("the order is still incomplete", "the order is no longer incomplete"),
        ("the courier never came", "the courier came"),
        ("the box was damaged", "the box was not damaged"),
        ("the shipment cannot be found", "the shipment can be found"),
        ("the package is stuck at the depot", "the package is no longer stuck at the depot"),
        ("the right item was not sent", "the right item was sent"),
    ),
    details=(
        "Nobody rang at the door all day.",
        "It has been at the same depot for a week.",
        "Two of the three items are missing.",
        "The driver left it in the rain.",
        "Please send it out again.",
        "The neighbours did not take it either.",
        "The carton was open and half empty.",
        "It was promised for Tuesday.",
        "The tracking page has not changed since Monday.",
        "I had to wait at home for nothing.",
        "The courier went to a different street.",
        "The colour is not what I ordered.",
    ),
)

_LOGIN = Topic(
    name="login",
    matters=(
        "my locked login",
        "the password reset",
        "the sign-in page",
        "a code that never comes",
        "access to the app",
        "my forgotten password",
        "the two-step check",
        "the security question",
        "the error when I sign in",
        "my user name",
        "the verification text",
        "the fingerprint unlock",
        "logging in on my phone",
        "the expired reset link",
        "the online portal",
        "a rejected passcode",
    ),
    states=(
        ("I still cannot log in", "I can log in again"),
        ("the reset link does not open", "the reset link does open"),
        ("the app is not letting me in", "the app is letting me in"),
        ("my password is rejected", "my password is no longer rejected"),
        ("the code was never texted to me", "the code was texted to me"),
        ("the portal is locked for me", "the portal is not locked for me any more"),
        ("the user name is not recognised", "the user name is recognised"),
        ("the fingerprint has not been accepted", "the fingerprint has been accepted"),
    ),
    details=(
        "It says the password is wrong although it is right.",
        "The text with the six digits stays away.",
        "After three attempts it locked me out.",
        "I changed my phone and now the app does not know me.",
        "The link in the mail leads to an empty page.",
        "Please unlock my profile.",
        "The page reloads and asks me to sign in again.",
        "I no longer know the answer to the security question.",
        "The browser says my session is over.",
        "I need to get into the portal tonight.",
        "The authenticator shows a different key.",
        "The reset mail ends up nowhere.",
    ),
)

_CANCELLATION = Topic(
    name="cancellation",
    matters=(
        "closing my contract",
        "the end of my subscription",
        "my notice to quit",
        "the cancellation",
        "leaving the plan",
        "the notice period",
        "ending the membership",
        "the renewal I do not want",
        "stopping the service",
        "the termination letter",
        "the exit from my tariff",
        "my withdrawal from the agreement",
        "the automatic extension",
        "giving up the policy",
        "dropping the premium plan",
        "the confirmation that I am leaving",
    ),
    states=(
        ("my contract is still running", "my contract is no longer running"),
        ("the cancellation was not confirmed", "the cancellation was confirmed"),
        ("the subscription renewed itself", "the subscription has not renewed itself"),
        ("the membership cannot be ended", "the membership can be ended"),
        ("my notice has not been accepted", "my notice has been accepted"),
        ("the plan was never stopped", "the plan was stopped"),
        ("the agreement does not end this month", "the agreement does end this month"),
        ("the policy is not terminated", "the policy is terminated"),
    ),
    details=(
        "I have found a cheaper provider.",
        "Please confirm the last day in writing.",
        "I do not want to be renewed for another year.",
        "I am moving abroad and no longer need it.",
        "Let me out at the end of the month.",
        "The notice was given in good time.",
        "I never agreed to an extension.",
        "Please stop everything as of today.",
        "We hardly use the service any more.",
        "I would like to leave without a penalty.",
        "My late father no longer needs the agreement.",
        "The minimum term is over.",
    ),
)

TOPICS: tuple[Topic, ...] = (_BILLING, _CARD, _DELIVERY, _LOGIN, _CANCELLATION)
LABEL_NAMES: tuple[str, ...] = tuple(topic.name for topic in TOPICS)

_ROLES = {Split.TRAIN: (0, 1, 2), Split.VALIDATION: (0, 1, 3), Split.PUBLIC: (0, 1, 2, 3)}


def share(phrases: tuple[_Phrase, ...], split: Split) -> tuple[_Phrase, ...]:
    """Give a split its part of a pool of phrases.

    Of every four phrases one is seen in training alone, one in validation alone and two in both;
    the public corpus sees all of them.

    Args:
        phrases: The pool, at least four long.
        split: Who asks.

    Returns:
        The phrases of that split, in the order of the pool.

    Privacy:
        Nothing, no data touched.
    """
    return tuple(phrase for i, phrase in enumerate(phrases) if i % 4 in _ROLES[split])
