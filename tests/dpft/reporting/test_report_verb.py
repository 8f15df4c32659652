"""`dpft report` on a run folder: files, exit codes, the ledger, and no torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.accounting import PoissonGaussian
from dpft.accounting.ledger import Budget, Ledger, Reservation
from dpft.accounting.run_record import LedgerReference
from dpft.recipes import cli

RESERVED = "a run in its ledger"
MECHANISM = PoissonGaussian(2.0, 0.1, 30)


def reported(*arguments: object) -> int:
    return cli.main(["report", *map(str, arguments)])


def test_the_report_is_written_beside_the_run(run: Path, capsys: Any) -> None:
    assert reported(run) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(run / "report" / f"report.{kind}") for kind in ("html", "md", "json")
    ]
    assert sorted(path.name for path in (run / "report" / "figures").iterdir()) == [
        "by_delta.svg",
        "by_step.svg",
        "trade_off.svg",
    ]
    assert reported(run) == 0  # a run with a report is still one


def test_errors_have_their_exit_codes(run: Path, tmp_path: Path, capsys: Any) -> None:
    assert reported(tmp_path / "nowhere") == 2
    assert reported(run, "--output", run) == 2
    assert reported(run, "--ledger", tmp_path / "nowhere") == 2
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    assert reported(run) == 4
    assert "Expected run=" in capsys.readouterr().err
    assert not (run / "report").exists()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as opened:
        opened.set_budget("letters", Budget(epsilon=20.0, delta=1e-5))
        opened.reserve(Reservation.of("an earlier run", "letters", MECHANISM))
        opened.reserve(Reservation.of(RESERVED, "letters", MECHANISM))
    return path


def test_the_ledger_is_stated_before_and_after(
    tmp_path: Path, ledger: Path, making: Callable[..., Path]
) -> None:
    with Ledger.open(ledger) as opened:
        head = opened.head
        opened.reserve(Reservation.of("a later run", "letters", MECHANISM))
    run = making(tmp_path / "run", ledger=LedgerReference(head.hash, head.seq))
    assert reported(run, "--ledger", ledger) == 0
    found = json.loads((run / "report" / "report.json").read_text())["ledger"]
    alone, both = _spent(tmp_path / "one.sqlite", 1), _spent(tmp_path / "two.sqlite", 2)
    assert (found["before"], found["after"]) == pytest.approx((alone, both))
    assert (found["dataset"], found["budget"]) == ("letters", 20.0)
    page = (run / "report" / "report.md").read_text()
    assert "| Spent before this run | epsilon = " in page
    assert "| Budget | epsilon = 20 at delta = 1e-05 |" in page


def _spent(path: Path, runs: int) -> float:
    from dpft.accounting.ledger import summarise

    with Ledger.open(path) as opened:
        for number in range(runs):
            opened.reserve(Reservation.of(f"run {number}", "letters", MECHANISM))
        spent = summarise(opened.state, "letters", 1e-5).planned_epsilon
    assert spent is not None
    return spent


def test_a_ledger_that_did_not_charge_the_run_is_refused(
    tmp_path: Path, ledger: Path, making: Callable[..., Path], capsys: Any
) -> None:
    other = making(tmp_path / "other", ledger=LedgerReference("0f" * 32, 3))
    assert reported(other, "--ledger", ledger) == 4
    none = making(tmp_path / "none")
    assert reported(none, "--ledger", ledger) == 4
    assert "to have charged the run" in capsys.readouterr().err


def test_nothing_heavy_is_imported(run: Path) -> None:
    code = (
        "import sys\n"
        "from dpft.recipes import cli\n"
        "assert cli.main(['report', sys.argv[1]]) == 0\n"
        "heavy = {'torch', 'transformers', 'peft', 'opacus', 'datasets'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
