"""The tree of errors and its exit codes."""

import pickle

import pytest

from dpft.accounting import (
    AccountantError,
    BudgetError,
    ConfigurationError,
    DpftError,
    LedgerError,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (DpftError, 1),
        (ConfigurationError, 2),
        (AccountantError, 2),
        (BudgetError, 3),
        (LedgerError, 4),
    ],
)
def test_every_error_is_ours_and_has_its_exit_code(kind: type[DpftError], code: int) -> None:
    assert issubclass(kind, DpftError)
    assert kind.exit_code == code


def test_a_configuration_error_is_a_value_error() -> None:
    assert issubclass(ConfigurationError, ValueError)


def test_a_configuration_error_shows_all_messages() -> None:
    error = ConfigurationError(["first", "second"])
    assert error.messages == ("first", "second")
    assert str(error) == "first\nsecond"


def test_one_message_is_not_taken_for_many() -> None:
    assert ConfigurationError("first").messages == ("first",)


def test_a_configuration_error_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(ConfigurationError(["first", "second"])))  # noqa: S301
    assert copy.messages == ("first", "second")
