"""A folder that is incomplete, edited or of another version gives no report."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.privacy import EvaluationStatus, Privacy
from dpft.reporting.reading import read_run

PRIVACY = Privacy(
    delta=1e-5,
    noise_multiplier=2.0,
    num_records=1000,
    expected_batch_size=100,
    steps=30,
    accountant="rdp",
    dataset_id="letters",
)
NOISY = dataclasses.replace(
    PRIVACY, evaluation=EvaluationStatus.NOISY, evaluation_epsilon=0.25, evaluation_records=800
)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def changed(path: Path, **values: Any) -> None:
    fields = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(fields | values), encoding="utf-8")


def flip_a_bit(run: Path) -> None:
    path = run / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


def take_steps_away(run: Path) -> None:
    for path in (run / "certificate.json", run / "adapter" / "certificate.json"):
        replaced(path, '"steps":30', '"steps":3')


EDITS: dict[str, Callable[[Path], None]] = {
    "tensors": flip_a_bit,
    "certificate": take_steps_away,
    "epsilon of the metrics": lambda run: changed(run / "metrics.json", epsilon=0.1),
    "delta of the metrics": lambda run: changed(run / "metrics.json", delta=1e-9),
    "batch of the metrics": lambda run: changed(run / "metrics.json", expected_batch_size=1),
    "guarantee": lambda run: replaced(run / "report.md", "**epsilon = ", "**epsilon = 0"),
    "sampler": lambda run: replaced(run / "report.md", "| Poisson |", "| Poisson, secret |"),
    "first line": lambda run: replaced(run / "report.md", "# Privacy", "**NOT PRIVATE**\n# P"),
    "learning rate": lambda run: replaced(run / "config.yaml", "0.005", "0.01"),
    "checks": lambda run: replaced(run / "adapter" / "preflight.json", "3e-07", "1e-09"),
    "settings": lambda run: replaced(run / "config.yaml", "dataset_id: letters", "dataset_id: x"),
    "versions": lambda run: changed(run / "environment.json", versions={"torch": "9"}),
}


def test_what_a_run_wrote_is_read(run: Path) -> None:
    sources = read_run(run)
    assert sources.claim.epsilon == sources.metrics["epsilon"]
    assert sources.base_model == "0f" * 32
    assert (
        sources.checks
        == sources.statement.checks
        == (("records equal a loop", "3e-07", "0.0001", "pass"),)
    )
    assert sources.statement.interruptions["Steps charged"] == "30"


@pytest.mark.parametrize("edit", EDITS)
def test_a_folder_that_was_edited_is_refused(run: Path, edit: str) -> None:
    replace_first_line = edit == "first line"
    EDITS[edit](run)
    if replace_first_line:
        path = run / "report.md"
        path.write_text(path.read_text(encoding="utf-8").lstrip(), encoding="utf-8")
    with pytest.raises(BrokenGuaranteeError, match=r"Expected (run=|the files of run=)"):
        read_run(run)


@pytest.mark.parametrize(
    "name", ["metrics.json", "config.yaml", "report.md", "certificate.json", "environment.json"]
)
def test_a_folder_that_is_incomplete_is_refused(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(ConfigurationError, match=name):
        read_run(run)


def test_a_certificate_of_version_one_is_refused(run: Path) -> None:
    for path in (run / "certificate.json", run / "adapter" / "certificate.json"):
        changed(path, format_version=1)
    with pytest.raises(BrokenGuaranteeError, match="Version 1 held no digest"):
        read_run(run)


@pytest.mark.parametrize("text", ["[]", "{", '{"metrics": {}}'])
def test_metrics_of_another_form_are_refused(run: Path, text: str) -> None:
    (run / "metrics.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"to state .*metric_status"):
        read_run(run)


@pytest.mark.parametrize("text", ["adapter: 1\nprivacy: {}\ntask: {}\n", "a: ]", "\x00"])
def test_settings_of_another_form_are_refused(
    tmp_path: Path, making: Callable[..., Path], text: str
) -> None:
    run = making(tmp_path / "run", kind="old")  # elsewhere a digest covers them
    (run / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"config\.yaml to"):
        read_run(run)


def test_settings_that_no_digest_covers_are_compared(
    tmp_path: Path, making: Callable[..., Path]
) -> None:
    run = making(tmp_path / "run", kind="old")
    assert read_run(run).preflight is None
    replaced(run / "config.yaml", "dataset_id: letters", "dataset_id: x")
    with pytest.raises(BrokenGuaranteeError, match=r"config\.yaml says dataset_id='x'"):
        read_run(run)


def test_checks_in_the_report_that_no_digest_covers_are_compared(run: Path) -> None:
    replaced(run / "report.md", "| 3e-07 |", "| 1e-09 |")
    with pytest.raises(BrokenGuaranteeError, match="name different checks"):
        read_run(run)


def test_a_report_without_its_parts_is_refused(run: Path) -> None:
    replaced(run / "report.md", "## Checks before", "## Checks after")
    with pytest.raises(ConfigurationError, match=r"report\.md to hold Checks before"):
        read_run(run)


@pytest.mark.parametrize("status", [{}, {"accuracy": {"status": "none"}}])
def test_a_metric_that_is_neither_public_nor_noisy_is_refused(
    run: Path, status: dict[str, Any]
) -> None:
    changed(run / "metrics.json", metric_status=status)
    with pytest.raises(BrokenGuaranteeError, match="metric accuracy is"):
        read_run(run)


def test_a_noisy_metric_is_refused_unless_it_was_charged(
    tmp_path: Path, run: Path, making: Callable[..., Path]
) -> None:
    assert read_run(making(tmp_path / "charged", NOISY)).metrics["metrics"]
    noisy = {"accuracy": {"status": "noisy", "epsilon": 0.25, "delta": 0.0}}
    changed(run / "metrics.json", metric_status=noisy)
    with pytest.raises(BrokenGuaranteeError, match="the certificate charges none"):
        read_run(run)
