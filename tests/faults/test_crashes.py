"""Runs that end at any moment: nothing promised is lost, and no charge is below the truth."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import dpft
from dpft.accounting import Accountant, Certificate, steps_of
from dpft.accounting.ledger import Ledger, verify
from dpft.charges import origin_of
from dpft.run_folder import RunFolder
from dpft.verification import verify as findings

pytestmark = pytest.mark.slow
DEATHS, STEPS, RECORDS = 100, 8, 40
WAYS = ("kill", "kill", "term", "power cut")
PHASES = ("before", "amid", "after")
PRIVACY = dpft.Privacy(
    noise_multiplier=2.0, delta=1e-3, expected_batch_size=10, steps=STEPS, accountant=Accountant.RDP
)


class Victims:
    """Processes that die when they are told to: forks of one that has imported everything."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("victim.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._jobs, self._answers = self._process.stdin, self._process.stdout
        assert self._answers.readline() == "ready\n"

    def live(self, folder: Path, job: dict[str, Any]) -> int:
        self._jobs.write(json.dumps([str(folder), job]) + "\n")
        self._jobs.flush()
        return int(self._answers.readline())

    def close(self) -> None:
        self._jobs.close()
        self._process.wait()
        self._answers.close()


class Run:
    """One run, in as many processes as it takes."""

    def __init__(self, folder: Path, victims: Victims, *, pinned: bool) -> None:
        self.folder = RunFolder(folder / "run")
        self.pinned = pinned
        self.lost: set[int] = set()
        self._victims = victims
        self._place = folder
        folder.mkdir(parents=True)

    def live(self, **job: Any) -> int:
        """Start or resume it; return how the process ended."""
        return self._victims.live(self._place, {"steps": STEPS, "pinned": self.pinned, **job})

    def said(self) -> str:
        """Return the last words of its process."""
        return (self._place / "said").read_text(encoding="utf-8")

    def told(self, name: str) -> list[str]:
        """Return what the witness was told."""
        path = self._place / "witness" / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def charged(self) -> int:
        """Count whole lines that charge a step, each of which follows the one before."""
        path = self.folder.charges
        whole = path.read_bytes().split(b"\n")[1:-1] if path.exists() else []
        steps = [json.loads(line)["intend"] for line in whole if line.startswith(b'{"intend')]
        assert steps == list(range(1, len(steps) + 1))
        return len(steps)

    def check(self) -> None:
        """Compare charges with what the witness saw, and note which updates are lost."""
        samples = list(map(int, self.told("samples")))
        assert len(set(samples)) == len(samples), "no step is sampled twice"
        assert set(map(int, self.told("updates"))) <= set(samples)
        assert self.charged() >= max(samples, default=0)
        assert self._charged_in_ledger() >= max(samples, default=0)
        assert len(set(self.told("keys"))) == len(self.told("keys"))
        reached = [int(path.name[5:]) for path in self.folder.checkpoints.glob("step_*")]
        path = self.folder.charges
        is_torn = (
            path.exists() and path.read_bytes().count(b"\n") and path.read_bytes()[-1:] != b"\n"
        )
        charged = min(STEPS, self.charged() + bool(is_torn))
        self.lost |= set(range(max(reached, default=0) + 1, charged + 1))

    def check_finished(self) -> None:
        """Compare what is published with what was charged."""
        assert self.charged() == STEPS
        assert not [path.name for path in self.folder.path.rglob(".*")]
        assert all(finding.passed for finding in findings(self.folder.path))
        assert self.folder.report.read_bytes()
        certificate = Certificate.from_json(self.folder.certificate.read_text(encoding="utf-8"))
        (run,) = certificate.runs
        assert run.private is not self.pinned
        assert run.mechanism is not None
        assert steps_of(run.mechanism) == STEPS == self._charged_in_ledger()
        if not self.pinned:
            assert certificate.epsilon() == PRIVACY.plan(RECORDS).epsilon(STEPS)

    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder.adapter / "adapter_model.safetensors")

    def _charged_in_ledger(self) -> int:
        origin = origin_of(self.folder.charges)
        if origin is None:
            return 0
        with Ledger.read(self._place / "dpft-ledger.sqlite") as ledger:
            verify(ledger)
            return ledger.state.lease(origin.run_id).intended


