"""Runs of the command line as cells of a table: each is run once, and resumed if interrupted."""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting import machine

__all__ = ["results_in", "run_or_resume"]

_KEPT = ("epsilon", "delta", "noise_multiplier", "expected_batch_size", "steps", "updates")


def results_in(path: Path) -> dict[str, Any]:
    """Return the committed results, or none yet, with the machine that makes them.

    Args:
        path: The JSON file; may be absent.

    Privacy:
        Nothing, no data touched.
    """
    if not path.exists():
        return {"machine": machine("cpu"), "cells": []}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def run_or_resume(overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run `dpft train`, or go on with a run that was interrupted, and return what it reached.

    Args:
        overrides: What the command line is given, without its folder.
        folder: The run folder.

    Returns:
        Its metrics, the public numbers of the run, and the processor time of this process's
        children; None instead of a time where an earlier process did a part.

    Raises:
        CalledProcessError: If the run fails.

    Privacy:
        As `dpft train`.
    """
    begun = (folder / "charges.jsonl").exists()
    where = f"run.resume={folder}" if begun else f"hydra.run.dir={folder}"
    before = _processor_seconds()
    if not (folder / "metrics.json").exists():
        command = [sys.executable, "-m", "dpft", "train", *overrides, where]
        subprocess.run(command, check=True)  # noqa: S603 - our own command line
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {
        **metrics["metrics"],
        **{name: metrics[name] for name in _KEPT},
        "cpu_seconds": None if begun else round(_processor_seconds() - before),
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
