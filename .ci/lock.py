"""Writes requirements.lock: every release of constraints.txt with the hash that PyPI states of it.

`make lock` runs it. The hashes are those of the files that pip takes here, so the lock holds for
this platform and version of Python; on another one the same command makes another one. Torch is
left out: which build of it fits depends on the machine, and it may come from an index of its own.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INDEX = "https://pypi.org/simple"
LEFT_OUT = {"torch"}
HEADER = """\
# Made of constraints.txt by `make lock`, for CPython {python_version} on {sys_platform} {machine}.
# pip install --require-hashes --no-deps -r requirements.lock takes these very files, or none.
# Torch is not in it: install the build for your machine first.
"""


def pinned() -> dict[str, str]:
    """Return the releases of constraints.txt, as NAME==VERSION by normalised name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    named = {normalised(line.partition("==")[0]): line for line in found}
    return {name: line for name, line in named.items() if name not in LEFT_OUT}


def normalised(name: str) -> str:
    """Return a name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def report_of(requirements: list[str]) -> dict[str, Any]:
    """Return what pip would install from PyPI alone, whatever its configuration names."""
    kept = {"PIP_CERT", "PIP_PROXY", "PIP_DEFAULT_TIMEOUT"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_") or k in kept}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        flags = ["--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", str(report)]
        command = [sys.executable, "-m", "pip", "install", *flags, "--index-url", INDEX]
        subprocess.run(  # noqa: S603 - pip, with the releases of this repository
            [*command, *requirements],
            env={**environment, "PIP_CONFIG_FILE": os.devnull},
            check=True,
        )
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def lock_of(releases: dict[str, str], report: dict[str, Any]) -> str:
    """Return the text of the lock.

    Raises:
        SystemExit: If pip chose another release, or PyPI states no SHA-256 of one.
    """
    entries = {}
    for chosen in report["install"]:
        metadata = chosen["metadata"]
        name = normalised(metadata["name"])
        digest = chosen["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is None or releases.get(name, "").partition("==")[2] != metadata["version"]:
            sys.exit(f"Expected {name}=={metadata['version']} as in constraints.txt, with a hash.")
        entries[name] = f"{releases[name]} \\\n    --hash=sha256:{digest}\n"
    if missing := releases.keys() - entries.keys():
        sys.exit(f"Expected pip to find all releases, missing {sorted(missing)}.")
    header = HEADER.format(
        python_version=report["environment"]["python_version"],
        sys_platform=report["environment"]["sys_platform"],
        machine=report["environment"]["platform_machine"],
    )
    return header + "".join(entries[name] for name in sorted(entries))


if __name__ == "__main__":
    wanted = pinned()
    (ROOT / "requirements.lock").write_text(
        lock_of(wanted, report_of(list(wanted.values()))), encoding="utf-8"
    )
