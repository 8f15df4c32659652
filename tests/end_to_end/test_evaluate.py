"""`dpft evaluate` on finished, unfinished and private-evaluation runs."""

import json
import shutil
from pathlib import Path

import pytest

from dpft.recipes import cli

OVERRIDES = ["privacy.steps=2", "privacy.expected_batch_size=32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "private"
    assert cli.main(["train", *OVERRIDES, f"hydra.run.dir={folder}"]) == 0
    return folder


def test_evaluating_again_finds_the_same_accuracy_and_changes_no_file(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert cli.main(["evaluate", str(run)]) == 0
    accuracy = json.loads((run / "metrics.json").read_text())["metrics"]["accuracy"]
    assert f"{accuracy:.4f}" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_write_renews_the_metrics_and_keeps_the_rest(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "copy")
    path = folder / "metrics.json"
    original = json.loads(path.read_text())
    path.write_text(json.dumps(original | {"metrics": {"accuracy": -1}}))
    assert cli.main(["evaluate", str(folder), "--write"]) == 0
    assert json.loads(path.read_text()) == original


def test_an_unfinished_run_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run, tmp_path / "copy")
    (folder / "certificate.json").unlink()
    assert cli.main(["evaluate", str(folder)]) == 2
    assert "to hold certificate.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("saved", "says"),
    [("noisy\n  evaluation_epsilon: 1.0", "to be evaluated once"), ("none", "=public")],
)
def test_records_that_are_not_public_are_not_evaluated_again(
    run: Path, tmp_path: Path, saved: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run, tmp_path / "copy")
    text = (folder / "config.yaml").read_text().replace("  evaluation_epsilon: null\n", "")
    (folder / "config.yaml").write_text(text.replace("evaluation: null", f"evaluation: {saved}"))
    assert cli.main(["evaluate", str(folder)]) == 2
    assert says in capsys.readouterr().err
