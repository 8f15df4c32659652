"""Mechanisms: frozen values that say which noise was added, and to which sample of the records.

What a mechanism costs is computed in `dpft.accounting.accountants`; nothing is stored here that
could disagree with it. dp-accounting is imported only when an event is asked for.
"""

from dpft.accounting.mechanisms.adjacency import Adjacency, Unit
from dpft.accounting.mechanisms.composite import POISSON, Composed, RepeatAndSelect
from dpft.accounting.mechanisms.discrete_gaussian import DiscreteGaussian
from dpft.accounting.mechanisms.gaussian import FixedBatchGaussian, Gaussian
from dpft.accounting.mechanisms.laplace import DiscreteLaplace, Laplace
from dpft.accounting.mechanisms.one_shot import Opaque, Selection
from dpft.accounting.mechanisms.poisson import (
    PoissonGaussian,
    TruncatedPoissonGaussian,
    UserPoissonGaussian,
)
from dpft.accounting.mechanisms.portions import first_steps, steps_of, unit_of
from dpft.accounting.mechanisms.protocol import Mechanism
from dpft.accounting.mechanisms.reading import KNOWN_MECHANISMS, mechanism_from_json

__all__ = [
    "KNOWN_MECHANISMS",
    "POISSON",
    "Adjacency",
    "Composed",
    "DiscreteGaussian",
    "DiscreteLaplace",
    "FixedBatchGaussian",
    "Gaussian",
    "Laplace",
    "Mechanism",
    "Opaque",
    "PoissonGaussian",
    "RepeatAndSelect",
    "Selection",
    "TruncatedPoissonGaussian",
    "Unit",
    "UserPoissonGaussian",
    "first_steps",
    "mechanism_from_json",
    "steps_of",
    "unit_of",
]
