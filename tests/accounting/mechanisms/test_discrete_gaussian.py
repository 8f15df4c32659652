"""Integer noise costs what the divergence of the discrete Gaussian costs, rounding included."""

import math

import numpy as np
import pytest
from dp_accounting import ZCDpEvent
from dp_accounting.rdp import RdpAccountant

from dpft.accounting import (
    Adjacency,
    ConfigurationError,
    DiscreteGaussian,
    Gaussian,
    PrivacyTarget,
    RepeatAndSelect,
    Unit,
    epsilon,
    first_steps,
    mechanism_from_json,
    unit_of,
)
from dpft.accounting.calibration import calibrate_noise_of
from dpft.accounting.composition import under
from dpft.accounting.rdp import ORDERS, renyi_divergences

SUPPORT = np.arange(-4000, 4001)


def exact_law(std: float, centre: int) -> np.ndarray:
    """Return the probabilities of a discrete Gaussian around an integer."""
    weights = np.exp(-((SUPPORT - centre) ** 2) / (2 * std**2))
    law: np.ndarray = weights / weights.sum()
    return law


def exact_divergence(std: float, shift: int, order: float) -> float:
    logs = -(SUPPORT**2) / (2 * std**2) * order + ((SUPPORT - shift) ** 2) / (2 * std**2) * (
        order - 1
    )
    top = logs.max()
    total = math.log(np.exp(logs - top).sum()) + top
    normaliser = math.log(np.exp(-(SUPPORT**2) / (2 * std**2)).sum())
    return float((total - normaliser) / (order - 1))


@pytest.mark.parametrize("std", [0.5, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("shift", [1, 2, 7])
def test_the_bound_holds_for_the_exact_divergence_of_the_discrete_gaussian(
    std: float, shift: int
) -> None:
    for order in (1.5, 2.0, 8.0, 32.0):
        bound = order * shift**2 / (2 * std**2)
        found = exact_divergence(std, shift, order)
        assert found <= bound * (1 + 1e-9)
        assert found > 0.5 * bound or std < 1  # and says something


def test_epsilon_is_never_below_the_exact_curve_in_one_dimension() -> None:
    std, steps_of_grid = 40, 40  # one step of the grid is a fortieth of the clip norm
    mechanism = DiscreteGaussian(1.0, 1, grid_std=std, dimension=1)
    for delta in (1e-3, 1e-6):
        claimed = epsilon(mechanism, delta, accountant="rdp")
        here, there = exact_law(std, 0), exact_law(std, steps_of_grid + 1)  # and one for rounding
        exact = float(np.maximum(here - math.exp(claimed) * there, 0).sum())
        assert exact <= delta
        assert claimed < 1.35 * epsilon(Gaussian(1.0), delta)  # yet not far above


def test_epsilon_agrees_with_zero_concentrated_privacy_of_dp_accounting() -> None:
    mechanism = DiscreteGaussian(5.0, 30, grid_std=2**10, dimension=10_000)
    rho = 30 * ((1 + 1.25 * 100 * 5 / 2**10) / 5) ** 2 / 2
    assert mechanism.rho == pytest.approx(rho, rel=1e-12)
    theirs = RdpAccountant(list(ORDERS)).compose(ZCDpEvent(rho)).get_epsilon(1e-5)
    assert epsilon(mechanism, 1e-5, accountant="rdp") == pytest.approx(theirs, rel=1e-9)
    assert mechanism.event() == ZCDpEvent(mechanism.rho)


def test_a_fine_grid_costs_hardly_more_than_the_gaussian() -> None:
    for noise in (0.5, 1.0, 20.0):
        fine = epsilon(DiscreteGaussian(noise, 10), 1e-5, accountant="rdp")
        smooth = epsilon(Gaussian(noise, 10), 1e-5, accountant="rdp")
        assert smooth < fine < 1.01 * smooth


def test_a_coarser_grid_and_more_entries_cost_more() -> None:
    costs = [
        epsilon(DiscreteGaussian(1.0, 3, grid, entries), 1e-5, accountant="rdp")
        for grid, entries in ((2**16, 100), (2**16, 10**6), (2**12, 10**6), (2**8, 10**6))
    ]
    assert costs == sorted(costs)
    assert costs[-1] > 3 * costs[0]


def test_replacing_moves_the_sum_twice_as_far_but_rounding_once() -> None:
    one = DiscreteGaussian(2.0, 1, 2**10, 400)
    other = under(one, Adjacency.REPLACE_ONE)
    rounding = one.rounded_sensitivity - 1
    assert other.rounded_sensitivity == pytest.approx(2 + rounding)  # type: ignore[attr-defined]


@pytest.mark.parametrize("accountant", ["pld", "prv"])
def test_accountants_without_a_bound_refuse_integer_noise(accountant: str) -> None:
    with pytest.raises(ConfigurationError, match="discrete_gaussian"):
        epsilon(DiscreteGaussian(1.0), 1e-5, accountant=accountant)


def test_json_portions_and_unit_are_those_of_the_mechanism() -> None:
    mechanism = DiscreteGaussian(1.5, 20, 2**20, 1000, unit=Unit.USER, adjacency=Adjacency.ZERO_OUT)
    assert mechanism_from_json(mechanism.to_json()) == mechanism
    assert unit_of(mechanism) is Unit.USER
    part = first_steps(mechanism, 7)
    assert part is not None
    both = renyi_divergences([part, first_steps(mechanism, 13) or part], ORDERS)
    assert both == pytest.approx(renyi_divergences([mechanism], ORDERS), rel=1e-12)


def test_fields_out_of_range_are_named_together() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        DiscreteGaussian(0.0, 0, 0, 0, unit="house")  # type: ignore[arg-type]
    assert len(refusal.value.messages) == 5


@pytest.mark.parametrize("field", ["grid_std", "dimension"])
def test_sizes_that_no_float_holds_are_refused(field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{field}=.*2\\*\\*53"):
        DiscreteGaussian(1.0, **{field: 10**400})  # type: ignore[arg-type]


def test_a_selection_over_integer_noise_is_bounded() -> None:
    best = RepeatAndSelect(DiscreteGaussian(10.0, 5), 10, 1.0)
    alone = epsilon(DiscreteGaussian(10.0, 5), 1e-5, accountant="rdp")
    assert alone < epsilon(best, 1e-5, accountant="rdp") < 3 * alone


def test_integer_noise_is_calibrated_to_its_own_bound() -> None:
    target = PrivacyTarget(2.0, 1e-5, accountant="rdp")
    noise = calibrate_noise_of(target, lambda z: DiscreteGaussian(z, 50, 2**16, 10**6))
    spent = epsilon(DiscreteGaussian(noise, 50, 2**16, 10**6), 1e-5, accountant="rdp")
    less = epsilon(DiscreteGaussian(noise - 2e-4, 50, 2**16, 10**6), 1e-5, accountant="rdp")
    assert spent > 1.02 * epsilon(Gaussian(noise, 50), 1e-5, accountant="rdp")
    assert spent <= 2.0 < less
