"""Sensitivity, replayed: with hardly any noise, what does one record, or one more, change?

Records are made adversarial by factors on their losses: huge, negative, infinite, not a number.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from dpft.auditing.observing import Released, Setting, observed
from dpft.auditing.target import AuditTarget
from dpft.auditing.verdict import AuditCheck, within
from dpft.performance import Performance
from dpft.records import Row

__all__ = ["replay_checks"]

_NOISE = 1e-9  # as good as none, and the same code path
_TAIL = 12.0  # standard deviations within which that little noise stays
_FACTOR = "audit_factor"
_HUGE = 1e8
_MIXTURE = (1.0, _HUGE, -_HUGE, math.nan, 1e-3, 1.0)
_ATTACKS = {
    "an ordinary record": 1.0,
    "a huge gradient": _HUGE,
    "a huge gradient of the opposite sign": -_HUGE,
    "a gradient beyond the range of floats": 1e38,
    "an infinite loss": math.inf,
    "a loss that is not a number": math.nan,
}
_NOTHING = ("an infinite loss", "a loss that is not a number")
_ROUNDING = {torch.bfloat16: 2e-2, torch.float16: 4e-3}  # of what the optimiser is handed
_ROUNDING_OF_FLOAT32 = 1e-4
_SLACK = 1e-6
_CLIPPED, _MISSED = 0.998, 2.1e-3  # of the clip norm: a little less than it, and no more


def replay_checks(target: AuditTarget) -> Iterator[AuditCheck]:
    """Replay adversarial records at a vanishing noise.

    Args:
        target: The configuration; put into evaluation mode meanwhile, so that runs agree.

    Yields:
        The contribution of single records, of a duplicate and of a mixture; of another cut into
        physical batches; and of a step after the parameters moved.

    Privacy:
        Synthetic records (`tests/dpft/auditing/test_conformance.py`).

    References:
        Cebere et al. 2026 (2602.17454) replay neighbouring inputs under equal randomness.
    """
    target.model.eval()
    replay = _Replay(target)
    alone = [replay.released([(row, _MIXTURE[i])]) for i, row in enumerate(replay.mixture)]
    yield from _singles(replay)
    yield from _sums(replay, alone)
    yield _after_a_move(replay)


@dataclasses.dataclass(frozen=True)
class _Replay:
    """Runs of one step, or a few, in which every record takes part."""

    target: AuditTarget

    @property
    def mixture(self) -> list[Row]:
        """Rows of different lengths, one for each factor of the mixture."""
        rows = self.target.rows
        return [rows[index % len(rows)] for index in range(len(_MIXTURE))]

    @property
    def tolerance(self) -> float:
        """How far equal sums may differ, in units of the gradient."""
        kinds = {parameter.dtype for parameter in self.target.trained.values()}
        rounding = max(_ROUNDING.get(kind, _ROUNDING_OF_FLOAT32) for kind in kinds)
        return rounding * self.target.clip_norm * len(_MIXTURE) + self.residue

    @property
    def residue(self) -> float:
        """The most that the vanishing noise adds to a norm."""
        entries = sum(parameter.numel() for parameter in self.target.trained.values())
        return _NOISE * self.target.clip_norm * (math.sqrt(entries) + _TAIL)

    def released(
        self, records: Sequence[tuple[Row, float]], performance: Performance | None = None
    ) -> Released:
        """Return the sum over some records."""
        return self.steps(records, performance=performance)[0]

    def steps(
        self,
        records: Sequence[tuple[Row, float]],
        *,
        steps: int = 1,
        learning_rate: float = 0.0,
        performance: Performance | None = None,
    ) -> list[Released]:
        """Return the sums of several steps over the same records."""
        stated = len(_MIXTURE)  # however many there are: their number is private
        setting = Setting(
            privacy=self.target.privacy(
                num_records=stated, expected=stated, steps=steps, noise_multiplier=_NOISE
            ),
            loss=self._loss,
            collate=self._collate,
            synthetic=[_with(row, 1.0) for row in self.target.rows],
            performance=performance or Performance(),
            learning_rate=learning_rate,
        )
        rows = [_with(row, factor) for row, factor in records]
        return observed(self.target, rows, setting)

    def _loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        plain = {name: value for name, value in batch.items() if name != _FACTOR}
        losses = self.target.loss(model, plain)
        return losses * batch[_FACTOR].to(losses)

    def _collate(self, rows: Sequence[Row]) -> Mapping[str, torch.Tensor]:
        plain = [{name: row[name] for name in row if name != _FACTOR} for row in rows]
        factors = torch.tensor([row[_FACTOR] for row in rows], dtype=torch.float32)
        return {**self.target.collate(plain), _FACTOR: factors}


def _with(row: Row, factor: float) -> Row:
    return {**row, _FACTOR: factor}


def _singles(replay: _Replay) -> Iterator[AuditCheck]:
    bound = replay.target.clip_norm * (1 + _SLACK) + replay.residue
    row = replay.target.rows[0]
    for name, factor in _ATTACKS.items():
        norm = replay.released([(row, factor)]).norm
        if abs(factor) == _HUGE:
            missed = min(norm, abs(norm / replay.target.clip_norm - _CLIPPED))
            expected = "the clip norm, or nothing where 16 bits overflow"
            yield within(f"sensitivity: {name} is clipped to the bound", missed, _MISSED, expected)
        if name in _NOTHING:
            expected = "contributes exactly nothing"
            yield within(f"sensitivity: {name}", norm, replay.residue, expected)
        else:
            yield within(f"sensitivity: {name}", norm, bound, "at most the clip norm")


def _sums(replay: _Replay, alone: Sequence[Released]) -> Iterator[AuditCheck]:
    records = list(zip(replay.mixture, _MIXTURE, strict=True))
    apart = np.sum([each.vector() for each in alone], axis=0)
    together = replay.released(records)
    yield _alike(replay, "a batch is the sum of its records, each clipped alone", together, apart)
    fewer = replay.released(records[1:])
    without = np.sum([each.vector() for each in alone[1:]], axis=0)
    yield _alike(replay, "leaving one record out changes no other", fewer, without)
    twice = replay.released([records[0], records[0]])
    yield _alike(replay, "a duplicate counts twice", twice, 2 * alone[0].vector())
    for size in (1, 2):
        cut = replay.released(records, Performance(max_physical_batch=size))
        name = f"physical batches of {size} change nothing"
        yield _alike(replay, name, cut, together.vector())


def _after_a_move(replay: _Replay) -> AuditCheck:
    """Return the check that a second step differentiates at the parameters of the second step."""
    records = [(row, 1.0) for row in replay.target.rows[:2]]
    rate = len(_MIXTURE) / (10 * replay.target.clip_norm)
    values = [parameter.detach().clone() for parameter in replay.target.trained.values()]
    second = replay.steps(records, steps=2, learning_rate=rate)[1]
    _set(replay.target, values)
    replay.steps(records, steps=1, learning_rate=rate)
    fresh = replay.released(records)
    _set(replay.target, values)
    name = "a step differentiates at the present parameters"
    return _alike(replay, name, second, fresh.vector())


@torch.no_grad()
def _set(target: AuditTarget, values: Sequence[torch.Tensor]) -> None:
    for parameter, value in zip(target.trained.values(), values, strict=True):
        parameter.copy_(value)


def _alike(replay: _Replay, name: str, found: Released, expected: np.ndarray) -> AuditCheck:
    distance = float(np.linalg.norm(found.vector() - expected))
    return within(f"replay: {name}", distance, replay.tolerance, "the same, up to rounding")
