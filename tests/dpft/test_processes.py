"""Several processes train one model: as one process would, with noise once and charges true."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dpft.accounting import Certificate
from dpft.errors import (
    BrokenGuaranteeError,
    ConfigurationError,
    LostProcessError,
    UnsupportedError,
)
from dpft.performance import FrozenPrefix, Performance
from dpft.private_step import PrivateStep, StepSettings
from dpft.processes import Processes, joined
from dpft.processes_launcher import processes_asked_for
from dpft.processes_randomness import ShareOfRandomness, shared_out
from dpft.processes_sharding import refuse_unfit_sharding
from dpft.randomness import PinnedRandomness, Purpose, SecretRandomness
from tests.dpft import ranks

SOME: dict[str, Any] = {"expected_batch_size": 5}  # of 12 records
NOT_PRIVATE: dict[str, Any] = {"mode": "not_private", "noise_multiplier": None}
USERS = ["a", "a", "b", "c", "c", "c", "d", "e", "f", "g", "g", "h"]


class Group:
    """What the processes of one start have seen, by rank."""

    def __init__(self, folder: Path, said: str = "") -> None:
        assert not (folder / "hung").exists(), (folder / "hung").read_text()
        self.said = said
        self.folder = folder
        self.seen = {int(path.stem): torch.load(path) for path in folder.glob("*.pt")}

    def done(self, rank: int = 0, job: int = 0) -> dict[str, Any]:
        assert self.seen[rank]["error"] is None, self.seen[rank]
        found: dict[str, Any] = self.seen[rank]["done"][job]
        return found

    def errors(self) -> list[str | None]:
        return [self.seen[rank]["error"] if rank in self.seen else None for rank in range(2)]

    def order(self) -> list[str]:
        return (self.folder / "order").read_text().splitlines()


@pytest.fixture
def start(beside_everything: Callable[..., Any], tmp_path: Path) -> Callable[..., Group]:
    """Return what starts some processes and lets all of them do the same jobs."""
    code = Path(ranks.__file__).read_text(encoding="utf-8")

    def started(count: int, *jobs: dict[str, Any], folder: str = "group") -> Group:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for stale in (*place.glob("*.pt"), *place.glob("store*")):
            stale.unlink()
        ended = beside_everything(code, count, place, json.dumps(jobs))
        assert ended.returncode == 0
        return Group(place, ended.stderr)

    return started


GOOD: dict[str, dict[str, Any]] = {
    "all in": {"seed": 3},
    "some in": {"seed": 4, "privacy": SOME},
    "users": {"seed": 5, "owners": USERS, "privacy": {**SOME, "unit": "user"}},
    "not private": {"seed": 6, "privacy": {**SOME, **NOT_PRIVATE}},
    "secret": {"privacy": SOME},
    "left early": {"seed": 7, "leave_at": {"0": 1, "1": 1}},
    "forgone": {"seed": 8, "forgo_at": {"0": 2}},
}
# No record is ever sampled, and the noise has a variance of 1.
RARE: dict[str, Any] = {"num_records": 10**9, "expected_batch_size": 1, "steps": 50, "delta": 1e-12}
GOOD["noise alone"] = {"seed": 11, "privacy": {**RARE, "noise_multiplier": 2.0, "clip_norm": 0.5}}
GOOD["noise alone"]["momentum"] = 0.0
GOOD = {name: {"kind": "step", **job} for name, job in GOOD.items()}


class Replay(PinnedRandomness):
    """The samples of all shares in one process, and the lead's noise."""

    def __init__(self, seed: int, count: int) -> None:
        super().__init__(seed)
        source = PinnedRandomness(seed)
        self._shares = [shared_out(source, rank, count) for rank in range(count)]

    def poisson_sample(self, step: int, size: int, rate: float) -> npt.NDArray[np.int64]:
        drawn = [share.poisson_sample(step, size, rate) for share in self._shares]
        return np.concatenate(drawn)


