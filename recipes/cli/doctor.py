"""`dpft doctor`: is everything there, and does the clipping engine pass its own checks?"""

import argparse
import dataclasses
import os
import platform
from collections.abc import Iterator, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dpft.errors import BrokenGuaranteeError, DpftError

if TYPE_CHECKING:
    from dpft.report import Check

__all__ = ["main"]

_IMPORTS = {  # distribution -> module
    "cryptography": "cryptography",
    "datasets": "datasets",
    "dp-accounting": "dp_accounting",
    "hydra-core": "hydra",
    "numpy": "numpy",
    "peft": "peft",
    "pydantic": "pydantic",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
}
_SELF_CHECK = (
    "privacy.epsilon=null",
    "privacy.noise_multiplier=1.0",
    "privacy.expected_batch_size=8",
    "privacy.steps=1",
)
_SELF_CHECK_RECORDS = 32


class _Finding(NamedTuple):
    """One line of the doctor's table; `sound` is None where nothing is asked for."""

    subject: str
    found: str
    sound: bool | None


def main(argv: Sequence[str]) -> int:
    """Print what was found, line by line.

    Args:
        argv: Nothing but `--help`.

    Returns:
        0 if all is sound, 4 otherwise.

    Privacy:
        Nothing, no data touched: the engine is checked on generated records.
    """
    argparse.ArgumentParser("dpft doctor", description=__doc__).parse_args(argv)
    from rich.console import Console

    console = Console(soft_wrap=True)
    findings = []
    for finding in _findings():
        mark = {True: "[green]ok[/]  ", False: "[red]FAIL[/]", None: "    "}[finding.sound]
        console.print(f"{mark} {finding.subject:<22} {finding.found}")
        findings.append(finding)
    broken = any(finding.sound is False for finding in findings)
    return BrokenGuaranteeError.exit_code if broken else 0


def _findings() -> Iterator[_Finding]:
    yield _Finding("python", f"{platform.python_version()} on {platform.machine()}", None)
    for distribution, module in _IMPORTS.items():
        yield _importable(distribution, module)
    yield from _devices()
    yield _assets()
    yield from _engine()


def _importable(distribution: str, module: str) -> _Finding:
    try:
        import_module(module)
        return _Finding(distribution, metadata.version(distribution), sound=True)
    except (ImportError, metadata.PackageNotFoundError) as error:
        return _Finding(distribution, str(error), sound=False)


def _devices() -> Iterator[_Finding]:
    import torch

    yield _Finding("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads", None)
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    yield _Finding("cuda", cuda, None)


def _assets() -> _Finding:
    named = os.environ.get("DPFT_ASSETS")
    if not named:
        return _Finding("DPFT_ASSETS", "unset: only the embedded task and own files offline", None)
    there = [
        part for part in ("data/glue/sst2", "models/minilm-l6") if (Path(named) / part).is_dir()
    ]
    return _Finding("DPFT_ASSETS", f"{', '.join(there) or 'nothing'} in {named}", sound=bool(there))


def _engine() -> Iterator[_Finding]:
    """Fit one step on generated records; the preflight inside does the checking."""
    try:
        checks = _preflight_checks()
    except DpftError as error:
        yield _Finding("clipping engine", str(error), sound=False)
        return
    for check in checks:
        found = f"{check.value:.2g} <= {check.tolerance:.2g}"
        yield _Finding("clipping engine", f"{check.name}: {found}", sound=check.passed)


def _preflight_checks() -> Sequence["Check"]:
    from dpft.recipes.config.composition import compose_settings
    from dpft.recipes.preparation import prepare
    from dpft.recipes.training import fit_only

    prepared = prepare(compose_settings(_SELF_CHECK))
    few = dataclasses.replace(prepared, rows=prepared.rows[:_SELF_CHECK_RECORDS])
    preflight = fit_only(few).preflight
    return preflight.checks if preflight is not None else ()
