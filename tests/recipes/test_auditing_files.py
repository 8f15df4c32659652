"""The audit of a finished run lies beside its certificate, and of no other run."""

import json
import shutil
from pathlib import Path

import pytest

from dpft.audit_statement import AUDIT
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.recipes.auditing_files import refuse_other_ledger, subject_of_run, subject_of_settings
from dpft.recipes.cli import main
from dpft.run_folder import environment

SHORT = ["privacy.epochs=null", "privacy.steps=3", "privacy.expected_batch_size=8"]
SHORT += ["run.checkpoint_every=3", "privacy.evaluation=none"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder around a run, and its ledger."""
    here = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        assert main(["train", *SHORT, "hydra.run.dir=runs/task/first"]) == 0
    return here


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


RUN = Path("runs/task/first")


def test_both_audits_of_a_run_lie_beside_its_certificate(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "--run", str(RUN)]) == 0
    assert main(["audit", "--run", str(RUN), "--mode", "epsilon", "--canaries", "20"]) == 0

    stated = json.loads((RUN / AUDIT).read_text(encoding="utf-8"))
    assert len(stated["conformance"]["checks"]) >= 25
    assert stated["attack"]["canaries"] == 20
    assert main(["certificate", "verify", str(RUN)]) == 0
    assert main(["report", str(RUN)]) == 0
    text = (RUN / "report" / "report.md").read_text(encoding="utf-8")
    assert "This run and the attacked one together" in text
    assert main(["audit", "--run", str(RUN)]) == 2
    assert "no audit of this mode" in capsys.readouterr().err


def test_settings_have_the_digest_of_the_file_that_a_run_writes(here: Path) -> None:
    asked = subject_of_settings([*SHORT], None)

    assert asked.digest == subject_of_run(RUN).digest


def test_a_run_that_was_edited_is_not_audited(here: Path) -> None:
    path = RUN / "config.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "# more\n", encoding="utf-8")

    with pytest.raises(BrokenGuaranteeError, match="settings: config"):
        subject_of_run(RUN)


def test_a_run_of_other_software_is_not_audited(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = environment()
    found["versions"]["torch"] = "1.0"
    monkeypatch.setattr("dpft.recipes.auditing_files.environment", lambda: found)

    with pytest.raises(ConfigurationError, match=r"torch 1\.0 here"):
        subject_of_run(RUN)


def test_an_attack_is_charged_where_the_run_was(here: Path) -> None:
    subject = subject_of_run(RUN)
    refuse_other_ledger(subject, None)

    with pytest.raises(ConfigurationError, match="the one that charged the run"):
        refuse_other_ledger(subject, str(here / "other.sqlite"))
