import pytest

from dpft.accounting import (
    Adjacency,
    Mechanism,
    PoissonGaussian,
    RunRecord,
    Unit,
    UserPoissonGaussian,
    unit_of,
)
from dpft.reporting.officer import _sample


@pytest.mark.parametrize(
    ("mechanism", "sampled"),
    [
        (PoissonGaussian(2.0, 0.1, 30), "records"),
        (PoissonGaussian(2.0, 0.1, 30, unit=Unit.USER), "users"),
        (UserPoissonGaussian(2.0, 0.1, 30, 4), "records"),
    ],
)
def test_what_is_sampled_is_named(mechanism: Mechanism, sampled: str) -> None:
    run = RunRecord(
        run_id="one",
        dataset_id="letters",
        mechanism=mechanism,
        adjacency=Adjacency.ADD_OR_REMOVE,
        unit=unit_of(mechanism),
        num_records=1000,
        expected_batch_size=100,
        clipping="auto_s",
        clip_norm=1.0,
        delta=1e-4,
        private=True,
        generator="chacha20",
        sampler="poisson",
        accountant="pld",
    )

    assert _sample(run).startswith(f"100 {sampled} expected of 1000;")
