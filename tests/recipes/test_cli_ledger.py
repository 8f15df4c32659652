"""`dpft ledger`: what it prints, changes and refuses."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dpft.accounting import PoissonGaussian
from dpft.accounting.ledger import DigestKey, Ledger, Reservation
from dpft.recipes import cli

MECHANISM = PoissonGaussian(20.0, 1.0, 10)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a ledger with one open run, named by the environment."""
    path = tmp_path / "ledger.sqlite"
    monkeypatch.setenv("DPFT_LEDGER", str(path))
    monkeypatch.chdir(tmp_path)
    records = DigestKey(b"k" * 32).digests([{"text": "x"}])
    with Ledger.open(path) as ledger:
        ledger.reserve(Reservation.of("a-run", "mail", MECHANISM, records))
        ledger.intend("a-run", ledger.attach("a-run"), upto=4)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["ledger", *arguments]) == 0
    return capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert cli.main(["ledger", *arguments]) == code
    return capsys.readouterr().err


def test_a_budget_is_set_changed_and_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "budget", "mail", "--epsilon", "8", "--delta", "1e-5")
    assert "epsilon 8 at delta 1e-05, adaptive plans" in said
    assert "before the first output" in fails(capsys, 2, "budget", "mail", "--plans", "fixed")
    run(capsys, "budget", "mail", "--epsilon", "4")
    (shown,) = json.loads(run(capsys, "show", "--json"))
    assert (shown["dataset"], shown["budget_epsilon"], shown["delta"]) == ("mail", 4.0, 1e-5)
    assert shown["plans"] == "adaptive"
    assert 0 < shown["planned_epsilon"] < shown["spent_epsilon"] < 4
    assert 0 < shown["spent_share"] < 1
    assert [entry.kind for entry in Ledger.read(path).entries()].count("budget") == 2
    said = run(capsys, "budget", "post", "--epsilon", "8", "--delta", "1e-5", "--plans", "fixed")
    assert "epsilon 8 at delta 1e-05, fixed plans" in said


def test_the_first_budget_needs_both_numbers(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Give both" in fails(capsys, 2, "budget", "mail", "--epsilon", "8")
    assert "epsilon=0" in fails(capsys, 2, "budget", "mail", "--epsilon", "0", "--delta", "1e-5")


def test_data_sets_and_runs_are_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "show")
    assert "mail" in said
    assert "none" in said
    said = run(capsys, "show", "mail", "--delta", "1e-4")
    assert "0.0001" in said
    for word in ("a-run", "open", "poisson"):
        assert word in said
    name = "0123456789abcdef" * 2  # as runs have, in whole: settle asks for it
    with Ledger.open(path) as ledger:
        ledger.reserve(Reservation.of(name, "mail", MECHANISM))
    assert name in run(capsys, "show", "mail")
    assert "which has mail" in fails(capsys, 2, "show", "males")
    assert "delta=2" in fails(capsys, 2, "show", "--delta", "2")


def test_a_dead_run_is_settled_where_it_stands(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "4 of 10 steps may have begun" in run(capsys, "settle", "a-run")
    (shown,) = json.loads(run(capsys, "show", "mail", "--json"))
    assert shown["runs"][0]["settled"]
    assert shown["runs"][0]["mechanism"]["steps"] == 4
    assert "settled" in fails(capsys, 4, "settle", "a-run")
    assert "to be reserved" in fails(capsys, 4, "settle", "another")


@pytest.mark.parametrize("words", [["show"], ["show", "mail"]])
def test_an_open_run_is_listed_with_the_command_that_settles_it(
    path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    said = run(capsys, *words)
    assert "open: run a-run on mail, 4 of 10 steps begun" in said
    (command,) = [shlex.split(line) for line in said.splitlines() if "dpft ledger settle" in line]
    assert command == ["dpft", "ledger", "settle", "a-run", "--ledger", str(path)]
    assert cli.main(command[1:]) == 0
    assert "open" not in run(capsys, *words)


def test_the_ledger_of_runs_is_found_from_the_folder_above(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DPFT_LEDGER")
    (tmp_path / "runs").mkdir()
    Ledger.open(tmp_path / "runs" / "dpft-ledger.sqlite").close()
    assert "1 entries" in run(capsys, "verify")
    Ledger.open(tmp_path / "dpft-ledger.sqlite").close()
    assert "there are dpft-ledger.sqlite and runs" in fails(capsys, 2, "verify")


def test_a_rule_is_recorded(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger.open(path) as ledger:
        ledger.reserve(Reservation.of("b", "calls", MECHANISM))
    assert json.loads(run(capsys, "show", "mail", "--json"))[0]["shares_with"] == ["calls"]
    assert "two systems" in run(capsys, "disjoint", "mail", "calls", "--rule", "two systems")
    assert json.loads(run(capsys, "show", "mail", "--json"))[0]["shares_with"] == []
    assert "a rule" in fails(capsys, 2, "disjoint", "mail", "mail", "--rule", "x")
    assert "a rule" in fails(capsys, 2, "disjoint", "mail", "calls", "--rule", " ")


def test_a_ledger_is_verified_against_a_quoted_head(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.read(path) as ledger:
        head = str(ledger.head)
    assert f"Head {head}" in run(capsys, "verify")
    assert "is the one that was quoted" in run(capsys, "verify", "--head", head)
    other = f"{'0' * 64}:4"
    assert "cut off" in fails(capsys, 4, "verify", "--head", other)
    assert "HASH:SEQ" in fails(capsys, 2, "verify", "--head", "4")


def test_an_export_is_written_once(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "4 entries" in run(capsys, "export", "out.jsonl")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4
    assert "new file" in fails(capsys, 4, "export", "out.jsonl")


def test_no_ledger_is_made_that_no_run_would_look_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    budget = ("budget", "mail", "--epsilon", "8", "--delta", "1e-5")
    for named in (None, ""):
        if named is not None:
            monkeypatch.setenv("DPFT_LEDGER", named)
        assert "binds nobody" in fails(capsys, 2, *budget)
    for verb in (("show",), ("verify",), ("export", "x"), ("settle", "x")):
        assert "to exist" in fails(capsys, 2, *verb, "--ledger", "absent.sqlite")
    assert not any(tmp_path.iterdir())
    assert "No run named mail" in run(capsys, *budget, "--ledger", "mine.sqlite")
    assert (tmp_path / "mine.sqlite").is_file()


def test_the_verb_imports_no_torch() -> None:
    code = "import sys, dpft.recipes.cli.ledger; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
