"""Who took part? Records that mark themselves show the sampler, the divisor and the order.

Each record owns one coordinate of a small parameter and pushes it up by the clip norm, so that at a
vanishing noise the released sum is the list of those present. The sampler, the clipping and the
bookkeeping are those of the plan; the model is not needed for them.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from dpft.accounting.auditing import participation, share
from dpft.auditing.observing import Setting, observed
from dpft.auditing.target import AuditTarget
from dpft.auditing.verdict import AuditCheck, judged, within
from dpft.records import Row

__all__ = ["Marks", "attendance_checks", "mark_collate", "mark_loss", "mark_rows"]

_RECORDS, _STATED, _STEPS = 360, 400, 120
_NOISE = 1e-9
_FEWEST, _MOST = 8, 200  # expected present, of 400
_STRENGTH = 1e4  # of an unclipped mark, in clip norms, and beyond the constant of auto_s
_SLACK = 2e-3  # clipping to a little less than the bound, and auto_s


class Marks(nn.Module):
    """One coordinate for each record.

    Args:
        records: Their number.
    """

    def __init__(self, records: int) -> None:
        """Start at zero."""
        super().__init__()
        self.marks = nn.Embedding(records, 1)
        nn.init.zeros_(self.marks.weight)

    def forward(self, mark: torch.Tensor) -> torch.Tensor:
        """Return the coordinates of records [B], as [B]."""
        found: torch.Tensor = self.marks(mark.unsqueeze(1))
        return found.flatten()


def mark_loss(strength: float) -> Any:
    """Return a loss whose gradient is `strength` on the record's own coordinate."""

    def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = model(batch["mark"])
        return strength * found

    return loss


def mark_rows(records: int) -> list[Row]:
    """Return rows that hold nothing but the number of their coordinate."""
    return [{"mark": index} for index in range(records)]


def mark_collate(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Return the numbers of some rows, [B]."""
    return {"mark": torch.tensor([row["mark"] for row in rows])}


def attendance_checks(target: AuditTarget) -> Iterator[AuditCheck]:
    """Watch who takes part in a run at the plan's sample rate.

    Args:
        target: The configuration.

    Yields:
        Dispersion over records and over steps, the size of a contribution, and whether each step
        was booked before its sample was drawn.

    Privacy:
        Synthetic records (`tests/dpft/auditing/test_conformance.py`).
    """
    expected = int(min(_MOST, max(_FEWEST, round(target.plan.length.sample_rate * _STATED))))
    marked = dataclasses.replace(
        target,
        model=Marks(_RECORDS),
        loss=mark_loss(_STRENGTH * max(1.0, target.clip_norm)),
        rows=mark_rows(3),
        collate=mark_collate,
    )
    diary = _Diary()
    setting = Setting(
        privacy=marked.privacy(
            num_records=_STATED, expected=expected, steps=_STEPS, noise_multiplier=_NOISE
        ),
        charges=diary,
        begun=diary.begin,
        taken=diary.take,
    )
    steps = observed(marked, _Watched(mark_rows(_RECORDS), diary), setting)
    marks = np.stack([step.vector() for step in steps]) / target.clip_norm
    yield from _sampling(marks > 0.5, expected / _STATED)
    largest = float(np.abs(marks).max())
    yield within("participation: one contribution", largest, 1 + 1e-6, "at most the clip norm")
    least = float(np.abs(marks[marks > 0.5] - 1).max()) if (marks > 0.5).any() else np.inf
    name = "participation: sums are divided by the stated batch"
    yield within(name, least, _SLACK, "contributions of the clip norm, whoever is present")
    name = "charges: a step is booked before its sample is drawn"
    yield within(name, diary.unbooked, 0, "no record read before its step was booked")


def _sampling(present: np.ndarray, rate: float) -> Iterator[AuditCheck]:
    steps, records = present.shape
    yield judged(
        "participation: sample rate", share(int(present.sum()), present.size, rate), f"{rate:g}"
    )
    for name, axis, tries in (("over records", 0, steps), ("over steps", 1, records)):
        finding = participation(present.sum(axis=axis), tries, rate)
        yield judged(f"participation: dispersion {name}", finding, "1 times that of Poisson")
    pairs = present[:, 0::2] & present[:, 1::2]
    finding = share(int(pairs.sum()), pairs.size, rate * rate)
    yield judged("participation: neighbours at the same step", finding, f"{rate * rate:g}")


class _Diary:
    """Charges that remember whether a record was read for a step that nobody had booked."""

    def __init__(self) -> None:
        self.intended = 0
        self.unbooked = 0
        self._taken = 0

    def begin(self) -> None:
        """Forget what was read before the first step."""
        self.unbooked = 0

    def intend(self, step: int) -> None:
        """Book a step."""
        self.intended = step + 1

    def fail(self, step: int) -> None:
        """Nothing more to note."""

    def take(self) -> None:
        """Note that a step ended."""
        self._taken += 1

    def read(self) -> None:
        """Note that a record was read."""
        self.unbooked += int(self._taken >= self.intended)


class _Watched(Sequence[Row]):
    """Rows that tell a diary when they are read."""

    def __init__(self, rows: Sequence[Row], diary: _Diary) -> None:
        self._rows = rows
        self._diary = diary

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        self._diary.read()
        return self._rows[index]
