"""Tables in Markdown, results in JSON, and the machine they came from. No host names."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

__all__ = ["machine", "machine_line", "markdown", "markdown_row", "save"]

_PACKAGES = ("torch", "opacus", "peft", "transformers")


def machine(device: str) -> dict[str, Any]:
    """Return processor, threads and versions.

    Args:
        device: What the work was done on, "cpu" or "cuda".

    Privacy:
        Nothing, no data touched.
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "versions": {name: version(name) for name in _PACKAGES},
    }


def machine_line(facts: Mapping[str, Any]) -> str:
    """Return the facts of `machine` as a sentence.

    Args:
        facts: What `machine` returned.

    Privacy:
        Nothing, no data touched.
    """
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    where = "" if facts["device"] == "cpu" else f"{facts['device']}, "
    return (
        f"{where}{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads; "
        f"{versions}."
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown.

    Args:
        header: Names of the columns.
        rows: Cells, as many a row as there are columns.

    Privacy:
        Nothing, no data touched.
    """
    return "\n".join(map(markdown_row, [header, ["---"] * len(header), *rows]))


def markdown_row(cells: Sequence[str]) -> str:
    """Return one row of a table in Markdown.

    Args:
        cells: Its cells.

    Privacy:
        Nothing, no data touched.
    """
    return "| " + " | ".join(cells) + " |"


def save(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, if a path was given.

    Args:
        path: File to write; folders are made.
        result: What to write.

    Privacy:
        Nothing, no data touched.
    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    """Return the model name of the processor."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
