"""Our accountant inside opacus' own engine, through its own interface."""

import math
import warnings

import pytest
import torch
from opacus import PrivacyEngine
from opacus.accountants import create_accountant
from opacus.accountants import registry as opacus_registry
from opacus.accountants.utils import get_noise_multiplier
from torch.utils.data import DataLoader, TensorDataset

from dpft.accounting import ConfigurationError, Grid, Laplace, PoissonGaussian, epsilon
from dpft.bridges.opacus import PldAccountant, prv_epsilon, register_accountant
from dpft.errors import BrokenGuaranteeError

COARSE = Grid(value_discretization_interval=1e-3)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(opacus_registry, "_ACCOUNTANTS", dict(opacus_registry._ACCOUNTANTS))
    return register_accountant()


def engine() -> PrivacyEngine:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # opacus advises its secure_mode
        return PrivacyEngine(accountant="pld")


def trained(privacy: PrivacyEngine, noise: float = 1.3) -> None:
    """Run one epoch of five steps at sample rate 1/5."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = DataLoader(TensorDataset(torch.ones(20, 2)), batch_size=4)
    model, optimizer, data = privacy.make_private(
        module=model,
        optimizer=optimizer,
        data_loader=data,
        noise_multiplier=noise,
        max_grad_norm=1.0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # opacus' hooks warn about torch's
        for (batch,) in data:
            optimizer.zero_grad()
            model(batch).square().sum().backward()
            optimizer.step()


def test_epsilon_of_opacus_engine_is_ours() -> None:
    privacy = engine()
    trained(privacy)
    assert len(privacy.accountant) == 5
    assert privacy.get_epsilon(1e-3) == epsilon(PoissonGaussian(1.3, 0.2, 5), 1e-3)


def test_the_state_of_the_accountant_survives_a_checkpoint() -> None:
    first, second = engine(), engine()
    trained(first)
    second.accountant.load_state_dict(first.accountant.state_dict())
    assert second.get_epsilon(1e-3) == first.get_epsilon(1e-3) > 0


def test_the_state_of_another_accountant_is_refused() -> None:
    with pytest.raises(ValueError, match="prv"):
        engine().accountant.load_state_dict(create_accountant("prv").state_dict())


def test_opacus_calibrates_with_it() -> None:
    noise = get_noise_multiplier(
        target_epsilon=3.0,
        target_delta=1e-4,
        sample_rate=0.1,
        steps=30,
        accountant="pld",
        grid=COARSE,
    )
    spent = epsilon(PoissonGaussian(noise, 0.1, 30), 1e-4, grid=COARSE)
    assert 2.98 < spent <= 3.0


def test_our_bound_is_below_that_of_opacus() -> None:
    accountants = [create_accountant(name) for name in ("pld", "prv", "rdp")]
    for accountant in accountants:
        for _ in range(40):
            accountant.step(noise_multiplier=0.9, sample_rate=0.05)
    ours, prv, rdp = (accountant.get_epsilon(1e-5) for accountant in accountants)
    assert prv - 0.03 < ours < prv < rdp


def test_steps_of_changing_noise_are_all_booked() -> None:
    accountant = PldAccountant()
    for noise in (1.0, 1.0, 2.0, 1.0):
        accountant.step(noise_multiplier=noise, sample_rate=0.1)
    assert accountant.history == [(1.0, 0.1, 2), (2.0, 0.1, 1), (1.0, 0.1, 1)]
    together = [PoissonGaussian(1.0, 0.1, 3), PoissonGaussian(2.0, 0.1, 1)]
    assert accountant.get_epsilon(1e-5, grid=COARSE) == epsilon(together, 1e-5, grid=COARSE)


def test_nothing_is_spent_before_the_first_step() -> None:
    assert PldAccountant().get_epsilon(1e-5) == 0


def test_a_step_without_noise_has_no_guarantee() -> None:
    privacy = engine()
    trained(privacy, noise=0.0)
    assert privacy.get_epsilon(1e-5) == math.inf


def test_accumulated_samples_are_refused() -> None:
    class Accumulating:
        accumulated_iterations = 4
        noise_multiplier = 1.0

    book = PldAccountant().get_optimizer_hook_fn(0.1)
    with pytest.raises(BrokenGuaranteeError, match="accumulated_iterations=4"):
        book(Accumulating())


def test_a_delta_out_of_range_is_refused() -> None:
    accountant = PldAccountant()
    accountant.step(noise_multiplier=1.0, sample_rate=0.1)
    with pytest.raises(ConfigurationError, match="delta="):
        accountant.get_epsilon(1.0)


def test_registering_twice_changes_nothing() -> None:
    assert register_accountant() == register_accountant() == "pld"


def test_a_name_that_another_accountant_has_is_refused() -> None:
    opacus_registry._ACCOUNTANTS["pld"] = opacus_registry._ACCOUNTANTS["rdp"]
    with pytest.raises(ConfigurationError, match="pld"):
        register_accountant()


def test_prv_refuses_what_opacus_does_not_know() -> None:
    with pytest.raises(ConfigurationError, match="laplace"):
        prv_epsilon((Laplace(1.0),), 1e-5, COARSE)
