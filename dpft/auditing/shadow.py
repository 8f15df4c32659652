"""A lower bound on epsilon from a whole run, with canaries on coordinates that shadow the model.

Each canary is a record of its own that pushes one coordinate of an extra parameter, through the
same sampling, clipping and noise as every other record. Nothing else depends on these coordinates,
so canaries are independent of each other and of the data.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import dpft
from dpft.accounting import RunRecord, Unit
from dpft.accounting.auditing import Game
from dpft.auditing.scores import Bounds, Final, Observed, bounds_of, bounds_of_final
from dpft.auditing.target import AuditTarget, untouched_afterwards
from dpft.booking import Booking
from dpft.errors import ConfigurationError
from dpft.loop import LoopParts
from dpft.optim import Optim, OptimizerName, Schedule
from dpft.privacy import EvaluationStatus, Privacy, PrivacyPlan
from dpft.private_step import StepSettings
from dpft.records import EncodingSettings, Row
from dpft.training import FitOptions

__all__ = ["Audited", "EpsilonAudit", "attacked", "audit_epsilon"]

_CANARY = "audit_canary"
_OWNER = "audit_owner"
_STRENGTH = 50.0  # of an unclipped canary, in clip norms, and beyond the constant of auto_s
_LEARNING_RATE = (
    2.0**-7
)  # a power of two: the sum is read off the delta without rounding of its own
_PLAIN = Optim(
    name=OptimizerName.SGD, learning_rate=_LEARNING_RATE, schedule=Schedule.CONSTANT
)  # whose delta is the sum of what was released


@dataclasses.dataclass(frozen=True)
class Audited:
    """What is trained on during the audit.

    Args:
        records: Encoded records; private ones make the audit a run that is charged.
        owners: Name of the owner of each record, exactly where the unit is a user.
        booking: Reservation in a ledger; unset: `privacy.ledger` or `$DPFT_LEDGER`, or none.

    Privacy:
        Raw records.
    """

    records: Sequence[Row]
    owners: Sequence[str] | None = None
    booking: Booking | None = None


@dataclasses.dataclass(frozen=True)
class EpsilonAudit:
    """What a run let an attacker prove.

    Args:
        trace: Bounds for an attacker who sees every iterate.
        published: Bounds for one who sees the delta alone that plain gradient descent leaves.
        canaries: Their number.
        run: The attacked run as a certificate would state it.

    Privacy:
        Of canaries and public numbers. The trained model is thrown away.
    """

    trace: Bounds
    published: Bounds
    canaries: int
    run: RunRecord

    @property
    def refuted(self) -> bool:
        """Whether a bound is above the claim."""
        return self.trace.refuted or self.published.refuted


def audit_epsilon(
    target: AuditTarget, audited: Audited, *, canaries: int = 1000, delta: float | None = None
) -> EpsilonAudit:
    """Run the plan once with canaries among the records, and bound epsilon from below.

    Args:
        target: The configuration; its model is put back as it was, what was trained is lost.
        audited: The records.
        canaries: Their number; about half of them, by coins, are added to the records.
        delta: Of the bounds; unset: that of the plan, or 1 / (1000 canaries) if that is smaller.

    Returns:
        Lower bounds with 95 % confidence, beside the epsilon that is claimed and the most that the
        method could show.

    Raises:
        ConfigurationError: If owners do not fit the unit.
        BudgetError: If the records' budget does not allow another run.
        BrokenGuaranteeError: If the engine refuses the model.

    Privacy:
        A run like any other: sampling, noise and charge are those of the plan, and the records owe
        its epsilon although the model is lost. Canaries are nobody's data
        (`tests/dpft/auditing/test_shadow.py`).

    References:
        Steinke et al. 2023 (2305.08846) for canaries in one run; Nasr et al. 2023 (2302.07956) for
        canaries in gradient space.
    """
    included = Game(canaries).coins()
    plan = target.plan
    privacy = attacked(plan)
    model = _Shadowed(target.model, canaries)
    rows = _rows(target, audited, included)
    options = _options(target, audited, canaries)
    with untouched_afterwards(target.model), _watched(model, privacy.expected_batch_size) as seen:
        fitted = dpft.fit(
            model,
            rows,
            loss=_Loss(target, canaries),
            privacy=privacy,
            optim=_PLAIN,
            options=options,
        )
    scale = privacy.expected_batch_size / target.clip_norm
    sums = np.stack(seen)[:, :canaries] / target.clip_norm
    trace = Observed(sums, included, plan.length.sample_rate, plan.noise_multiplier)
    final = Final(_delta(model, canaries) * -scale / _LEARNING_RATE, included, trace.claimed)
    at = min(plan.privacy.delta, 1e-3 / canaries) if delta is None else delta
    return EpsilonAudit(bounds_of(trace, at), bounds_of_final(final, at), canaries, fitted.run)


def _delta(model: "_Shadowed", canaries: int) -> np.ndarray:
    """Return how far the canaries' coordinates are from zero, where they started [canaries]."""
    moved: np.ndarray = model.shadow.weight.detach().flatten()[:canaries].double().cpu().numpy()
    return moved


