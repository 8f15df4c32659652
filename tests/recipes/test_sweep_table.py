import dataclasses

from dpft.accounting import Adjacency, Certificate, PoissonGaussian, RunRecord, epsilon
from dpft.recipes.cli.sweep_table import SweptRun, sweep_table
from dpft.rendering import rounded_up

RUN = RunRecord(
    run_id="a",
    dataset_id="letters",
    mechanism=PoissonGaussian(2.0, 0.1, 30),
    adjacency=Adjacency.ADD_OR_REMOVE,
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
OTHER = PoissonGaussian(1.5, 0.1, 30)


def swept(run_id: str, *overrides: str, **changes: object) -> SweptRun:
    certificate = Certificate((dataclasses.replace(RUN, run_id=run_id, **changes),))  # type: ignore[arg-type]
    return SweptRun(overrides, certificate, {"accuracy": 0.5} if run_id == "a" else {})


def test_the_table_of_a_sweep_ends_in_the_sum() -> None:
    runs = [
        swept("a", "task=x", "adapter.r=1"),
        swept("b", "task=x", "adapter.r=2", mechanism=OTHER),
    ]
    heading, first, second, total, _ = sweep_table(runs).splitlines()
    assert heading.split() == ["run", "settings", "epsilon", "accuracy"]
    alone = [epsilon(mechanism, 1e-4) for mechanism in (RUN.mechanism, OTHER) if mechanism]
    assert first.split() == ["0", "adapter.r=1", rounded_up(alone[0]), "0.5000"]
    assert second.split() == ["1", "adapter.r=2", rounded_up(alone[1])]
    together = epsilon([PoissonGaussian(2.0, 0.1, 30), OTHER], 1e-4)
    assert f"2 releases on letters together: epsilon {rounded_up(together)}" in total
    assert together > max(alone)


def test_a_single_run_shows_all_of_its_settings() -> None:
    _, row, total = sweep_table([swept("a", "adapter.r=1")]).splitlines()
    assert "adapter.r=1" in row
    assert total.startswith("sweep      1 release")


def test_a_run_that_is_not_private_says_so() -> None:
    _, row, *_ = sweep_table([swept("b", mechanism=None, private=False)]).splitlines()
    assert row.split()[-2:] == ["NOT", "PRIVATE"]
