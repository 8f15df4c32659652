"""A run that is interrupted and resumed: does any step see the noise of another?"""

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

import dpft
from dpft.accounting.auditing import independence
from dpft.auditing.attendance import Marks
from dpft.auditing.target import AuditTarget
from dpft.auditing.verdict import AuditCheck, judged
from dpft.ledger_place import throwaway_ledger
from dpft.private_step import StepSettings
from dpft.progress import Progress
from dpft.training import FitOptions

__all__ = ["interruption_check"]

_COORDINATES, _STATED, _STEPS = 2048, 10**6, 9
_STOPS = (3, 6)  # after so many steps; the run never ends and leaves no artefact
_ROWS = [{"input_ids": [index] * (1 + index)} for index in range(4)]
_SETTINGS = StepSettings(synthetic=_ROWS)


class _StoppedError(Exception):
    """The audit's own interruption."""


def interruption_check(target: AuditTarget) -> AuditCheck:
    """Stop a run twice, resume it each time, and compare the noise of all steps.

    A small parameter stands in for the model, in a folder that is deleted; what is looked at is how
    keys are drawn after charges and checkpoints are read back.

    Args:
        target: The configuration.

    Returns:
        The check.

    Privacy:
        Synthetic records that are never sampled: what is released is noise alone, and no ledger of
        anybody's hears of it (`test_a_named_ledger_hears_of_no_audit`).
    """
    privacy = dataclasses.replace(
        target.privacy(num_records=_STATED, expected=1, steps=_STEPS),
        unit=None,  # nobody is sampled, whoever would be
        records_per_user=None,
    )
    with tempfile.TemporaryDirectory() as folder, throwaway_ledger() as ledger, _watched() as seen:
        place = Path(folder, "runs", "run")
        privacy = dataclasses.replace(privacy, ledger=ledger)
        for part, stop in enumerate(_STOPS):
            options = FitOptions(resume=part > 0, checkpoint_every=1, step=_SETTINGS)
            _run_until(stop, Marks(_COORDINATES), privacy, place, options)
    rows = np.stack(seen) if seen else np.zeros((2, _COORDINATES))
    expected = "no two steps alike, cosine 0"
    return judged("noise: drawn afresh after a resumption", independence(rows), expected)


def _loss(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = model(batch["input_ids"][:, 0])
    return found


def _run_until(
    stop: int, model: torch.nn.Module, privacy: dpft.Privacy, place: Path, options: FitOptions
) -> None:
    def on_step(progress: Progress) -> None:
        if progress.step >= stop:
            raise _StoppedError

    try:
        dpft.fit(
            model,
            _ROWS,
            loss=_loss,
            privacy=privacy,
            out=place,
            on_step=on_step,
            options=options,
        )
    except _StoppedError:
        return


@contextmanager
def _watched() -> Iterator[list[np.ndarray]]:
    """Keep what any optimiser is given meanwhile."""
    seen: list[np.ndarray] = []

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        seen.append(torch.cat([g.flatten() for g in grads if g is not None]).double().numpy())

    handle = register_optimizer_step_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
