"""Steps and sample rate follow from public integers, exactly."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpft.accounting import ConfigurationError, sample_rate_of, steps_from_epochs


@pytest.mark.parametrize(
    ("epochs", "records", "batch", "steps"),
    [(10, 67_349, 1024, 660), (20, 392_702, 2000, 3940), (3, 1000, 100, 30), (1, 7, 7, 1)],
)
def test_steps_are_epochs_times_the_batches_rounded_up(
    epochs: int, records: int, batch: int, steps: int
) -> None:
    assert steps_from_epochs(epochs, records, batch) == steps


@given(st.integers(1, 100), st.integers(1, 10**9), st.data())
def test_steps_are_exact_for_every_size(epochs: int, records: int, data: st.DataObject) -> None:
    batch = data.draw(st.integers(1, records))
    per_epoch = steps_from_epochs(epochs, records, batch) // epochs
    assert per_epoch * epochs == steps_from_epochs(epochs, records, batch)
    assert Fraction(records, batch) <= per_epoch < Fraction(records, batch) + 1


def test_the_sample_rate_is_the_quotient_itself() -> None:
    assert sample_rate_of(67_349, 1024) == 1024 / 67_349


@pytest.mark.parametrize(
    ("epochs", "records", "batch"),
    [(0, 10, 1), (1.5, 10, 1), (1, 0, 1), (1, 10, 0), (1, 10, 11), (True, 10, 1), (1, 10.0, 1)],
)
def test_numbers_out_of_range_are_refused(epochs: int, records: int, batch: int) -> None:
    with pytest.raises(ConfigurationError):
        steps_from_epochs(epochs, records, batch)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected_batch_size=11 <= num_records=10"):
        sample_rate_of(10, 11)
