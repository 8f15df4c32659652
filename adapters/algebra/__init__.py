"""What the delta of each kind of adapter means, and how deltas of a kind add up exactly.

A delta is read from what peft saves into parts, one for each place of the model; parts combine
linearly, and are written back so that peft loads them. Nothing here knows of privacy. Imports torch
and peft, so that `dpft.adapters` does not import it by itself.
"""

from dpft.adapters.algebra.base import BaseModel
from dpft.adapters.algebra.bottleneck import Bottleneck
from dpft.adapters.algebra.combination import combine
from dpft.adapters.algebra.delta import Delta, Family, Part, Source, Written
from dpft.adapters.algebra.dense import Dense
from dpft.adapters.algebra.kinds import read, write
from dpft.adapters.algebra.low_rank import LowRank
from dpft.adapters.algebra.offset import Offset

__all__ = [
    "BaseModel",
    "Bottleneck",
    "Delta",
    "Dense",
    "Family",
    "LowRank",
    "Offset",
    "Part",
    "Source",
    "Written",
    "combine",
    "read",
    "write",
]