class Yard:
    """Makes runs, and the runs that they should have been."""

    def __init__(self, folder: Path, victims: Victims) -> None:
        self._folder = folder
        self._victims = victims
        self._references: dict[frozenset[int], dict[str, torch.Tensor]] = {}
        self._made = 0
        started = time.monotonic()
        undisturbed = self.run(pinned=True)
        assert undisturbed.live() == 0
        undisturbed.check()
        undisturbed.check_finished()
        self._references[frozenset()] = undisturbed.tensors()
        self.seconds = time.monotonic() - started
        self.events = int(undisturbed.told("events")[0])

    def run(self, *, pinned: bool) -> Run:
        self._made += 1
        return Run(self._folder / str(self._made), self._victims, pinned=pinned)

    def without(self, lost: set[int]) -> dict[str, torch.Tensor]:
        """Return the adapter of a run that nobody disturbed, but for the updates it left out."""
        if frozenset(lost) not in self._references:
            reference = self.run(pinned=True)
            assert reference.live(lost=sorted(lost)) == 0
            self._references[frozenset(lost)] = reference.tensors()
        return self._references[frozenset(lost)]

    def end(self, run: Run, chance: random.Random) -> dict[str, Any]:
        """Choose how a process ends: at a moment, or at one of the events that are left."""
        if chance.random() < 0.2:
            return {"how": chance.choice(WAYS[:3]), "after": chance.uniform(0, self.seconds)}
        left = self.events * (1 + 2 * (STEPS - run.charged()) / STEPS) / 3
        phase, how = chance.choice(PHASES), chance.choice(WAYS)
        return {"how": how, "phase": phase, "at": chance.randint(1, round(left))}


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    victims = Victims()
    yield Yard(tmp_path_factory.mktemp("yard"), victims)
    victims.close()


def deaths(yard: Yard, run: Run, chance: random.Random) -> Iterator[str]:
    """Let a run die several times, unless it finishes before, and yield how it died."""
    for _ in range(chance.randint(2, 8)):
        ended = run.live(**yard.end(run, chance))
        run.check()
        if ended >= 0:
            assert ended == 0, run.said()
            return
        yield run.told("deaths")[-1]
        if run.folder.is_finished:
            return
    assert run.live() == 0
    run.check()


def test_a_run_killed_at_any_moment_is_the_run_without_the_lost_updates(
    yard: Yard, record_testsuite_property: Callable[[str, object], None]
) -> None:
    chance, ways, figures = random.Random(11), Counter[str](), Counter[str]()
    while ways.total() < DEATHS:
        run = yard.run(pinned=bool(figures["runs"] % 2))
        ways.update(deaths(yard, run, chance))
        run.check_finished()
        figures["runs"] += 1
        figures["steps lost but charged"] += len(run.lost)
        if run.pinned:
            expected, found = yard.without(run.lost), run.tensors()
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[name], found[name]) for name in expected)
            figures["same bits, nothing lost" if not run.lost else "same bits but for lost"] += 1
    for name, count in [*figures.items(), *sorted(ways.items())]:
        record_testsuite_property(name, count)


@pytest.mark.parametrize("how", ["full disk", "read-only"])
def test_a_disk_that_takes_nothing_more_loses_nothing(yard: Yard, how: str) -> None:
    chance = random.Random(how)
    for at in chance.sample(range(1, yard.events + 1), 12):
        run = yard.run(pinned=True)
        assert run.live(how=how, phase="before", at=at) == 1
        assert re.search(r"(StorageError|LedgerError): Expected .+\n\Z", run.said()), run.said()
        run.check()
        assert run.live() == 0
        run.check()
        run.check_finished()
        expected, found = yard.without(run.lost), run.tensors()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
