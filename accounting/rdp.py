"""The accountant `rdp`: Renyi differential privacy, a fast cross-check from above.

Epsilon is 8 to 26 % above `pld` in training settings. It is the only accountant for repeat-and-
select, and what the ledger's filter adds up. Imported on demand by the registry.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, singledispatch
from typing import TYPE_CHECKING

from dpft.accounting.errors import ConfigurationError
from dpft.accounting.grid import Grid
from dpft.accounting.mechanisms import (
    Adjacency,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    FixedBatchGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    Opaque,
    PoissonGaussian,
    RepeatAndSelect,
    Selection,
)
from dpft.accounting.registry import register
from dpft.accounting.repetition import repeated_divergences

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "ORDERS",
    "rdp_delta",
    "rdp_epsilon",
    "renyi_divergences",
]

# Tenths up to 11, integers up to 64, then powers of two: the optimum lies near 2 for low noise and
# in the thousands for one step under much noise.
ORDERS = (
    *(1 + tenth / 10 for tenth in range(1, 100)),
    *range(11, 65),
    *(2**power for power in range(7, 14)),
)
# Rounding of one step's divergence, times (order - 1). Without it a divergence that rounds to zero
# would be read as perfect privacy, which a small delta turns into epsilon = 0.
_ROUNDING_PER_STEP = 1e-14


@register("rdp")
def rdp_epsilon(mechanisms: tuple[Mechanism, ...], delta: float, grid: Grid) -> float:  # noqa: ARG001  # nothing is discretised
    """Bound epsilon by Renyi differential privacy.

    Args:
        mechanisms: At least one; all share one adjacency.
        delta: In (0, 1).
        grid: Not used.

    Returns:
        An upper bound on epsilon at delta.

    Raises:
        ConfigurationError: If a mechanism has no bound: Poisson sampling under replace-one, where
            the known bound reads the noise multiplier against another sensitivity, truncated
            batches, and users of several records; or if opaque releases leave nothing of delta.

    Privacy:
        Nothing, no data touched. Never below `pld` (`test_rdp_is_never_below_pld`).

    References:
        Mironov et al. 2019 (1908.10530), section 3; conversion by Canonne et al. 2020 (2004.00010),
        proposition 12.
    """
    import numpy as np
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    _refuse_without_bound(mechanisms)
    given_away, pure = _without_deltas(mechanisms)
    if given_away >= delta:
        raise ConfigurationError(
            f"Expected delta={delta!r} to exceed what opaque releases have spent of it. A bound at "
            "a smaller delta does not follow from what is known of them. Raise delta."
        )
    epsilon, _ = compute_epsilon(np.asarray(ORDERS, float), _total(pure), delta - given_away)
    return float(epsilon)


def rdp_delta(mechanisms: tuple[Mechanism, ...], epsilon: float, grid: Grid) -> float:  # noqa: ARG001  # nothing is discretised
    """Bound delta by Renyi differential privacy.

    Args:
        mechanisms: At least one; all share one adjacency.
        epsilon: >= 0.
        grid: Not used.

    Returns:
        An upper bound on delta at epsilon, in [0, 1].

    Raises:
        ConfigurationError: If a mechanism has no bound, see `rdp_epsilon`.

    Privacy:
        Nothing, no data touched (`test_delta_and_epsilon_invert_each_other`).

    References:
        Canonne et al. 2020 (2004.00010), proposition 12.
    """
    import numpy as np
    from dp_accounting.rdp.rdp_privacy_accountant import compute_delta

    _refuse_without_bound(mechanisms)
    given_away, pure = _without_deltas(mechanisms)
    delta, _ = compute_delta(np.asarray(ORDERS, float), _total(pure), epsilon)
    return min(1.0, float(delta) + given_away)


def renyi_divergences(
    mechanisms: Iterable[Mechanism], orders: "Sequence[float] | np.ndarray"
) -> "np.ndarray":
    """Return the Renyi divergences that mechanisms on the same data spend together, from above.

    Args:
        mechanisms: All share one adjacency; none at all costs nothing.
        orders: Renyi orders > 1, in any order.

    Returns:
        One divergence per order, >= 0; infinite where there is no bound, such as for truncated
        batches or an opaque release with delta > 0.

    Raises:
        ConfigurationError: If an order is not a finite number > 1.

    Privacy:
        Nothing, no data touched. Additive over mechanisms, also if later ones are chosen by
        earlier outputs (`test_divergences_add_up_over_mechanisms`).

    References:
        Mironov 2017 (1702.07476), proposition 1.
    """
    import numpy as np

    values = np.asarray(orders, float)
    if values.ndim != 1 or not (np.isfinite(values) & (values > 1)).all():
        raise ConfigurationError(
            f"Expected orders={orders!r} to be finite numbers > 1. Renyi divergences compose at "
            "such orders. Leave out the others."
        )
    total = np.zeros_like(values)
    for mechanism in mechanisms:
        total += _divergences(mechanism, values)
    return total


@lru_cache(maxsize=64)  # a curve asks for the same divergences again
def _total(mechanisms: tuple[Mechanism, ...]) -> "np.ndarray":
    found = renyi_divergences(mechanisms, ORDERS)
    found.flags.writeable = False
    return found


@singledispatch
def _divergences(mechanism: Mechanism, orders: "np.ndarray") -> "np.ndarray":  # noqa: ARG001  # the signature of those below
    import numpy as np

    return np.full_like(orders, math.inf)


@_divergences.register(Composed)
def _(mechanism: Composed, orders: "np.ndarray") -> "np.ndarray":
    return renyi_divergences(mechanism.parts, orders)


@_divergences.register(Gaussian)
@_divergences.register(FixedBatchGaussian)
def _gaussian(
    mechanism: Gaussian | FixedBatchGaussian | PoissonGaussian, orders: "np.ndarray"
) -> "np.ndarray":
    """Order / (2 sigma^2) per release; replace-one moves the sum twice as far."""
    releases: int = getattr(mechanism, "participations", mechanism.steps)
    distance = 2.0 if mechanism.adjacency is Adjacency.REPLACE_ONE else 1.0
    return orders * (releases * (distance / mechanism.noise_multiplier) ** 2 / 2)


@_divergences.register(DiscreteGaussian)
def _(mechanism: DiscreteGaussian, orders: "np.ndarray") -> "np.ndarray":
    """Canonne et al. 2020, proposition 5: as for the Gaussian, at integer distances."""
    return orders * mechanism.rho


@_divergences.register(PoissonGaussian)
def _(mechanism: PoissonGaussian, orders: "np.ndarray") -> "np.ndarray":
    import numpy as np

    if mechanism.sample_rate == 1.0:
        return _gaussian(mechanism, orders)
    if mechanism.adjacency is Adjacency.REPLACE_ONE:
        return np.full_like(orders, math.inf)
    return _by_dp_accounting(mechanism, orders)


@_divergences.register(Laplace)
def _by_dp_accounting(mechanism: PoissonGaussian | Laplace, orders: "np.ndarray") -> "np.ndarray":
    """Ask dp-accounting, drop orders that failed, and add what rounding may have taken.

    It reads a negative divergence as epsilon = 0; here such an order is left out, which is safe
    because every single order is a bound.
    """
    import numpy as np
    from dp_accounting.rdp import RdpAccountant

    with _quiet_about_excluded_orders():
        found = RdpAccountant(orders).compose(mechanism.event()).rdp
    raised = found + mechanism.steps * _ROUNDING_PER_STEP / (orders - 1)
    return np.where(np.isnan(found) | (found < 0), math.inf, raised)


@_divergences.register(DiscreteLaplace)
def _(mechanism: DiscreteLaplace, orders: "np.ndarray") -> "np.ndarray":
    return mechanism.steps * _pure(mechanism.decay * mechanism.sensitivity, orders)


@_divergences.register(Selection)
def _(mechanism: Selection, orders: "np.ndarray") -> "np.ndarray":
    return _pure(mechanism.epsilon, orders)


@_divergences.register(Opaque)
def _(mechanism: Opaque, orders: "np.ndarray") -> "np.ndarray":
    import numpy as np

    if mechanism.delta > 0:
        return np.full_like(orders, math.inf)
    return _pure(mechanism.epsilon, orders)


@_divergences.register(RepeatAndSelect)
def _(mechanism: RepeatAndSelect, orders: "np.ndarray") -> "np.ndarray":
    """The theorem looks for its best order, so more of them than were asked for are tried."""
    import numpy as np

    tried = np.union1d(orders, np.asarray(ORDERS, float))
    base = renyi_divergences([mechanism.base], tried)
    repeated = repeated_divergences(tried, base, mechanism.mean, mechanism.shape)
    return repeated[np.searchsorted(tried, orders)]


def _pure(epsilon: float, orders: "np.ndarray") -> "np.ndarray":
    """Divergences of randomised response, the worst epsilon-private mechanism.

    Never above epsilon, nor above order x epsilon^2 / 2, which rounding would exceed if it is tiny.
    """
    import numpy as np

    exact = np.logaddexp((orders - 1) * epsilon, -orders * epsilon) - math.log1p(math.exp(-epsilon))
    raised = (exact + _ROUNDING_PER_STEP) / (orders - 1)
    divergences: np.ndarray = np.minimum(raised, np.minimum(epsilon, orders * epsilon**2 / 2))
    return divergences


def _without_deltas(
    mechanisms: Iterable[Mechanism],
) -> tuple[float, tuple[Mechanism, ...]]:
    """Return the sum of the deltas of opaque releases, and the mechanisms without them.

    An (epsilon, delta)-private release is epsilon-private but for an event of probability delta.
    They are summed, not taken from 1, where one below 1e-16 would be lost.
    """
    pure: list[Mechanism] = []
    deltas = []
    for mechanism in _parts(mechanisms):
        if isinstance(mechanism, Opaque):
            deltas.append(mechanism.delta)
            pure.append(Opaque(mechanism.epsilon, 0.0, mechanism.adjacency))
        else:
            pure.append(mechanism)
    return math.fsum(deltas), tuple(pure)


def _parts(mechanisms: Iterable[Mechanism]) -> Iterator[Mechanism]:
    for mechanism in mechanisms:
        if isinstance(mechanism, Composed):
            yield from _parts(mechanism.parts)
        else:
            yield mechanism


def _refuse_without_bound(mechanisms: Iterable[Mechanism]) -> None:
    for mechanism in _parts(mechanisms):
        if isinstance(mechanism, Opaque) or _has_bound(mechanism):
            continue
        advice = (
            "Describe its base by mechanisms that have one."
            if isinstance(mechanism, RepeatAndSelect)
            else "Set accountant to pld."
        )
        raise ConfigurationError(
            f"Expected accountant=rdp with mechanisms of which it has a bound, not "
            f"{mechanism.kind} under adjacency={mechanism.adjacency.value}. What has no bound is "
            f"never guessed. {advice}"
        )


def _has_bound(mechanism: Mechanism) -> bool:
    match mechanism:
        case RepeatAndSelect():
            return all(_has_bound(part) for part in _parts([mechanism.base]))
        case PoissonGaussian():
            return mechanism.adjacency is not Adjacency.REPLACE_ONE or mechanism.sample_rate == 1.0
        case Opaque():
            return mechanism.delta == 0.0
        case Gaussian() | FixedBatchGaussian() | DiscreteGaussian():
            return True
        case Laplace() | DiscreteLaplace() | Selection():
            return True
        case _:
            return False


@contextmanager
def _quiet_about_excluded_orders() -> Iterator[None]:
    """Keep dp-accounting from warning about orders whose series did not converge: others did."""

    def keep(record: logging.LogRecord) -> bool:
        return "Excluding this order" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
