import dataclasses

import pytest

from dpft.accounting import Adjacency, Certificate, PoissonGaussian, RunRecord, epsilon
from dpft.recipes.cli.sweep_summary import sweep_summary
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


def certificate(run_id: str, **changes: object) -> Certificate:
    return Certificate((dataclasses.replace(RUN, run_id=run_id, **changes),))  # type: ignore[arg-type]


def test_a_sweep_costs_more_than_its_runs() -> None:
    other = PoissonGaussian(1.5, 0.1, 30)
    said = sweep_summary([certificate("a"), certificate("b", mechanism=other)])
    together = epsilon([PoissonGaussian(2.0, 0.1, 30), other], 1e-4)
    assert together > epsilon(other, 1e-4)
    assert "2 releases on letters together" in said
    assert f"epsilon {rounded_up(together)} at delta 0.0001, for this fixed set of runs" in said
    assert "dpft tune" in said


def test_the_smallest_delta_holds_for_all_runs() -> None:
    said = sweep_summary([certificate("a"), certificate("b", delta=1e-5)])
    two = PoissonGaussian(2.0, 0.1, 60)
    assert f"epsilon {rounded_up(epsilon(two, 1e-5))} at delta 1e-05" in said


def test_one_run_that_is_not_private_leaves_no_guarantee() -> None:
    open_ = certificate("b", mechanism=None, private=False)
    assert sweep_summary([certificate("a"), open_]).splitlines()[0].endswith("NOT PRIVATE")


def test_other_names_of_data_sets_may_hide_the_same_records() -> None:
    said = sweep_summary([certificate("a"), certificate("b", dataset_id="mail")])
    two = PoissonGaussian(2.0, 0.1, 60)
    assert f"on letters, mail together: epsilon {rounded_up(epsilon(two, 1e-4))} " in said


def test_runs_without_a_common_guarantee_are_not_added_up() -> None:
    replaced = PoissonGaussian(2.0, 0.1, 30, Adjacency.REPLACE_ONE)
    other = certificate("b", mechanism=replaced, adjacency=Adjacency.REPLACE_ONE, num_records=None)
    unknown = certificate("a", num_records=None)
    assert "no common guarantee. Expected" in sweep_summary([unknown, other])


@pytest.mark.parametrize("count", [1, 2])
def test_the_same_run_is_counted_once(count: int) -> None:
    said = sweep_summary([certificate("a")] * count)
    assert said.startswith("sweep      1 release on letters together: epsilon")
