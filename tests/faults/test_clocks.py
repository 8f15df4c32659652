"""Clocks that go backwards, jump or stand still: nothing is ordered by them."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dpft
from dpft.accounting import Certificate, PoissonGaussian
from dpft.accounting.ledger import Budget, Ledger, Plans, Reservation, verify
from dpft.charges import origin_of

PLAN = PoissonGaussian(2.0, 0.1, 10)


def backwards() -> Callable[[], str]:
    years = itertools.count(2026, -100)
    return lambda: f"{next(years):04d}-11-22T00:00:00+00:00"


def written(path: Path) -> list[dict[str, Any]]:
    """Write two runs, of which the budget of the second rests on the first; return the entries."""
    with Ledger.open(path) as ledger:
        ledger.set_budget("mail", Budget(epsilon=8, delta=1e-5, plans=Plans.FIXED))
        ledger.reserve(Reservation.of("a", "mail", PLAN))
        ledger.intend("a", ledger.attach("a"), upto=10)
        ledger.set_budget("mail", Budget(epsilon=9, delta=1e-5))
        ledger.reserve(Reservation.of("b", "mail", PLAN))
        ledger.intend("b", ledger.attach("b"), upto=3)
        ledger.settle("b")
        verify(ledger)
    with Ledger.read(path) as ledger:
        assert list(ledger.state.leases) == ["a", "b"]
        assert ledger.state.budgets["mail"].epsilon == 9
        return [{"seq": each.seq, "kind": each.kind, **each.fields} for each in ledger.entries()]


def test_a_ledger_under_a_clock_that_goes_backwards_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwards = written(tmp_path / "one.sqlite")
    monkeypatch.setattr("dpft.accounting.ledger.ledger._now", backwards())
    other = written(tmp_path / "other.sqlite")
    times = [entry["time"] for entry in other if "time" in entry]
    assert times == sorted(times, reverse=True)
    for entry in (*forwards, *other):
        for name in ("time", "ledger_id"):
            entry.pop(name, None)
    assert forwards == other


@pytest.mark.parametrize("clock", [itertools.count(1e9, -1e5), itertools.repeat(0.0)])
def test_a_run_does_not_ask_the_clock_what_came_first(
    tmp_path: Path,
    fit: Callable[..., dpft.FitResult],
    charged: Callable[[Path], tuple[int, int]],
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("time.time", "time.monotonic", "time.perf_counter"):
        monkeypatch.setattr(name, lambda: next(clock))
    monkeypatch.setattr("dpft.accounting.ledger.ledger._now", backwards())
    heads = []
    for name in ("first", "second"):
        out = tmp_path / name
        result = fit(out)
        assert charged(out) == (6, 6)
        assert math.isnan(result.examples_per_second)
        certificate = Certificate.from_json((out / "certificate.json").read_text("utf-8"))
        (run,) = certificate.runs
        assert run.ledger is not None
        heads.append(run.ledger.entry)
        text = (out / "charges.jsonl").read_text() + json.dumps([*map(str, out.rglob("*"))])
        assert not any(word in text for word in ("2026-", "time", "date"))  # no digest has a dash
    assert heads == sorted(heads)
    assert origin_of(tmp_path / "first" / "charges.jsonl") is not None
