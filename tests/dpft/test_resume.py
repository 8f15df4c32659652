"""A run that is interrupted and resumed is the run it would have been, or a shorter one."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import dpft
from dpft.accounting import Certificate
from dpft.checkpoint import Checkpoint, Checkpoints
from dpft.continuity import Iterate
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.fingerprint import fingerprint
from dpft.losses import Classification
from dpft.optim import Averaging, Optim, OptimizerName
from dpft.performance import Performance
from dpft.privacy import ClippingStyle, PrivacyMode
from dpft.private_step import StepSettings
from dpft.progress import Progress
from dpft.randomness import PinnedRandomness, SecretRandomness
from dpft.training import FitOptions

RECORDS, STEPS, EVERY = 80, 8, 4
PRIVACY = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=20, steps=STEPS)
NOT_PRIVATE = dataclasses.replace(PRIVACY, noise_multiplier=None, mode=PrivacyMode.NOT_PRIVATE)
LORA = LoraConfig(
    task_type="SEQ_CLS",
    target_modules=["query", "value"],
    r=2,
    lora_dropout=0.2,
    modules_to_save=["classifier"],
)
PINNED = StepSettings(randomness=PinnedRandomness(3))
EMA = Optim(averaging=Averaging.EMA, learning_rate=0.05)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def build(width: int = 16, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=30,
        num_labels=2,
    )
    return BertForSequenceClassification(config)  # with dropout, as BERT has it


def records(count: int = RECORDS) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for index in range(count):
        words = torch.randint(5, 30, (2 + index % 5,), generator=generator).tolist()
        ids = [3 + index % 2, *words]
        made.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2})
    return made


def fit(out: Path | None = None, **arguments: Any) -> dpft.FitResult:
    options = {"checkpoint_every": None if out is None else EVERY, "resume": out is not None}
    options |= {key: arguments.pop(key) for key in ("step", "seed", "resume") if key in arguments}
    settings = {
        "loss": Classification(),
        "privacy": PRIVACY,
        "adapter": LORA,
        "options": FitOptions(**options),
        **arguments,
    }
    model = settings.pop("model", None) or build()
    return dpft.fit(model, settings.pop("records", None) or records(), out=out, **settings)


def stop_after(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def interrupted(out: Path, last: int, **arguments: Any) -> Path:
    with pytest.raises(KeyboardInterrupt):
        fit(out, on_step=stop_after(last), **arguments)
    return out


def charged(out: Path, kind: str = "intend") -> list[int]:
    entries = [entry for entry in map(json.loads, lines_of(out)) if isinstance(entry, dict)]
    return [entry[kind] for entry in entries if kind in entry]


def lines_of(out: Path) -> list[str]:
    return (out / "charges.jsonl").read_text(encoding="utf-8").splitlines()


def weights(result: dpft.FitResult) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in result.model.state_dict().items()}


def last_checkpoint(out: Path) -> dict[str, bytes]:
    folder = out / "checkpoints" / f"step_{STEPS:06d}"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "state.json"}


SETUPS: dict[str, dict[str, Any]] = {
    "adam": {"optim": Optim(learning_rate=0.05, warmup_steps=2)},
    "adam_bc": {"optim": Optim(name=OptimizerName.ADAM_BC)},
    "ema": {"optim": EMA},
    "sgd": {"optim": Optim(name=OptimizerName.SGD)},
    "not private": {"privacy": NOT_PRIVATE},
    "no adapter": {"adapter": None},
}


@pytest.mark.parametrize("setup", SETUPS)
def test_stopped_exactly_at_a_checkpoint_resuming_is_as_no_interruption(
    tmp_path: Path, setup: str
) -> None:
    arguments = {"step": PINNED} | SETUPS[setup]
    whole = fit(tmp_path / "whole", **arguments)
    resumed = fit(interrupted(tmp_path / "cut", EVERY, **arguments), **arguments)
    one, other = weights(whole), weights(resumed)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert last_checkpoint(tmp_path / "whole") == last_checkpoint(tmp_path / "cut")  # optimiser too
    assert resumed.history == dataclasses.replace(whole.history, starts=2)
    assert resumed.history.lost == 0


def test_dropout_is_on_in_these_runs() -> None:
    model = build().train()
    batch = {"input_ids": torch.ones(2, 3, dtype=torch.long)}
    assert not torch.equal(model(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("step", [1, 3, 6, STEPS])
def test_steps_after_the_checkpoint_are_charged_and_never_taken_again(
    tmp_path: Path, step: int
) -> None:
    result = fit(interrupted(tmp_path / "run", step))
    kept = step // EVERY * EVERY
    assert charged(tmp_path / "run") == list(range(1, STEPS + 1))
    assert dataclasses.astuple(result.history) == (2, STEPS, STEPS - step + kept)
    assert result.certificate.runs[0].mechanism == result.plan.mechanism(STEPS)
    assert result.epsilon == result.plan.epsilon()


def test_what_several_interruptions_lost_adds_up(tmp_path: Path) -> None:
    out = interrupted(interrupted(tmp_path / "run", 2), 6)  # two steps are lost each time
    assert dataclasses.astuple(fit(out).history) == (3, STEPS, STEPS - 4)
    assert charged(out) == list(range(1, STEPS + 1))


def test_the_schedule_ends_at_its_end_although_steps_were_lost(tmp_path: Path) -> None:
    for step in (2, 6):  # before the first checkpoint, and after one
        out = tmp_path / str(step)
        fit(interrupted(out, step))
        state = json.loads((out / "checkpoints/step_000008/optimisation.json").read_text())
        scheduler = state["entries"]["scheduler"]["entries"]
        assert scheduler["last_epoch"] == STEPS
        assert scheduler["_last_lr"] == [0.0]


def test_the_last_planned_step_ends_the_run_also_if_it_was_lost(tmp_path: Path) -> None:
    out = interrupted(tmp_path / "run", STEPS)
    shutil.rmtree(out / "checkpoints" / f"step_{STEPS:06d}")
    before = weights_of_checkpoint(out)
    result = fit(out)
    assert dataclasses.astuple(result.history) == (2, STEPS, EVERY)
    assert math.isnan(result.examples_per_second)
    trained = {n: p.detach() for n, p in result.model.named_parameters() if p.requires_grad}
    assert all(torch.equal(before[name], trained[name]) for name in trained)


def weights_of_checkpoint(out: Path) -> dict[str, torch.Tensor]:
    names = [json.loads(line).get("name") for line in lines_of(out)]
    found = Checkpoints(out / "checkpoints").newest([name for name in names if name], STEPS)
    assert found is not None
    return dict(found.weights)


def test_the_average_is_released_also_when_only_the_end_is_left(tmp_path: Path) -> None:
    arguments = {"step": PINNED, "optim": EMA}
    whole = fit(tmp_path / "whole", **arguments)
    resumed = fit(interrupted(tmp_path / "cut", STEPS, **arguments), **arguments)
    one, other = weights(whole), weights(resumed)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_damaged_checkpoint_costs_updates_and_no_privacy(tmp_path: Path) -> None:
    out = interrupted(tmp_path / "run", 6)
    (out / "checkpoints" / "step_000004" / "weights.safetensors").write_bytes(b"")
    result = fit(out)
    assert dataclasses.astuple(result.history) == (2, STEPS, STEPS - 6)
    assert result.epsilon == result.plan.epsilon()


def test_every_start_has_a_fresh_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []
    original = SecretRandomness.__init__

    def remembering(self: SecretRandomness) -> None:
        original(self)
        keys.append(self._key)

    monkeypatch.setattr(SecretRandomness, "__init__", remembering)
    fit(interrupted(tmp_path / "run", 5))
    assert len(keys) == len(set(keys)) == 2


def test_the_report_tells_of_the_interruption(tmp_path: Path) -> None:
    result = fit(interrupted(tmp_path / "run", 6))
    assert result.report is not None
    text = result.report.read_text(encoding="utf-8")
    for line in (
        "| Starts of the process | 2 |",
        f"| Steps charged | {STEPS} |",
        f"| Updates kept | {STEPS - 2} |",
        "| Steps lost but charged | 2 |",
        "The run was interrupted and resumed",
    ):
        assert line in text


def refused(out: Path, **arguments: Any) -> ConfigurationError:
    before = (out / "charges.jsonl").read_bytes()
    with pytest.raises(ConfigurationError) as caught:
        fit(out, **arguments)
    assert (out / "charges.jsonl").read_bytes() == before
    return caught.value


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interrupted(tmp_path_factory.mktemp("stopped") / "run", EVERY)


def copied(out: Path, folder: Path) -> Path:
    """Copy a run together with its ledger, which lies beside it."""
    return shutil.copytree(out.parent, folder) / out.name


def other_lora(**changes: Any) -> LoraConfig:
    return LoraConfig(**({"task_type": "SEQ_CLS", "r": 2, "lora_dropout": 0.2} | changes))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"privacy": {"expected_batch_size": 10}}, ["sample_rate", "expected_batch_size"]),
        ({"privacy": {"noise_multiplier": 1.1}}, ["privacy.noise_multiplier=1.1 to be 1.0"]),
        ({"privacy": {"clip_norm": 2.0}}, ["privacy.clip_norm=2.0 to be 1.0"]),
        ({"privacy": {"clipping": ClippingStyle.FLAT}}, ["privacy.clipping='flat' to be 'auto_s'"]),
        ({"privacy": {"num_records": RECORDS}}, ["privacy.adjacency='add_or_remove'"]),
        ({"privacy": {"num_records": 90}}, ["privacy.num_records=90 to be 80"]),
        ({"privacy": {"steps": 9}}, ["privacy.steps=9 to be 8"]),
        ({"privacy": {"delta": 1e-4}}, ["privacy.delta=0.0001 to be 0.001"]),
        ({"privacy": {"dataset_id": "b"}}, ["privacy.dataset_id='b' to be 'unnamed'"]),
        ({"records": records(81)}, ["privacy.num_records=81 to be 80"]),
        ({"optim": Optim(learning_rate=1.0)}, ["optim.learning_rate=1.0 to be 0.002"]),
        ({"optim": EMA}, ["optim.averaging='ema' to be 'none'"]),
        ({"adapter": other_lora(target_modules=["key"])}, ["adapter.default.target_modules"]),
        ({"adapter": other_lora(target_modules=["query", "value"], lora_alpha=1)}, ["lora_alpha"]),
        ({"model": build(width=32)}, ["parameter.base_model.model.bert", "base model"]),
        ({"model": build(seed=1)}, ["base model="]),
        ({"step": PINNED}, ["generator='pinned for a test"]),
        ({"privacy": {"noise_multiplier": None, "mode": "not_private"}}, ["privacy.mode"]),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, list) else None,
)
def test_another_run_is_refused_by_the_name_of_what_differs(
    stopped: Path, arguments: dict[str, Any], names: list[str]
) -> None:
    if "privacy" in arguments:
        arguments = {"privacy": dataclasses.replace(PRIVACY, **arguments["privacy"])}
    error = refused(stopped, **arguments)
    for name in names:
        assert name in str(error)
    assert all("Resume with the settings" in message for message in error.messages)


def test_speed_and_checkpoints_may_differ(stopped: Path, tmp_path: Path) -> None:
    out = copied(stopped, tmp_path / "copy")
    options = FitOptions(resume=True, checkpoint_every=1)
    result = fit(out, performance=Performance(max_physical_batch=3), options=options)
    assert result.history.lost == 0
    assert (out / "checkpoints" / "step_000007").exists()


def test_a_pinned_run_never_becomes_a_private_one(tmp_path: Path) -> None:
    out = interrupted(tmp_path / "run", EVERY, step=PINNED)
    assert "generator=" in str(refused(out))


def test_copies_that_are_both_resumed_are_two_runs_to_the_certificate(
    stopped: Path, tmp_path: Path
) -> None:
    copies = [copied(stopped, tmp_path / name) for name in ("one", "other")]
    runs = [fit(copy).certificate.runs[0] for copy in copies]
    both = Certificate(runs=tuple(runs))
    assert both.epsilon() > Certificate(runs=(runs[0],)).epsilon()


def test_a_model_interrupted_while_it_is_restored_is_marked(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Iterate.restore

    def restore(iterate: Iterate, checkpoint: Checkpoint) -> None:
        plain(iterate, checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(Iterate, "restore", restore)
    model = build()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, model=model)
    monkeypatch.undo()
    with pytest.raises(BrokenGuaranteeError, match="no run has trained"):
        fit(model=model)


def test_a_finished_run_is_refused(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    assert "to be unfinished" in str(refused(tmp_path / "run"))


def test_without_resume_the_folder_of_an_interrupted_run_is_refused(stopped: Path) -> None:
    assert "run.resume" in str(refused(stopped, resume=False))


@pytest.mark.parametrize("cut_at", ["write_report", "_save_adapter", "_certify", "write_whole"])
def test_what_was_not_written_at_the_end_is_written_by_resuming(
    tmp_path: Path, cut_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"dpft.artefacts.{cut_at}", cut)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "run")
    result = fit(tmp_path / "run")
    assert dataclasses.astuple(result.history) == (2, STEPS, STEPS)
    assert result.report is not None
    assert result.report.is_file()
    text = (tmp_path / "run" / "certificate.json").read_text(encoding="utf-8")
    assert Certificate.from_json(text) == result.certificate
    hidden = [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    assert not hidden


def test_an_absent_or_empty_folder_is_a_new_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        assert fit(tmp_path / name).history.starts == 1


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigurationError, match="absent or empty"):
        fit(tmp_path)


@pytest.mark.parametrize(
    ("raised", "ends_in"), [(MemoryError, torch.OutOfMemoryError), (ValueError, ValueError)]
)
def test_a_run_with_a_failed_step_is_not_resumed(
    tmp_path: Path, raised: type[Exception], ends_in: type[Exception]
) -> None:
    failed = False

    def failing(model: nn.Module, batch: Any) -> torch.Tensor:
        nonlocal failed
        losses = Classification()(model, batch)
        failed = failed or len(losses) > 5  # only ever a private batch
        if failed:  # however finely it is cut from then on
            raise raised
        return losses

    cut = Performance(max_physical_batch=8)
    with pytest.raises(ends_in):
        fit(tmp_path / "run", loss=failing, performance=cut)
    assert json.loads(lines_of(tmp_path / "run")[-1]) == ["failed", 1]
    before = (tmp_path / "run" / "charges.jsonl").read_bytes()
    with pytest.raises(BrokenGuaranteeError, match="Start a new run"):
        fit(tmp_path / "run")
    assert (tmp_path / "run" / "charges.jsonl").read_bytes() == before


def test_charges_put_back_from_a_backup_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    lines: list[bytes] = []

    def backup(progress: Progress) -> None:
        if progress.step == 2:
            lines.append((out / "charges.jsonl").read_bytes())
        stop_after(5)(progress)

    with pytest.raises(KeyboardInterrupt):
        fit(out, on_step=backup)
    (out / "charges.jsonl").write_bytes(lines[0])
    with pytest.raises(BrokenGuaranteeError, match="charged elsewhere"):
        fit(out)


def test_the_lock_is_let_go_when_a_run_is_interrupted_or_refused(stopped: Path) -> None:
    for _ in range(2):
        assert "steps=9" in str(refused(stopped, privacy=dataclasses.replace(PRIVACY, steps=9)))


def test_charges_and_checkpoints_need_a_folder() -> None:
    for options in (FitOptions(resume=True), FitOptions(checkpoint_every=2)):
        with pytest.raises(ConfigurationError, match="Give out"):
            fit(None, options=options)
    with pytest.raises(ConfigurationError, match="checkpoint_every=0 >= 1"):
        fit(Path("never"), options=FitOptions(checkpoint_every=0))


def test_a_run_without_a_folder_has_a_history_too() -> None:
    assert dataclasses.astuple(fit().history) == (1, STEPS, STEPS)


def test_about_ten_checkpoints_are_written_unless_asked_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def save(self: Checkpoints, checkpoint: Checkpoint, run: str) -> None:
        steps.append(checkpoint.intended)

    monkeypatch.setattr(Checkpoints, "save", save)
    fit(tmp_path / "run", privacy=dataclasses.replace(PRIVACY, steps=25), options=FitOptions())
    assert steps == [3, 6, 9, 12, 15, 18, 21, 24, 25]


def test_a_checkpoint_holds_trained_tensors_and_no_frozen_ones(stopped: Path) -> None:
    found = Checkpoints(stopped / "checkpoints").newest(
        [json.loads(line).get("name") for line in lines_of(stopped)], STEPS
    )
    assert found is not None
    assert all("lora_" in name or "modules_to_save" in name for name in found.weights)


def test_the_digest_is_of_what_is_frozen_and_of_nothing_trained() -> None:
    linear, norm = nn.Linear(2, 2), nn.BatchNorm1d(2)
    model = nn.Sequential(linear, norm)
    linear.weight.requires_grad_(requires_grad=False)

    def digest() -> object:
        plan = PRIVACY.plan(RECORDS)
        return fingerprint(model, plan, Optim(), generator="x")["base model"]

    before = digest()
    with torch.no_grad():
        linear.bias.add_(1)
    assert digest() == before
    with torch.no_grad():
        norm.running_mean.add_(1)
    changed = digest()
    assert changed != before
    with torch.no_grad():
        linear.weight[1, 1] += 1
    assert digest() != changed


def test_records_leave_no_trace_in_the_fingerprint(tmp_path: Path) -> None:
    one = interrupted(tmp_path / "one", 1)
    others = [{**row, "input_ids": [9] * len(row["input_ids"])} for row in records()]
    other = interrupted(tmp_path / "other", 1, records=others)
    headers = [json.loads(lines_of(run)[0]) for run in (one, other)]
    assert headers[0]["fingerprint"] == headers[1]["fingerprint"]
