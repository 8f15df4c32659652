"""What a run states of the time before its first step is tied to its certificate by a digest."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dpft import artefacts
from dpft.accounting import Adjacency, Certificate, PoissonGaussian, RunRecord
from dpft.accounting.publication import Publication
from dpft.errors import ConfigurationError
from dpft.preflight_statement import PREFLIGHT, PreflightStatement, StatedCheck, digest_of_settings
from dpft.verification import verify

CHECK = StatedCheck("records equal a loop", 3e-7, 1e-4, passed=True)
FILE = "adapter_model.safetensors"


@pytest.mark.parametrize("checks", [(CHECK, CHECK), (), None])
@pytest.mark.parametrize("settings", ["0f" * 32, None])
def test_json_and_back_is_the_same_statement(checks: Any, settings: str | None) -> None:
    stated = PreflightStatement(checks, settings)
    again = PreflightStatement.from_json(stated.to_json())
    assert again == stated
    assert again.digest == stated.digest


def test_any_change_of_a_check_changes_the_digest() -> None:
    one = PreflightStatement((CHECK,), None)
    other = PreflightStatement((StatedCheck(CHECK.name, 4e-7, 1e-4, passed=True),), None)
    assert one.digest != other.digest
    assert one.digest != PreflightStatement((CHECK,), "0f" * 32).digest


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"settings_sha256": "0f"},
        {"checks": {}},
        {"checks": [{"name": "x"}]},
        {"checks": [{**vars(CHECK), "value": "small"}]},
        {"checks": [{**vars(CHECK), "passed": 1}]},
        {"more": 1},
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused(change: dict[str, Any]) -> None:
    fields = json.loads(PreflightStatement((CHECK,), None).to_json())
    with pytest.raises(ConfigurationError):
        PreflightStatement.from_json(json.dumps(fields | change))


def published(run: Path, settings: str | None = "model: tiny\n", *, preflight: bool = True) -> Path:
    """Write what a run folder holds of its artefact."""
    adapter = run / "adapter"
    adapter.mkdir(parents=True)
    save_file({"a": torch.ones(4)}, adapter / FILE, metadata={"format": "pt"})
    if settings is not None:
        (run / "config.yaml").write_text(settings, encoding="utf-8")
    found = PreflightStatement((CHECK,), digest_of_settings(run / "config.yaml"))
    text = artefacts._certify(adapter, certificate(), 1e-4, found if preflight else None)
    (run / "certificate.json").write_text(text, encoding="utf-8")
    return run


def certificate() -> Certificate:
    run = RunRecord(
        run_id="one",
        dataset_id="letters",
        mechanism=PoissonGaussian(2.0, 0.1, 30),
        adjacency=Adjacency.ADD_OR_REMOVE,
        num_records=1000,
        expected_batch_size=100,
        clipping="auto_s",
        clip_norm=1.0,
        delta=1e-4,
        private=True,
        generator="chacha20",
        sampler="poisson",
        accountant="rdp",
    )
    return Certificate((run,))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A published run whose certificate names its preflight."""
    return published(tmp_path / "run")


def failed(folder: Path) -> set[str]:
    return {each.check for each in verify(folder) if not each.passed}


def test_a_published_run_verifies_with_its_preflight(run: Path) -> None:
    assert failed(run) == failed(run / "adapter") == set()
    checks = {each.check for each in verify(run)}
    assert {"checks before the first step", "settings"} <= checks
    assert "settings" not in {each.check for each in verify(run / "adapter")}  # it has none


def test_an_edited_preflight_is_found(run: Path) -> None:
    path = run / "adapter" / PREFLIGHT
    path.write_text(path.read_text().replace("3e-07", "1e-09"))
    assert failed(run) == failed(run / "adapter") == {"checks before the first step"}
    path.unlink()
    assert failed(run) == {"checks before the first step"}


def test_edited_settings_are_found(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text + "# nothing\n")
    assert failed(run) == {"settings"}
    (run / "config.yaml").unlink()
    assert failed(run) == {"settings"}


def test_settings_that_were_added_are_found(tmp_path: Path) -> None:
    folder = published(tmp_path / "run", settings=None)
    assert failed(folder) == set()
    (folder / "config.yaml").write_text("a: 1\n")
    assert failed(folder) == {"settings"}


def test_checks_that_no_digest_covers_are_found(tmp_path: Path) -> None:
    folder = published(tmp_path / "run", preflight=False)
    assert failed(folder) == set()
    (folder / "adapter" / PREFLIGHT).write_text(PreflightStatement((CHECK,), None).to_json())
    assert failed(folder) == {"checks before the first step"}


@pytest.mark.parametrize("digest", [None, "0f", 1])
def test_a_certificate_names_a_digest_or_none(run: Path, digest: Any) -> None:
    fields = json.loads((run / "certificate.json").read_text())
    assert Publication.from_json(json.dumps(fields)).preflight
    fields["artefact"]["preflight_sha256"] = digest
    with pytest.raises(ConfigurationError, match="preflight_sha256"):
        Publication.from_json(json.dumps(fields))
