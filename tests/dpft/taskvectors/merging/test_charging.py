"""A merge that looks at private records is charged before it does, and certified."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dpft.accounting import Laplace, Mechanism
from dpft.accounting.ledger import Budget, Ledger, summarise
from dpft.accounting.ledger.quotation import charged
from dpft.errors import BrokenGuaranteeError, BudgetError, ConfigurationError
from dpft.taskvectors import (
    DataAccess,
    MergeOptions,
    Private,
    PrivateForm,
    TaskVector,
    merge,
    merge_method,
)
from dpft.taskvectors.merging import registry

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

RECORDS = [{"text": f"letter {number}"} for number in range(20)]
_SECRET = random.SystemRandom()


def counted(vectors: Sequence[TaskVector], options: MergeOptions, data: Any) -> TaskVector:
    """Weigh a vector by a noisy count, to which a record adds 0 or 1."""
    raw_count = sum("1" in record["text"] for record in data.records)
    noise = math.copysign(_SECRET.expovariate(data.epsilon), _SECRET.random() - 0.5)
    return vectors[0] * ((raw_count + noise) / 20 * options.scaling_coef)


def of_a_count(vectors: Sequence[TaskVector], options: MergeOptions, data: Private) -> Mechanism:
    return Laplace(1 / data.epsilon)


def of_too_much(vectors: Sequence[TaskVector], options: MergeOptions, data: Private) -> Mechanism:
    return Laplace(0.5 / data.epsilon)


@pytest.fixture(autouse=True)
def looking() -> Iterator[list[Any]]:
    """Register methods that look at records, and return what they were given."""
    seen: list[Any] = []

    def rule(vectors: Sequence[TaskVector], options: MergeOptions, data: Any) -> TaskVector:
        seen.append(data)
        return counted(vectors, options, data)

    for name, mechanism in (("counted", of_a_count), ("greedy", of_too_much)):
        form = PrivateForm(mechanism, "a count", "random.SystemRandom")
        merge_method(name, DataAccess.STATISTICS, private_form=form)(rule)
    yield seen
    for name in ("counted", "greedy"):
        del registry._METHODS[name]


@pytest.fixture
def one(vector: Callable[..., TaskVector]) -> list[TaskVector]:
    return [vector("ffa_lora", 3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def letters(path: Path | None, epsilon: float = 0.5) -> Private:
    return Private(RECORDS, epsilon, "letters", ledger=None if path is None else str(path))


def test_a_private_method_is_charged_and_certified(one: list[TaskVector], path: Path) -> None:
    merged = merge(one, "counted", data=letters(path))
    before = {run.run_id for run in one[0].runs}
    (run,) = [run for run in merged.runs if run.run_id not in before]
    assert before < {each.run_id for each in merged.runs}
    assert (run.dataset_id, run.mechanism) == ("letters", Laplace(2.0))
    with Ledger.read(path) as ledger:
        assert charged(ledger.entries(), run)
        (shown,) = summarise(ledger.state, "letters").runs
        assert (shown.run_id, shown.settled) == (run.run_id, True)
        assert shown.mechanism == Laplace(2.0).to_json()
        (stored,) = ledger.stored_digests()
        assert len(stored.digests) == 8 * len(RECORDS)


def test_a_private_method_over_budget_sees_no_record(
    one: list[TaskVector], path: Path, looking: list[Any]
) -> None:
    with Ledger.open(path) as ledger:
        ledger.set_budget("letters", Budget(epsilon=2.0, delta=1e-5))
    merge(one, "counted", data=letters(path))
    assert len(looking) == 1
    with pytest.raises(BudgetError, match="data set letters"):
        merge(one, "counted", data=letters(path, 1.9))
    assert len(looking) == 1
    with Ledger.read(path) as ledger:
        assert len(ledger.state.leases) == 1


def test_a_method_that_fails_stays_charged(one: list[TaskVector], path: Path) -> None:
    with pytest.raises(TypeError):
        merge(one, "counted", data=Private([1], 0.5, "letters", ledger=str(path)))
    with Ledger.read(path) as ledger:
        (lease,) = ledger.state.leases.values()
    assert lease.charged("letters", adaptive=True) == [Laplace(2.0)]


def test_a_method_spends_no_more_than_the_data_allow(
    one: list[TaskVector], path: Path, looking: list[Any]
) -> None:
    with pytest.raises(BrokenGuaranteeError, match="what the data allow"):
        merge(one, "greedy", data=letters(path))
    assert not looking
    assert not path.exists()


def test_private_records_are_not_looked_at_without_a_ledger(
    one: list[TaskVector], path: Path, looking: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="to name a ledger"):
        merge(one, "counted", data=letters(None))
    assert not looking
    monkeypatch.setenv("DPFT_LEDGER", str(path))
    merge(one, "counted", data=letters(None))
    assert path.is_file()
