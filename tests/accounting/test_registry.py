"""Accountants by name: registered once, imported on demand, refused if unknown."""

import subprocess
import sys

import pytest

from dpft.accounting import ConfigurationError, PoissonGaussian, accountant_names, epsilon, register
from dpft.accounting import registry as registry_module
from dpft.accounting.errors import AccountantError
from dpft.accounting.grid import Grid
from dpft.accounting.mechanisms import Mechanism


def ten(mechanisms: tuple[Mechanism, ...], delta: float, grid: Grid) -> float:
    return 10.0


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_REGISTERED", dict(registry_module._REGISTERED))
    monkeypatch.setattr(registry_module, "_ON_DEMAND", dict(registry_module._ON_DEMAND))


def test_a_registered_accountant_is_used_by_its_name() -> None:
    register("ten")(ten)
    assert "ten" in accountant_names()
    assert epsilon(PoissonGaussian(1.0, 0.1, 1), 1e-5, accountant="ten") == 10.0


def test_a_second_registration_of_a_name_is_refused() -> None:
    register("ten")(ten)
    with pytest.raises(ConfigurationError, match="registered once"):
        register("ten")(ten)


def test_a_module_that_does_not_register_its_accountant_is_refused() -> None:
    registry_module._ON_DEMAND["absent"] = "dpft.accounting.grid"
    with pytest.raises(AccountantError, match=r"dpft\.accounting\.grid to register"):
        registry_module.bound_named("absent")


def test_an_accountant_is_imported_when_first_asked_for() -> None:
    code = (
        "import sys; from dpft.accounting import registry; "
        "assert 'dpft.accounting.rdp' not in sys.modules; registry.bound_named('rdp'); "
        "assert 'dpft.accounting.rdp' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_accountant_whose_library_is_missing_is_refused() -> None:
    registry_module._ON_DEMAND["absent"] = "dpft.bridges.no_such_bridge"
    with pytest.raises(ConfigurationError, match="importable"):
        registry_module.bound_named("absent")


def test_the_names_of_the_enumeration_are_all_there() -> None:
    assert set(accountant_names()) >= {"pld", "prv", "rdp"}
