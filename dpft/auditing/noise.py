"""Is the noise there, of the claimed size, in every parameter, and never twice the same?"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from dpft.accounting.auditing import Finding, distribution, independence, spread
from dpft.auditing.observing import Released, Setting, observed
from dpft.auditing.target import AuditTarget
from dpft.auditing.verdict import AuditCheck, judged
from dpft.performance import Performance

__all__ = ["FRESH", "noise_checks"]

FRESH = (
    "noise: drawn afresh at every step and attachment",
    "noise: drawn afresh for every parameter",
)
"""Checks that need several trained entries: eight, and two parameters of sixteen."""

_STATED, _ROWS, _EXPECTED = 24, 20, 6  # fewer rows than stated: a divisor from len() shows
_FEWEST_STEPS, _MOST_STEPS = 8, 100
_FEWEST_VALUES = 8_000  # of noise, where the model is small
_ATTACHMENTS = 2
_SHORT = 16  # leading entries that are compared between parameters
_SEED = 0  # public; the keys of the engine must not follow from it
_MOST_VALUES = 200_000


def noise_checks(target: AuditTarget) -> Iterator[AuditCheck]:
    """Watch what is released while every record's gradient is zero: noise, and nothing else.

    Two attachments of a few steps each, with batches of up to two records, so that there are
    several in a step. All public generators are seeded equally before each of them.

    Args:
        target: The configuration.

    Yields:
        Variance in every parameter, shape, independence over steps and attachments and over
        parameters; of `FRESH` only what the trained entries suffice for.

    Privacy:
        Synthetic records (`tests/dpft/auditing/test_conformance.py`).
    """
    runs = [_quiet(target) for _ in range(_ATTACHMENTS)]
    steps = [step for run in runs for step in run]
    unit = target.plan.noise_std
    yield _variance(steps, unit)
    pooled = np.concatenate([step.vector() for step in steps]) / unit
    shape = distribution(pooled[:: max(1, pooled.size // _MOST_VALUES)])
    yield judged("noise: normal in shape", shape, "distance 0 from the normal law")
    rows = np.stack([step.vector() for step in steps])
    found = independence(rows), independence(_by_parameter(steps))
    for name, finding, what in zip(FRESH, found, ("steps", "parameters"), strict=True):
        if not math.isnan(finding.statistic) or finding.p_value < 1:
            yield judged(name, finding, f"no two {what} alike, cosine 0")


class _Muted:
    """A loss whose gradient is exactly zero once the preflight is over."""

    def __init__(self, target: AuditTarget) -> None:
        self._loss = target.loss
        self._factor = 1.0

    def __call__(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self._loss(model, batch) * self._factor

    def mute(self) -> None:
        self._factor = 0.0


def _quiet(target: AuditTarget) -> list[Released]:
    loss = _Muted(target)
    entries = sum(parameter.numel() for parameter in target.trained.values())
    enough = math.ceil(_FEWEST_VALUES / (_ATTACHMENTS * entries))
    steps = max(_FEWEST_STEPS, min(_MOST_STEPS, enough))
    setting = Setting(
        privacy=target.privacy(num_records=_STATED, expected=_EXPECTED, steps=steps),
        loss=loss,
        performance=Performance(max_physical_batch=2),
        begun=loss.mute,
    )
    rows = [target.rows[index % len(target.rows)] for index in range(_ROWS)]
    with _public_seeds():
        return observed(target, rows, setting)


@contextmanager
def _public_seeds() -> Iterator[None]:
    """Seed every generator that a careless engine would draw from, and put them back."""
    legacy, plain = np.random.get_state(), random.getstate()  # noqa: NPY002 - the one that is shared
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002 - as above
        random.seed(_SEED)
        try:
            yield
        finally:
            np.random.set_state(legacy)  # noqa: NPY002 - as above
            random.setstate(plain)


def _variance(steps: Sequence[Released], unit: float) -> AuditCheck:
    """Return the check of the parameter whose noise is least like the claim."""
    found: dict[str, Finding] = {
        name: spread(np.concatenate([step.entries[name] for step in steps]) / unit)
        for name in steps[0].entries
    }
    worst = min(found, key=lambda name: _surprise(found[name]))
    return judged(
        f"noise: variance in every parameter (worst: {worst})",
        found[worst],
        "1 times the claimed variance",
        tests=len(found),
    )


def _surprise(finding: Finding) -> float:
    return finding.p_value if finding.passes(0.0) else -1.0


def _by_parameter(steps: Sequence[Released]) -> np.ndarray:
    """Return the leading noise of every parameter that is long enough, over all steps."""
    names = [name for name, entries in steps[0].entries.items() if entries.size >= _SHORT]
    rows = [np.concatenate([step.entries[name][:_SHORT] for step in steps]) for name in names]
    return np.stack(rows) if rows else np.empty((0, 0))