def of_one(job: dict[str, Any], count: int) -> torch.Tensor:
    """Return the weights after every step of one process that replays all shares."""
    sharded = job.get("sharded", False)
    model = ranks.frozen_but_last() if sharded else ranks.Model(seed=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5, momentum=0.5)
    settings = StepSettings(randomness=Replay(job["seed"], count), synthetic=ranks.rows(3, 9))
    step = PrivateStep(model, optimizer, ranks.privacy(job), ranks.loss, settings)
    data, seen = ranks.rows(job.get("records", 12)), []
    for batch in step.batches(data, ranks.collate, job.get("owners")):
        step(batch)
        seen.append(ranks.weights(model))
    return torch.stack(seen)


@pytest.fixture(scope="module")
def pair(
    beside_everything: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """Return what a process has seen in a job of `GOOD`, all done by one start of two."""
    folder = tmp_path_factory.mktemp("pair")
    code = Path(ranks.__file__).read_text(encoding="utf-8")
    jobs = json.dumps(list(GOOD.values()))
    assert beside_everything(code, 2, folder, jobs).returncode == 0
    group = Group(folder)

    def seen(name: str, rank: int = 0) -> dict[str, Any]:
        return group.done(rank, list(GOOD).index(name))

    return seen


@pytest.mark.parametrize("name", ["all in", "some in", "users", "not private"])
def test_two_processes_equal_one_that_replays_both_shares(
    pair: Callable[..., dict[str, Any]], name: str
) -> None:
    torch.testing.assert_close(pair(name)["weights"], of_one(GOOD[name], 2), rtol=1e-9, atol=1e-12)


def test_two_processes_equal_an_ordinary_run_when_all_records_are_in(
    pair: Callable[..., dict[str, Any]],
) -> None:
    torch.testing.assert_close(
        pair("all in")["weights"], of_one(GOOD["all in"], 1), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", list(GOOD))
def test_all_processes_end_with_the_same_weights_and_steps(
    pair: Callable[..., dict[str, Any]], name: str
) -> None:
    lead, other = pair(name, 0), pair(name, 1)
    assert torch.equal(lead["final"], other["final"])
    assert torch.equal(lead["final"], lead["weights"][-1])
    assert lead["steps"] == other["steps"]
    assert lead["epsilon"] == other["epsilon"]
    assert other["moments"] == 0  # one optimiser moves
    assert lead["moments"] == (0 if name == "noise alone" else 4)


def test_a_run_that_the_lead_forgoes_is_charged_whole_on_all_processes(
    pair: Callable[..., dict[str, Any]],
) -> None:
    assert pair("forgone")["steps"] == 3
    assert len(pair("forgone")["weights"]) == len(pair("forgone", 1)["weights"]) == 2
    assert pair("left early", 1)["steps"] == 1


def test_several_processes_pay_and_add_what_one_does(pair: Callable[..., dict[str, Any]]) -> None:
    plan = ranks.privacy(GOOD["secret"]).plan(12)
    for rank in range(2):
        assert pair("secret", rank)["epsilon"] == plan.epsilon(3) < math.inf
        assert pair("secret", rank)["multiplier"] == plan.noise_multiplier
        assert pair("secret", rank)["sampler"].endswith("by 2 processes, each its own share")
        assert "on 2 processes, a key for each" in pair("secret", rank)["generator"]


@pytest.mark.slow
def test_the_number_of_processes_changes_neither_epsilon_nor_noise(
    start: Callable[..., Group],
) -> None:
    planned = {"noise_multiplier": None, "epsilon": 3.0, **SOME}
    job = {"kind": "step", "privacy": planned}
    found = [start(count, job).done() for count in (1, 2, 3)]
    assert len({one["epsilon"] for one in found}) == 1
    assert len({one["multiplier"] for one in found}) == 1
    assert 2.9 < found[0]["epsilon"] <= 3.0


@pytest.mark.slow
def test_a_share_without_records_adds_nothing_and_hangs_nobody(
    start: Callable[..., Group],
) -> None:
    job = {"kind": "step", "seed": 3, "records": 2}
    group = start(3, job)
    torch.testing.assert_close(group.done()["weights"], of_one(job, 3), rtol=1e-9, atol=1e-12)
    assert torch.equal(group.done(2)["final"], group.done()["final"])


def test_noise_of_two_processes_has_the_variance_of_one_draw(
    pair: Callable[..., dict[str, Any]],
) -> None:
    weights = pair("noise alone")["weights"]
    drawn = (weights[1:] - weights[:-1]).flatten() / 0.5  # the learning rate
    assert len(drawn) == 49 * 29
    assert drawn.var().item() == pytest.approx(1.0, rel=5 * (2 / len(drawn)) ** 0.5)


def test_only_the_lead_has_noise() -> None:
    lead, other = (ShareOfRandomness(SecretRandomness(), rank, 2) for rank in (0, 1))
    assert lead.stream(Purpose.NOISE, 0).normals(3).shape == (3,)
    with pytest.raises(BrokenGuaranteeError, match="noise from the first process alone"):
        other.stream(Purpose.NOISE, 0)


@pytest.mark.parametrize("secret", [True, False])
def test_shares_are_disjoint_whole_and_sampled_by_streams_of_their_own(secret: bool) -> None:
    source = SecretRandomness() if secret else PinnedRandomness(1)
    shares = [shared_out(source, rank, 3) for rank in range(3)]
    whole = np.concatenate([share.poisson_sample(0, 100, 1.0) for share in shares])
    assert sorted(whole) == list(range(100))
    drawn = {tuple(share.stream(Purpose.SAMPLING, 0).integers(4)) for share in shares}
    masks = {share.forward_seed(0) for share in shares}
    assert len(drawn) == len(masks) == 3


def test_shares_together_are_sampled_at_the_planned_rate() -> None:
    steps, size, rate = 400, 31, 0.2
    shares = [shared_out(PinnedRandomness(5), rank, 2) for rank in range(2)]
    entered = np.zeros((steps, size))
    for step in range(steps):
        for share in shares:
            entered[step, share.poisson_sample(step, size, rate)] += 1
    assert set(np.unique(entered)) == {0, 1}
    std = np.sqrt(rate * (1 - rate) / steps)
    assert np.abs(entered.mean(0) - rate).max() < 4.5 * std
    counts = entered.sum(1)  # of a Poisson sample: as independent records
    assert counts.var() == pytest.approx(size * rate * (1 - rate), rel=5 * (2 / steps) ** 0.5)
    between = np.corrcoef(entered[:, ::2].sum(1), entered[:, 1::2].sum(1))[0, 1]
    assert abs(between) < 4.5 / np.sqrt(steps)


def test_a_sharded_base_gives_the_weights_of_a_whole_one(start: Callable[..., Group]) -> None:
    plan = {"expected_batch_size": 4, "steps": 4}
    job = {"kind": "step", "seed": 12, "sharded": True, "physical": 1, "privacy": plan}
    users = {**job, "seed": 13, "owners": USERS, "privacy": {**plan, "unit": "user"}}
    group = start(2, job, users)
    for number, each in enumerate((job, users)):
        expected = of_one(each, 2)
        torch.testing.assert_close(
            group.done(0, number)["weights"], expected, rtol=1e-9, atol=1e-12
        )
        assert torch.equal(group.done(1, number)["final"], group.done(0, number)["final"])


class Sharded(torch.nn.Module):
    """A model whose frozen weight says that it is sharded over a mesh."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.frozen = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
        vars(self.frozen)["device_mesh"] = SimpleNamespace(
            ndim=len(sizes), size=lambda: math.prod(sizes)
        )


class FSDPModule(Sharded):
    """The same, as FSDP2 names it."""


@pytest.mark.parametrize(
    "model", [Sharded(2), FSDPModule(1, 2), FSDPModule(4)], ids=["other", "2-d", "part"]
)
def test_weights_sharded_otherwise_are_refused(model: torch.nn.Module) -> None:
    plan = ranks.privacy({}).plan(12)
    two = Processes(rank=0, count=2)
    refuse_unfit_sharding(two, FSDPModule(2), plan, Performance())
    with pytest.raises(UnsupportedError, match="FSDP2's over all 2 processes"):
        refuse_unfit_sharding(two, model, plan, Performance())


def test_a_sharded_base_needs_noise_and_no_kept_prefix() -> None:
    two, model = Processes(rank=0, count=2), FSDPModule(2)
    kept = Performance(frozen_prefix=FrozenPrefix.MEMORY)
    bare = ranks.privacy({"privacy": NOT_PRIVATE}).plan(12)
    for plan, how in ((bare, Performance()), (ranks.privacy({}).plan(12), kept)):
        with pytest.raises(UnsupportedError, match="with a sharded base"):
            refuse_unfit_sharding(two, model, plan, how)


RUN: dict[str, Any] = {"kind": "fit", "seed": 3, "out": "run", "privacy": {**SOME, "steps": 6}}


@pytest.fixture(scope="module")
def launched(
    beside_everything: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Group:
    """Return two processes that a launcher started, without a group of their own."""
    folder = tmp_path_factory.mktemp("launched")
    code = Path(ranks.__file__).read_text(encoding="utf-8")
    jobs = json.dumps([{**RUN, "seed": None, "launched": True}])
    assert beside_everything(code, 2, folder, jobs).returncode == 0
    return Group(folder)


def test_two_processes_return_the_same_model_and_certificate(launched: Group) -> None:
    lead, other = launched.done(0), launched.done(1)
    assert torch.equal(lead["final"], other["final"])
    assert lead["certificate"] == other["certificate"]
    (run,) = Certificate.from_json(lead["certificate"]).runs
    assert run.run_id == lead["run_id"] == other["run_id"]
    assert "2 processes, each its own share" in run.sampler
    assert run.private
    assert lead["history"] == other["history"] == [1, 6, 6]
    assert lead["epsilon"] == other["epsilon"] < math.inf
    assert other["folder"] is None
    assert lead["told"] == [1, 2, 3, 4, 5, 6]
    assert other["told"] == []


def test_a_launcher_without_a_group_starts_one_run(launched: Group) -> None:
    assert [line for line in launched.order() if line.startswith("charge")] == [
        f"charge {step}" for step in range(6)
    ]
    assert "2 processes" in (launched.folder / "run" / "report.md").read_text()


def test_a_step_is_charged_before_any_process_samples(launched: Group) -> None:
    order = launched.order()
    assert sorted(order) == sorted(
        line for step in range(6) for line in (f"charge {step}", *[f"sample {step}"] * 2)
    )
    for step in range(6):
        assert order.index(f"charge {step}") < order.index(f"sample {step}")


@pytest.mark.slow
def test_no_digest_of_records_is_written(start: Callable[..., Group]) -> None:
    def files(count: int) -> set[str]:
        folder = start(count, {**RUN, "out": f"run{count}"}).folder / f"run{count}"
        return {str(path.relative_to(folder)) for path in folder.rglob("*")}

    assert files(2) == files(1)


@pytest.mark.parametrize("how", ["kill", pytest.param("interrupt", marks=pytest.mark.slow)])
def test_a_run_whose_worker_is_killed_resumes_on_any_number(
    start: Callable[..., Group], how: str
) -> None:
    job = {**RUN, "checkpoint_every": 2, "privacy": {**SOME, "steps": 8}}
    ended = start(2, {**job, "ends": {"1": {"at": 3, "how": how}}})
    assert ended.errors() == ["LostProcessError", None if how == "kill" else "KeyboardInterrupt"]
    charged = (ended.folder / "run" / "charges.jsonl").read_text()
    assert charged.count("intend") == 4
    assert "failed" not in charged
    again = {**job, "resume": True}
    alone = start(1, {**again, "ends": {"0": {"at": 5, "how": "interrupt"}}})
    assert alone.seen[0]["error"] == "KeyboardInterrupt"
    finished = start(2, again)
    assert finished.done()["history"] == [3, 8, 4]  # four were lost, none was taken twice
    assert finished.done(1)["history"] == [3, 8, 4]
    assert torch.equal(finished.done(0)["final"], finished.done(1)["final"])


@pytest.mark.parametrize(
    ("rank", "how"),
    [
        (1, "loss"),
        pytest.param(1, "read", marks=pytest.mark.slow),
        pytest.param(0, "loss", marks=pytest.mark.slow),
        pytest.param(0, "read", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_raises_ends_the_run_for_good(
    start: Callable[..., Group], rank: int, how: str
) -> None:
    ended = start(2, {**RUN, "ends": {str(rank): {"at": 2, "how": how}}})
    assert ended.errors()[rank] == "ValueError"
    assert ended.errors()[1 - rank] == "BrokenGuaranteeError"
    assert '["failed", 3]' in (ended.folder / "run" / "charges.jsonl").read_text()
    assert start(2, {**RUN, "resume": True}).errors() == [
        "BrokenGuaranteeError",
        "LostProcessError",
    ]


@pytest.mark.slow
def test_what_is_raised_between_steps_ends_all_and_says_nothing_else(
    start: Callable[..., Group],
) -> None:
    group = start(2, {**RUN, "told_off_at": 2, "lingers": True})
    assert group.errors() == ["ValueError", "LostProcessError"]
    assert "Exception ignored" not in group.said


@pytest.mark.slow
def test_what_the_lead_refuses_ends_all(start: Callable[..., Group], tmp_path: Path) -> None:
    taken = tmp_path / "group" / "run"
    taken.mkdir(parents=True)
    (taken / "thesis.tex").touch()
    group = start(2, {**RUN, "lingers": True})
    assert group.errors() == ["ConfigurationError", "LostProcessError"]


@pytest.mark.slow
def test_a_process_that_leaves_its_loop_alone_ends_all(start: Callable[..., Group]) -> None:
    group = start(2, {"kind": "step", "seed": 1, "leave_at": {"1": 1}, "lingers": True})
    assert group.errors()[0] == "LostProcessError"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"data": [0, 1]}, "records in the same order"),
        pytest.param(
            {"privacies": [{}, {"noise_multiplier": 0.5}]}, "privacy plan", marks=pytest.mark.slow
        ),
    ],
)
def test_a_process_with_other_records_is_refused(
    start: Callable[..., Group], other: dict[str, Any], said: str
) -> None:
    group = start(2, {"kind": "step", **other})
    assert group.errors() == ["ConfigurationError"] * 2
    assert said in group.seen[0]["said"]
    assert said in group.seen[1]["said"]


def test_nobody_trains_alone_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpft.processes._left", [])
    model = torch.nn.Linear(1, 1)
    assert joined(model) == Processes.alone()
    Processes.alone().abandon()
    assert joined(model) == Processes.alone()
    Processes(rank=1, count=2).abandon()
    with pytest.raises(LostProcessError, match="train alone"):
        joined(model)


def test_a_group_that_is_made_after_the_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ranks.Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    step = PrivateStep(model, optimizer, ranks.privacy({}), ranks.loss)
    monkeypatch.setattr("dpft.processes.joined", lambda _: Processes(rank=0, count=2))
    with pytest.raises(ConfigurationError, match="when the step was made, got 2"):
        step.batches(ranks.rows(12), ranks.collate)


@pytest.mark.parametrize("said", ["0", "two", "-1"])
def test_an_environment_without_a_number_of_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", said)
    with pytest.raises(ConfigurationError, match="to be a number >= 1"):
        processes_asked_for()


def test_an_environment_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigurationError, match="torchrun"):
        joined(torch.nn.Linear(1, 1))


SCRIPT = """
import json, sys
import torch
from accelerate import Accelerator
sys.path.insert(0, sys.argv[1])
import ranks
job = json.loads(sys.argv[3])
if job["accelerate"]:
    Accelerator(cpu=True)
seen = ranks.whole_run(job, 0, ranks.Path(sys.argv[2]))
torch.save(seen, f"{sys.argv[2]}/{torch.distributed.get_rank()}.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("accelerate", [True, False])
def test_torchrun_and_accelerate_start_one_run(tmp_path: Path, accelerate: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    here, job = Path(ranks.__file__).parent, json.dumps({**RUN, "accelerate": accelerate})
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*launcher, "--nproc-per-node", "2", script, here, tmp_path, job],
        check=True,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )
    lead, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert lead["certificate"] == other["certificate"]
    assert torch.equal(lead["final"], other["final"])
    assert (tmp_path / "run" / "report.md").exists()
