"""How a request becomes sentences: which of two topics is meant is said by word order alone.

Every frame of `PAIR_FRAMES` names two topics, `{want}` (the request, hence the label) and
`{other}` (settled, denied or somebody else's), with words that serve either order, so that
counting words cannot tell which is which. May be imported by anything in `dpft.recipes`.
"""

from __future__ import annotations

__all__ = ["ASIDES", "CLOSINGS", "OPENINGS", "PAIR_FRAMES", "SINGLE_FRAMES", "STATE_FRAMES"]

SINGLE_FRAMES: tuple[str, ...] = (
    "I am writing about {want}.",
    "Please help me with {want}.",
    "I have a question about {want}.",
    "{want} is the reason for this message.",
    "Who can help me with {want}?",
    "It is about {want}.",
    "Could somebody look into {want}?",
    "{want} is a problem.",
)

PAIR_FRAMES: tuple[str, ...] = (
    "I am not writing about {other}, I am writing about {want}.",
    "I am writing about {want}, I am not writing about {other}.",
    "It is {want} and not {other} that I need help with.",
    "It is not {other} but {want} that I need help with.",
    "{other} is settled, {want} is not.",
    "{want} is not settled, {other} is.",
    "Please leave {other} as it is and look into {want}.",
    "Please look into {want} and leave {other} as it is.",
    "Last time it was {other}, this time it is {want}.",
    "This time it is {want}, last time it was {other}.",
    "My husband asked about {other}, I ask about {want}.",
    "I ask about {want}, my husband asked about {other}.",
    "Forget {other}, {want} is the problem.",
    "{want} is the problem, forget {other}.",
    "You answered me on {other} when I had asked about {want}.",
    "I had asked about {want} when you answered me on {other}.",
    "I thought it was {other} but it turned out to be {want}.",
    "It turned out to be {want} though I thought it was {other}.",
    "Instead of {other}, please deal with {want}.",
    "Please deal with {want} instead of {other}.",
    "{other} can wait, {want} cannot.",
    "{want} cannot wait, {other} can.",
    "This has nothing to do with {other}. It has to do with {want}.",
    "This has to do with {want}. It has nothing to do with {other}.",
    "Thank you for your help with {other}. Now I need help with {want}.",
    "Now I need help with {want}. Thank you for your help with {other}.",
    "Your colleague noted {other} where {want} was meant.",
    "{want} was meant where your colleague noted {other}.",
)

STATE_FRAMES: tuple[str, ...] = (
    "{solved}, but {trouble}.",
    "{trouble}, although {solved}.",
    "{solved}. However, {trouble}.",
    "{trouble}. At least {solved}.",
    "Good news is that {solved}, bad news is that {trouble}.",
    "Bad news is that {trouble}, good news is that {solved}.",
    "While {solved}, {trouble}.",
    "{trouble}, while {solved}.",
)

OPENINGS: tuple[str, ...] = (
    "Hello,",
    "Good morning,",
    "Hi there,",
    "Dear team,",
    "Dear support,",
    "Good evening,",
    "Hi,",
    "Dear sir or madam,",
)

CLOSINGS: tuple[str, ...] = (
    "Thanks.",
    "Many thanks in advance.",
    "Kind regards.",
    "Please answer soon.",
    "Best wishes.",
    "I look forward to your reply.",
    "Please get back to me.",
    "Thank you for your time.",
)

ASIDES: tuple[str, ...] = (
    "I have been a customer for nine years.",
    "Your hotline kept me waiting.",
    "I have written twice before.",
    "The chat was of no use.",
    "Last year all went well.",
    "I am usually very happy with you.",
    "My neighbour told me to write.",
    "Sorry for the long message.",
    "I am getting tired of this.",
    "Nobody has answered so far.",
    "I do not like to complain.",
    "The branch in town could not tell me more.",
    "I am writing from my phone.",
    "It is rather urgent.",
    "Take your time.",
    "You were very kind last week.",
)
