"""The public numbers that follow from others: steps from epochs, and the sample rate.

Nothing else derives them. Both are fixed before training and never follow the data after that.
"""

from dpft.accounting.errors import ConfigurationError
from dpft.accounting.rules import count_problems, require

__all__ = [
    "sample_rate_of",
    "steps_from_epochs",
]


def _require_batch_in_records(num_records: int, expected_batch_size: int) -> None:
    require(
        count_problems("num_records", num_records),
        count_problems("expected_batch_size", expected_batch_size),
    )
    if expected_batch_size > num_records:
        raise ConfigurationError(
            f"Expected expected_batch_size={expected_batch_size} <= num_records={num_records}. "
            "Their ratio is the probability with which a record is sampled. Lower "
            "expected_batch_size."
        )


def sample_rate_of(num_records: int, expected_batch_size: int) -> float:
    """Return the probability with which one record enters one step.

    Args:
        num_records: Public number of records N, >= 1.
        expected_batch_size: Public mean of the Poisson sample, in [1, N].

    Returns:
        Exactly expected_batch_size / num_records, in (0, 1].

    Raises:
        ConfigurationError: If a number is out of range.

    Privacy:
        Nothing, no data touched: both numbers are public.

    Example:
        >>> sample_rate_of(1000, 100)
        0.1
    """
    _require_batch_in_records(num_records, expected_batch_size)
    return expected_batch_size / num_records


def steps_from_epochs(epochs: int, num_records: int, expected_batch_size: int) -> int:
    """Return the number of steps of a run that is given in epochs.

    Args:
        epochs: Expected passes over the data, an integer >= 1.
        num_records: Public number of records N, >= 1.
        expected_batch_size: Public mean of the Poisson sample, in [1, N].

    Returns:
        epochs x ceil(N / expected_batch_size), in integers throughout.

    Raises:
        ConfigurationError: If a number is out of range; all such fields are named together.

    Privacy:
        Nothing, no data touched: all three numbers are public.

    Example:
        >>> steps_from_epochs(10, 67_349, 1024)
        660
    """
    require(count_problems("epochs", epochs))
    _require_batch_in_records(num_records, expected_batch_size)
    return epochs * -(-num_records // expected_batch_size)