def attacked(plan: PrivacyPlan) -> Privacy:
    """Return the guarantee of an audited run: the same sampling and noise, and no metric.

    Args:
        plan: The plan that is audited.

    Privacy:
        The number of records is stated, because canaries must not change it: rate and divisor stay
        those of the plan.
    """
    return dataclasses.replace(
        plan.privacy,
        epsilon=None,
        noise_multiplier=plan.noise_multiplier,
        num_records=plan.length.num_records,
        steps=plan.length.steps,
        epochs=None,
        evaluation=EvaluationStatus.NONE,
        evaluation_epsilon=None,
        evaluation_records=None,
        evaluation_split=None,
    )


class _Shadowed(nn.Module):
    """The model beside one coordinate for each canary, and one for everybody else."""

    def __init__(self, model: nn.Module, canaries: int) -> None:
        super().__init__()
        self.model = model
        self.shadow = nn.Embedding(canaries + 1, 1)
        nn.init.zeros_(self.shadow.weight)
        self.shadow.to(next(model.parameters()).device)
        self.config = getattr(model, "config", None)


@dataclasses.dataclass(frozen=True)
class _Loss:
    """The record's own loss, or that of a canary."""

    target: AuditTarget
    canaries: int

    def __call__(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        plain = {name: value for name, value in batch.items() if name != _CANARY}
        losses = self.target.loss(model.model, plain)  # type: ignore[arg-type]  # a module
        number = batch[_CANARY]
        marks = model.shadow(number.unsqueeze(1)).flatten()  # type: ignore[operator]  # a module
        strength = _STRENGTH * max(1.0, self.target.clip_norm)
        is_canary = number < self.canaries
        return torch.where(is_canary, strength * marks.to(losses), losses)


def _rows(target: AuditTarget, audited: Audited, included: np.ndarray) -> list[Row]:
    """Return the records and the canaries that are in."""
    nobody = len(included)
    rows = [{**row, _CANARY: nobody} for row in audited.records]
    numbers = [int(number) for number in np.flatnonzero(included)]
    marks = [{**target.rows[n % len(target.rows)], _CANARY: n} for n in numbers]
    if (audited.owners is None) != (target.plan.privacy.covers is Unit.RECORD):
        raise ConfigurationError(
            f"Expected owners of the records exactly with unit=user, got unit="
            f"{target.plan.privacy.covers.value}. A guarantee for users needs to know whose the "
            "records are. Give owners, or set unit=record."
        )
    if audited.owners is not None:
        rows = [{**row, _OWNER: who} for row, who in zip(rows, audited.owners, strict=True)]
        marks = [{**row, _OWNER: f"audit canary {row[_CANARY]}"} for row in marks]
    return [*rows, *marks]


def _options(target: AuditTarget, audited: Audited, canaries: int) -> FitOptions:
    def collate(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        plain = [{name: value for name, value in row.items() if name != _CANARY} for row in rows]
        numbers = torch.tensor([row[_CANARY] for row in rows])
        return {**target.collate(plain), _CANARY: numbers}

    synthetic = [
        {**row, _CANARY: index % 2 * canaries} for index, row in enumerate(target.rows, start=1)
    ]
    owner = None if audited.owners is None else _OWNER
    return FitOptions(
        encoding=EncodingSettings(user_field=owner),
        step=StepSettings(synthetic=synthetic),
        booking=audited.booking,
        parts=LoopParts(collate=collate),
    )


@contextmanager
def _watched(model: _Shadowed, divisor: float) -> Iterator[list[np.ndarray]]:
    """Keep what the optimiser is given for the shadow coordinates, times the public divisor."""
    seen: list[np.ndarray] = []

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if id(model.shadow.weight) not in held:
            return
        grad = model.shadow.weight.grad
        released = torch.zeros_like(model.shadow.weight) if grad is None else grad
        seen.append(released.detach().flatten().double().cpu().numpy() * divisor)

    handle = register_optimizer_step_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
