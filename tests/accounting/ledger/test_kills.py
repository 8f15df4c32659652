"""A process killed at any moment has charged at least what it did."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dpft.accounting.ledger import Ledger, Reservation, verify

Plan = Callable[..., Reservation]
STEPS = 1_000_000
WORKER = """
import os, sys
from pathlib import Path
from dpft.accounting.ledger import Ledger

path = Path(sys.argv[1])
witness = os.open(path.with_name("witness"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
with Ledger.open(path) as ledger:
    token = ledger.attach("a")
    step = ledger.state.lease("a").intended
    while True:
        step += 1
        ledger.intend("a", token, upto=step)
        os.write(witness, f"{step}\\n".encode())  # the sample
"""
RESERVER = """
import sys, time
from pathlib import Path
from dpft.accounting import PoissonGaussian
from dpft.accounting.ledger import Ledger, Reservation
from dpft.accounting.ledger.store import Store


def append(self, *arguments, original=Store.append):
    original(self, *arguments)
    print("written", flush=True)
    time.sleep(600)  # before it is kept


Store.append = append
with Ledger.open(Path(sys.argv[1])) as ledger:
    ledger.reserve(Reservation.of("a", "mail", PoissonGaussian(10.0, 1.0, 10)))
"""


def witnessed(path: Path) -> list[int]:
    witness = path.with_name("witness")
    return [int(line) for line in witness.read_text().split("\n")[:-1]] if witness.exists() else []


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_process_killed_at_random_moments_never_charges_too_little(
    path: Path, plan: Plan, kills: int
) -> None:
    chance = random.Random(kills)
    with Ledger.open(path) as ledger:
        ledger.reserve(plan("a", steps=STEPS))
    for _ in range(kills):
        before = len(witnessed(path))
        with subprocess.Popen([sys.executable, "-c", WORKER, str(path)]) as worker:
            while len(witnessed(path)) == before:
                assert worker.poll() is None
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.1))
            worker.kill()
        done = witnessed(path)
        assert len(set(done)) == len(done)  # no step was taken twice
        with Ledger.read(path) as ledger:
            lease = ledger.state.lease("a")
            assert lease.intended >= max(done)
            assert lease.intended <= max(done) + 1  # one step may be lost by each kill
    with Ledger.open(path) as ledger:
        verify(ledger)
        ledger.settle("a")
        (mechanism,) = ledger.state.lease("a").charged("mail", adaptive=True)
        assert getattr(mechanism, "steps", 0) >= len(witnessed(path))


def test_every_step_is_charged_before_the_call_returns(path: Path, plan: Plan) -> None:
    with Ledger.open(path) as ledger, Ledger.open(path) as witness:
        ledger.reserve(plan("a", steps=20))
        token = ledger.attach("a")
        for step in range(1, 21):
            ledger.intend("a", token, upto=step)
            assert witness.state.lease("a").intended == step


def test_a_process_killed_while_it_reserves_reserves_all_or_nothing(path: Path, plan: Plan) -> None:
    with Ledger.open(path) as ledger:
        ledger.reserve(plan("before"))
    command = [sys.executable, "-c", RESERVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reserver:
        assert reserver.stdout is not None
        assert reserver.stdout.readline() == b"written\n"
        reserver.kill()
    with Ledger.open(path) as ledger:
        verify(ledger)
        assert set(ledger.state.leases) == {"before"}
        ledger.reserve(plan("a"))
