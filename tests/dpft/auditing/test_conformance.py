import dataclasses
from functools import partial
from pathlib import Path

import pytest
import torch

import dpft
from dpft.auditing import AuditTarget, audit_conformance
from dpft.auditing.attendance import (
    Marks,
    attendance_checks,
    mark_collate,
    mark_loss,
    mark_rows,
)
from dpft.auditing.interruption import interruption_check
from dpft.auditing.scores import score_checks
from dpft.auditing.target import untouched_afterwards
from dpft.errors import ConfigurationError
from dpft.records import collate


def test_the_engine_passes_every_check(target: AuditTarget) -> None:
    before = {name: value.clone() for name, value in target.model.state_dict().items()}

    verdict = audit_conformance(target)

    assert verdict.passed, verdict.failed
    assert len(verdict.checks) >= 25
    assert not verdict.skipped
    after = target.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in target.model.parameters())
    assert target.model.training


def test_a_named_ledger_hears_of_no_audit(
    target: AuditTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.sqlite"
    monkeypatch.setenv("DPFT_LEDGER", str(mine))

    assert interruption_check(target).passed

    assert not mine.exists()


@pytest.mark.slow
def test_twenty_audits_of_the_engine_raise_no_alarm(target: AuditTarget) -> None:
    alarms = [audit_conformance(target).failed for _ in range(20)]

    assert not any(alarms), alarms


def test_without_dropout_the_check_is_skipped_and_said(target: AuditTarget) -> None:
    target.model.dropout.p = 0.0

    verdict = audit_conformance(target)

    assert verdict.passed, verdict.failed
    assert verdict.skipped == ["dropout: no Dropout module in the model"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"clipping": dpft.privacy.ClippingStyle.FLAT, "clip_norm": 0.1},
        {"clip_norm": 30.0},
        {"noise_multiplier": 0.3},
        {"expected_batch_size": 10_000},
        {"num_records": None},
        {"unit": dpft.accounting.Unit.USER},
        {"unit": dpft.accounting.Unit.USER, "records_per_user": 3},
    ],
)
def test_other_plans_pass_too(target: AuditTarget, change: dict[str, object]) -> None:
    plan = dataclasses.replace(target.plan.privacy, **change).plan(10_000)

    verdict = audit_conformance(dataclasses.replace(target, plan=plan))

    assert verdict.passed, verdict.failed


@pytest.mark.parametrize("clip_norm", [1e-5, 1e-3])
def test_a_tiny_clip_norm_with_auto_s_raises_no_alarm(
    clip_norm: float, target: AuditTarget
) -> None:
    change = {"clip_norm": clip_norm, "noise_multiplier": 0.3, "expected_batch_size": 5000}
    plan = dataclasses.replace(target.plan.privacy, **change).plan(10_000)
    tiny = dataclasses.replace(target, plan=plan)

    checks = [*attendance_checks(tiny), *score_checks(tiny)]

    assert all(check.passed for check in checks), checks


def test_gradients_that_somebody_left_are_put_back() -> None:
    model = torch.nn.Linear(2, 1)
    left = torch.ones_like(model.weight)
    model.weight.grad = left

    with untouched_afterwards(model):
        model.zero_grad(set_to_none=True)

    assert model.weight.grad is left
    assert model.bias.grad is None


def test_what_a_few_entries_cannot_tell_is_said(target: AuditTarget) -> None:
    few = dataclasses.replace(
        target, model=Marks(5), loss=mark_loss(1.0), rows=mark_rows(3), collate=mark_collate
    )

    verdict = audit_conformance(few)

    assert verdict.passed, verdict.failed
    assert [each.split(":")[1] for each in verdict.skipped] == [
        " drawn afresh at every step and attachment",
        " drawn afresh for every parameter",
        " no Dropout module in the model",
    ]


def test_weights_of_sixteen_bits_pass(target: AuditTarget) -> None:
    target.model.bfloat16()

    verdict = audit_conformance(target)

    assert verdict.passed, verdict.failed


def test_what_is_not_private_is_refused(target: AuditTarget) -> None:
    plain = dpft.Privacy(delta=1e-6, steps=1, mode=dpft.privacy.PrivacyMode.NOT_PRIVATE)

    with pytest.raises(ConfigurationError, match="mode=not_private"):
        dataclasses.replace(target, plan=plain.plan(10_000))


def test_one_row_shows_nothing(target: AuditTarget) -> None:
    with pytest.raises(ConfigurationError, match="at least 2 synthetic rows"):
        AuditTarget(
            target.model,
            target.loss,
            target.rows[:1],
            partial(collate, pad_token_id=0),
            target.plan,
        )
