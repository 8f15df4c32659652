"""What made a folder is told by what its certificate vouches for, never by what is missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.reporting.facts import collect
from dpft.reporting.kinds import Kind, kind_of
from dpft.reporting.reading import read, read_run
from dpft.reporting.run_report import write_run_report


@pytest.fixture
def python(tmp_path: Path, making: Callable[..., Path]) -> Path:
    return making(tmp_path / "python", kind="python")


def test_kinds_are_told_apart(
    run: Path, python: Path, tmp_path: Path, merging: Callable[..., Path]
) -> None:
    merged = merging(tmp_path / "merged", {"a": "1"}, run)
    assert [kind_of(folder) for folder in (run, python, merged)] == [
        Kind.RUN,
        Kind.PYTHON,
        Kind.MERGE,
    ]


@pytest.mark.parametrize("kind", ["train", "old"])
def test_a_run_that_lost_its_settings_is_not_one_made_in_python(
    tmp_path: Path, making: Callable[..., Path], kind: str
) -> None:
    folder = making(tmp_path / "run", kind=kind)
    (folder / "config.yaml").unlink()
    (folder / "metrics.json").unlink()
    assert kind_of(folder) is Kind.RUN
    with pytest.raises(ConfigurationError, match=r"to hold config\.yaml, metrics\.json"):
        read(folder)


def test_a_statement_that_no_certificate_vouches_for_makes_no_run_in_python(run: Path) -> None:
    (run / "config.yaml").unlink()
    (run / "metrics.json").unlink()
    path = run / "adapter" / "preflight.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings_sha256": None}))
    with pytest.raises(ConfigurationError, match=r"to hold config\.yaml"):
        read(run)


def test_files_added_to_a_run_made_in_python_are_refused(run: Path, python: Path) -> None:
    (python / "metrics.json").write_bytes((run / "metrics.json").read_bytes())
    with pytest.raises(ConfigurationError, match="to be absent"):
        read(python)
    (python / "metrics.json").unlink()
    (python / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    with pytest.raises(BrokenGuaranteeError, match="was added"):
        read(python)


@pytest.mark.parametrize("name", ["report.md", "environment.json", "certificate.json"])
def test_a_run_made_in_python_that_lacks_a_file_is_refused(python: Path, name: str) -> None:
    (python / name).unlink()
    with pytest.raises(ConfigurationError, match=name):
        read(python)


def test_the_report_of_a_run_made_in_python_says_what_is_absent(
    python: Path, tmp_path: Path
) -> None:
    facts = collect(read_run(python))
    _, markdown, written = write_run_report(facts, tmp_path / "report")
    text = markdown.read_text(encoding="utf-8")
    assert "Made in Python; no settings file." in text
    assert "None: made in Python" in text
    assert "records equal a loop" in text
    values: dict[str, Any] = json.loads(written.read_text())
    assert (values["kind"], values["settings"], values["metrics"]) == ("python", {}, [])
    assert values["epsilon"] == facts.sources.claim.epsilon


def test_a_folder_of_both_kinds_is_refused(
    run: Path, tmp_path: Path, merging: Callable[..., Path]
) -> None:
    merged = merging(tmp_path / "merged", {"a": "1"}, run)
    (merged / "metrics.json").write_bytes((run / "metrics.json").read_bytes())
    with pytest.raises(ConfigurationError, match=r"found expression\.json and metrics\.json"):
        read(merged)


def test_no_folder_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="to exist"):
        kind_of(tmp_path / "nowhere")
