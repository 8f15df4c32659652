"""One run's trackers: what they are told, when, and that they can harm nothing but themselves."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import PartialState  # type: ignore[import-untyped]  # no stubs
from peft import LoraConfig
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import dpft
from dpft.errors import ConfigurationError
from dpft.losses import Classification
from dpft.private_step import StepSettings
from dpft.progress import Progress
from dpft.randomness import PinnedRandomness
from dpft.run_folder import RunFolder
from dpft.tracking import TrackerName, Tracking
from dpft.tracking.backends import BACKENDS
from dpft.training import FitOptions

RECORDS, STEPS = 40, 3
LORA = LoraConfig(
    task_type="SEQ_CLS", target_modules=["query"], r=2, modules_to_save=["classifier"]
)
TOLD = {
    "spent_epsilon",
    "target_epsilon",
    "noise_multiplier",
    "expected_batch_size",
    "learning_rate",
}
SECRET = "Ada Lovelace in row 17"
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@dataclasses.dataclass
class Fake:
    """A tracker that writes down what it is told, and fails where it is asked to."""

    fails_at: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    sent: list[tuple[int, dict[str, float]]] = dataclasses.field(default_factory=list)
    finished: int = 0

    def start(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self._fail("start")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.sent.append((step, dict(values)))
        self._fail("log")

    def finish(self) -> None:
        self.finished += 1
        self._fail("finish")

    def _fail(self, where: str) -> None:
        if where in self.fails_at.split():
            raise OSError(SECRET)


def handed(made: Fake, _: Path) -> Fake:
    return made


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(BACKENDS, TrackerName.TENSORBOARD, partial(handed, made))
    return made


@pytest.fixture(autouse=True)
def _no_state_of_accelerate() -> Iterator[None]:
    yield
    PartialState._reset_state()


def build() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        vocab_size=30,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def records(seed: int = 1) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(RECORDS):
        ids = torch.randint(5, 30, (2 + index % 5,), generator=generator).tolist()
        made.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2})
    return made


def fit(out: Path | None, *, pinned: int | None = None, seed: int = 1, **options: Any) -> Any:
    step = StepSettings() if pinned is None else StepSettings(randomness=PinnedRandomness(pinned))
    privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=10, steps=STEPS)
    return dpft.fit(
        build(),
        records(seed),
        loss=Classification(),
        privacy=privacy,
        adapter=LORA,
        out=out,
        options=FitOptions(step=step, **options),
    )


def weights(result: dpft.FitResult) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in result.model.parameters() if p.requires_grad])


def test_a_tracker_is_told_once_for_every_logical_step_and_of_the_end(
    fake: Fake, tmp_path: Path
) -> None:
    result = fit(tmp_path / "run", trackers=("tensorboard",))
    assert [step for step, _ in fake.sent] == [1, 2, 3, 3]
    assert all(set(values) == TOLD for _, values in fake.sent[:STEPS])
    assert fake.sent[-1] == (STEPS, {"epsilon": result.epsilon, "delta": 1e-3})
    assert fake.sent[-2][1]["spent_epsilon"] == result.epsilon
    assert fake.settings["plan.steps"] == STEPS
    assert fake.finished == 1


def test_two_runs_on_different_records_send_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = []
    for seed in (1, 2):
        made = Fake()
        monkeypatch.setitem(BACKENDS, TrackerName.TENSORBOARD, partial(handed, made))
        fit(tmp_path / str(seed), seed=seed, trackers=(TrackerName.TENSORBOARD,))
        told.append((made.settings, made.sent))
    assert told[0] == told[1]


@pytest.mark.parametrize("where", ["log", "finish", "log finish"])
def test_a_tracker_that_fails_changes_nothing_but_itself(
    where: str, fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fails_at = where
    plain = fit(tmp_path / "plain", pinned=3)
    with caplog.at_level(logging.WARNING):
        tracked = fit(tmp_path / "tracked", pinned=3, trackers=("tensorboard",))
    assert torch.equal(weights(plain), weights(tracked))
    assert tracked.history == plain.history
    assert tracked.certificate.runs[0].mechanism == plain.certificate.runs[0].mechanism
    assert fake.finished == 1
    assert len(fake.sent) == (1 if "log" in where else STEPS + 1)
    (said,) = [record for record in caplog.records if record.name.startswith("dpft")]
    assert said.getMessage() == (
        "Tracker tensorboard failed (OSError) and is told nothing more. The run goes on."
    )
    assert said.exc_info is None
    assert SECRET not in caplog.text


def test_a_tracker_that_cannot_start_ends_the_run_before_its_first_step(
    fake: Fake, tmp_path: Path
) -> None:
    fake.fails_at = "start"
    with pytest.raises(ConfigurationError, match="Expected tracker=tensorboard to start"):
        fit(tmp_path / "runs" / "run", trackers=("tensorboard",))
    assert not (tmp_path / "runs" / "run" / "charges.jsonl").exists()
    assert not fake.sent
    assert not PartialState._shared_state


def test_what_ends_a_run_is_not_told(fake: Fake, tmp_path: Path) -> None:
    def crash(_: Progress) -> None:
        raise KeyError(SECRET)

    privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=10, steps=STEPS)
    with pytest.raises(KeyError):
        dpft.fit(
            build(),
            records(),
            loss=Classification(),
            privacy=privacy,
            adapter=LORA,
            out=tmp_path / "run",
            on_step=crash,
            options=FitOptions(trackers=("tensorboard",)),
        )
    assert [step for step, _ in fake.sent] == [1]
    assert fake.finished == 1
    assert SECRET not in str(fake)


def test_released_metrics_follow_where_the_caller_holds_the_trackers(
    fake: Fake, tmp_path: Path
) -> None:
    with Tracking(["tensorboard"], {"task": "visits"}) as tracking:
        fit(tmp_path / "run", trackers=tracking)
        assert fake.finished == 0
        values = {"accuracy": 0.5, "raw_loss": 2.0}
        tracking.after_evaluation(values, {"accuracy": {"status": "public"}})
    assert fake.sent[-1] == (STEPS, {"accuracy": 0.5})
    assert fake.settings["task"] == "visits"
    assert fake.finished == 1


def test_trackers_of_one_run_are_not_used_for_another(fake: Fake, tmp_path: Path) -> None:
    plan = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=10, steps=1).plan(40)
    with Tracking(["tensorboard"]) as tracking:
        tracking.start(tmp_path, plan, dpft.Optim())
        with pytest.raises(ConfigurationError, match="used for one run"):
            tracking.start(tmp_path, plan, dpft.Optim())


@pytest.mark.parametrize("given", [("tensorboard",), Tracking(["tensorboard"])])
def test_trackers_without_a_run_folder_are_refused(given: Any, fake: Fake) -> None:
    with pytest.raises(ConfigurationError, match="out to be given with trackers=tensorboard"):
        fit(None, trackers=given)


def test_an_unknown_tracker_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean tensorboard"):
        fit(tmp_path / "run", trackers=("tensorbord",))
    assert not (tmp_path / "run").exists()


def test_without_trackers_nothing_is_started(fake: Fake, tmp_path: Path) -> None:
    fit(tmp_path / "run")
    assert fake == Fake()
    assert not (tmp_path / "run" / "trackers").exists()
    assert not PartialState._shared_state


def test_a_state_of_accelerate_that_was_there_stays(fake: Fake, tmp_path: Path) -> None:
    PartialState(cpu=True)
    fit(tmp_path / "run", trackers=("tensorboard",))
    assert PartialState._shared_state


def test_a_run_that_died_before_its_first_step_can_be_resumed_with_its_trackers(
    tmp_path: Path,
) -> None:
    (tmp_path / "run" / "trackers").mkdir(parents=True)
    assert RunFolder.reopen(tmp_path / "run").path == tmp_path / "run"
