import json
from pathlib import Path

import pytest

from dpft.accounting.ledger import Budget, Ledger
from dpft.auditing import AuditCheck, Verdict
from dpft.recipes.cli import main
from dpft.recipes.cli.audit import main as audit

SHORT = ["privacy.epochs=null", "privacy.steps=4", "privacy.expected_batch_size=8"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_embedded_configuration_conforms(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert audit([*SHORT, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert found["mode"] == "conformance"
    assert len(found["checks"]) >= 25
    assert list(tmp_path.iterdir()) == [], "nothing is charged and nothing is left"


def test_a_failed_check_ends_in_exit_code_4(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = AuditCheck("noise: [bold]variance[/]", 0.25, "1 times", passed=False, p_value=0.0)
    verdict = Verdict([check], ["dropout: no Dropout module in the model"])
    monkeypatch.setattr("dpft.recipes.auditing.conformance_of", lambda _: verdict)

    assert audit(SHORT) == 4

    shown = capsys.readouterr()
    assert "FAIL noise: [bold]variance[/]: 0.25, p 0 (1 times)" in shown.out
    assert "1 checks, 1 failed" in shown.out
    assert "no proof" in shown.err


def test_an_attacked_run_is_charged_and_leaves_no_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert audit(["--mode", "epsilon", "--canaries", "20", *SHORT]) == 0

    shown = capsys.readouterr().out
    assert "charged to its data set" in shown
    assert "trace      epsilon >= 0 (one run; it could show at most" in shown
    assert "not refuted" in shown
    ledgers = list(tmp_path.rglob("*.sqlite"))
    with Ledger.read(ledgers[0]) as ledger:
        (lease,) = ledger.state.leases.values()
    assert (lease.intended, lease.is_settled) == (4, True)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_attacked_run_over_budget_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "ledger.sqlite"
    with Ledger.open(place) as ledger:
        ledger.set_budget("embedded", Budget(epsilon=1e-3, delta=1e-5))

    code = main(["audit", "--mode", "epsilon", f"privacy.ledger={place}", *SHORT])

    assert code == 3
    assert "left: 100 %" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["privacy=not_private", "privacy.epsilon=null"], "mode=not_private"),
        (["privacy.epsilom=3"], "privacy.epsilon"),
    ],
)
def test_a_wrong_setting_is_named(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *SHORT, *words]) == 2
    assert part in capsys.readouterr().err


def test_one_canary_is_refused_before_anything_is_charged(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["audit", "--mode", "epsilon", "--canaries", "1", *SHORT]) == 2
    assert "canaries=1" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.sqlite"))
