import dataclasses
from pathlib import Path

import pytest
import torch

from dpft.accounting import Unit
from dpft.accounting.ledger import Budget, Ledger
from dpft.auditing import AuditTarget
from dpft.auditing.shadow import Audited, EpsilonAudit, audit_epsilon
from dpft.errors import BudgetError, ConfigurationError
from dpft.randomness import Stream
from dpft.sampling import PoissonSampler

_NORMALS = Stream.normals


@pytest.fixture
def short(target: AuditTarget) -> AuditTarget:
    changed = dataclasses.replace(
        target.plan.privacy, num_records=300, expected_batch_size=30, steps=40, delta=1e-5
    )
    return dataclasses.replace(target, plan=changed.plan(300))


def audited(target: AuditTarget, canaries: int = 300) -> EpsilonAudit:
    records = Audited([target.rows[index % 3] for index in range(150)])
    return audit_epsilon(target, records, canaries=canaries)


def test_the_engine_is_not_refuted(short: AuditTarget) -> None:
    before = [value.clone() for value in short.model.state_dict().values()]

    found = audited(short)

    for bounds in (found.trace, found.published):
        assert not bounds.refuted
        assert bounds.one_run <= bounds.ceiling
        assert bounds.delta == pytest.approx(1e-3 / 300)
    assert found.trace.claimed == pytest.approx(found.published.claimed)
    after = short.model.state_dict().values()
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("factor", [1e-3, 0.1])
def test_less_noise_than_claimed_is_refuted(
    factor: float, short: AuditTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stream, "normals", lambda self, count: factor * _NORMALS(self, count))

    found = audited(short)

    assert found.trace.refuted
    assert found.published.refuted
    assert found.trace.independent > found.trace.claimed


def with_ledger(target: AuditTarget, path: Path) -> AuditTarget:
    privacy = dataclasses.replace(target.plan.privacy, ledger=str(path), dataset_id="mine")
    return dataclasses.replace(target, plan=privacy.plan(300))


def test_the_records_owe_the_run(short: AuditTarget, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    audited(with_ledger(short, path), canaries=20)

    with Ledger.read(path) as ledger:
        (lease,) = ledger.state.leases.values()
    assert (lease.intended, lease.is_settled) == (40, True)


def test_over_budget_nothing_is_sampled(
    short: AuditTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.set_budget("mine", Budget(epsilon=0.01, delta=1e-4))
    monkeypatch.setattr(PoissonSampler, "draw", None)

    with pytest.raises(BudgetError, match="left: 100 %"):
        audited(with_ledger(short, path), canaries=20)


def test_users_are_audited_whole(short: AuditTarget) -> None:
    privacy = dataclasses.replace(short.plan.privacy, unit=Unit.USER)
    users = dataclasses.replace(short, plan=privacy.plan(300))
    rows = [users.rows[index % 3] for index in range(150)]
    owners = [f"user {index // 3}" for index in range(150)]

    found = audit_epsilon(users, Audited(rows, owners), canaries=200)

    assert not found.trace.refuted


def test_owners_are_needed_exactly_for_users(short: AuditTarget) -> None:
    with pytest.raises(ConfigurationError, match="Expected owners"):
        audit_epsilon(short, Audited(short.rows, ["a", "b", "c"]), canaries=10)
