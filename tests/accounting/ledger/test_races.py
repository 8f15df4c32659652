"""Processes that race for one budget never overspend it together."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dpft.accounting import PoissonGaussian
from dpft.accounting.ledger import Budget, Ledger, Reservation, verify

Plan = Callable[..., Reservation]
PROCESSES, ATTEMPTS = 8, 4
BUDGET = Budget(epsilon=3.0, delta=1e-5)
MECHANISM = PoissonGaussian(10.0, 1.0, 3)
RACER = """
import sys, time
from pathlib import Path
from dpft.accounting import BudgetError, PoissonGaussian
from dpft.accounting.ledger import Budget, Ledger, Reservation

path, name, attempts = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
mechanism = PoissonGaussian(10.0, 1.0, 3)
# what takes long to import is imported before the race
Budget(epsilon=3.0, delta=1e-5).spent([mechanism])
path.with_name(f"ready {name}").touch()
while not path.with_name("go").exists():
    time.sleep(0.001)
granted = 0
with Ledger.open(path) as ledger:
    for attempt in range(attempts):
        try:
            ledger.reserve(Reservation.of(f"{name} {attempt}", "mail", mechanism))
            granted += 1
        except BudgetError:
            pass
print(granted)
"""


def race(path: Path) -> int:
    """Let processes reserve at once; return how many reservations were granted."""
    command = [sys.executable, "-c", RACER, str(path)]
    racers = [
        subprocess.Popen([*command, str(number), str(ATTEMPTS)], stdout=subprocess.PIPE, text=True)
        for number in range(PROCESSES)
    ]
    while len(list(path.parent.glob("ready *"))) < PROCESSES:
        assert all(racer.poll() is None for racer in racers)
    path.with_name("go").touch()
    printed = [racer.communicate()[0] for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    return sum(map(int, printed))


def test_eight_racing_processes_never_overspend(path: Path) -> None:
    fits = max(n for n in range(1, 40) if BUDGET.spent([MECHANISM] * n) <= BUDGET.epsilon)
    assert fits < PROCESSES * ATTEMPTS
    with Ledger.open(path) as ledger:
        ledger.set_budget("mail", BUDGET)
    assert race(path) == fits
    with Ledger.open(path) as ledger:
        verify(ledger)
        assert len(ledger.state.leases) == fits


@pytest.mark.slow
def test_processes_that_make_the_same_ledger_share_it(path: Path) -> None:
    assert race(path) == PROCESSES * ATTEMPTS
    with Ledger.open(path) as ledger:
        verify(ledger)
        assert len(ledger.state.leases) == PROCESSES * ATTEMPTS
    names = {each.name for each in path.parent.iterdir()}
    assert {name for name in names if name.endswith("sqlite") or name[0] == "."} == {path.name}


@pytest.mark.parametrize("meanwhile", ["a run", "a lower budget", "a neighbour"])
def test_what_changes_while_epsilon_is_computed_is_seen(
    path: Path, plan: Plan, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "a run": lambda other: other.reserve(plan("other", steps=30)),
        "a lower budget": lambda other: other.set_budget("mail", Budget(epsilon=1, delta=1e-5)),
        "a neighbour": lambda other: other.reserve(plan("other", "never compared", steps=30)),
    }
    with Ledger.open(path) as ledger, Ledger.open(path) as other:
        ledger.set_budget("mail", Budget(epsilon=3.0, delta=1e-5))
        original = Budget.spent
        seen: list[float] = []

        def spent(self: Budget, mechanisms: object, **options: object) -> float:
            value = original(self, mechanisms, **options)  # type: ignore[arg-type]
            if not seen:
                seen.append(value)
                monkeypatch.setattr(Budget, "spent", original)
                changes[meanwhile](other)
            return value

        monkeypatch.setattr(Budget, "spent", spent)
        with pytest.raises(Exception, match="its budget at delta"):
            ledger.reserve(plan("mine", steps=30))
        assert seen[0] <= 3.0
        assert "mine" not in ledger.state.leases


def test_other_data_sets_do_not_make_a_decision_stale(
    path: Path, plan: Plan, digests: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(path) as ledger, Ledger.open(path) as other:
        other.reserve(plan("a", "calls", digests("x")))
        ledger.set_budget("mail", Budget(epsilon=3.0, delta=1e-5))
        original = Budget.spent
        computed: list[object] = []

        def spent(self: Budget, mechanisms: object, **options: object) -> float:
            computed.append(mechanisms)
            if len(computed) == 1:
                other.reserve(plan("b", "calls", digests("x")))
            return original(self, mechanisms, **options)  # type: ignore[arg-type]

        ledger.reserve(plan("first", "mail", digests("y"), steps=1))
        computed.clear()
        monkeypatch.setattr(Budget, "spent", spent)
        ledger.reserve(plan("mine", "mail", digests("y"), steps=1))
        assert len(computed) == 1
