"""The lock names every release of constraints.txt with a hash, and nothing that is not in it."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ENTRY = re.compile(r"([\w.-]+)==(\S+) \\\n    --hash=sha256:([0-9a-f]{64})\n")


@pytest.fixture(scope="module")
def script(repository: Path) -> ModuleType:
    """The script that writes the lock."""
    found = importlib.util.spec_from_file_location("lock", repository / ".ci" / "lock.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def report(*releases: tuple[str, str, str | None]) -> dict[str, Any]:
    """Return what pip reports of some releases."""
    environment = {"python_version": "3.11", "sys_platform": "linux", "platform_machine": "x86_64"}
    chosen = [
        {
            "metadata": {"name": name, "version": version},
            "download_info": {"archive_info": {"hashes": {"sha256": digest} if digest else {}}},
        }
        for name, version, digest in releases
    ]
    return {"environment": environment, "install": chosen}


def test_every_entry_has_a_hash_and_agrees_with_the_constraints(
    repository: Path, script: ModuleType
) -> None:
    text = (repository / "requirements.lock").read_text(encoding="utf-8")
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    entries = ENTRY.findall(body)
    assert "".join(f"{n}=={v} \\\n    --hash=sha256:{h}\n" for n, v, h in entries) == body
    locked = {script.normalised(name): f"{name}=={version}" for name, version, _ in entries}
    assert locked == script.pinned()
    assert len({digest for _, _, digest in entries}) == len(entries)


def test_every_constraint_is_one_exact_release(repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.!]+", line), line


def test_the_lock_is_made_of_what_pip_chose(script: ModuleType) -> None:
    text = script.lock_of({"six": "six==1.0"}, report(("Six", "1.0", "a" * 64)))
    assert text.endswith(f"six==1.0 \\\n    --hash=sha256:{'a' * 64}\n")
    assert text.startswith("# Made of constraints.txt")


@pytest.mark.parametrize(
    "chosen",
    [[("six", "1.1", "a" * 64)], [("six", "1.0", None)], [("sax", "1.0", "a" * 64)], []],
    ids=["another release", "no hash", "another name", "nothing"],
)
def test_a_lock_that_is_not_whole_is_never_written(script: ModuleType, chosen: Any) -> None:
    with pytest.raises(SystemExit, match="Expected"):
        script.lock_of({"six": "six==1.0"}, report(*chosen))
