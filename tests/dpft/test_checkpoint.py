"""Checkpoints are whole or absent, exact to the bit, and hold nothing but released values."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dpft
from dpft.checkpoint import Checkpoint, Checkpoints
from dpft.errors import BrokenGuaranteeError
from dpft.optim import Averaging, Optim, OptimizerName
from dpft.optimisation import Optimisation

RUN = "a" * 32
FILES = {"weights.safetensors", "optimisation.safetensors", "optimisation.json", "state.json"}


def checkpoint(intended: int, updates: int | None = None, **optimisation: Any) -> Checkpoint:
    generator = torch.Generator().manual_seed(intended)
    weights = {"w": torch.randn(3, 2, generator=generator), "b": torch.randn((), dtype=torch.half)}
    return Checkpoint(
        intended=intended,
        updates=updates or intended,
        weights=weights,
        optimisation=optimisation or {"lr": 0.1},
    )


def saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder / "checkpoints")
    for step in steps:
        checkpoints.save(checkpoint(step), RUN)
    return checkpoints


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def same(one: Any, other: Any) -> bool:
    """Tell whether two states are equal to the bit, kinds of numbers included."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("name", list(OptimizerName))
def test_the_state_of_every_optimiser_comes_back_to_the_bit(
    tmp_path: Path, name: OptimizerName
) -> None:
    privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=2, steps=7)
    optim = Optim(name=name, averaging=Averaging.EMA, warmup_steps=2)
    model = nn.Linear(3, 2)
    optimisation = Optimisation.of(model, optim, privacy.plan(20))
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimisation.optimizer.step()
        optimisation.advance()
    state = optimisation.state_dict()
    if name is OptimizerName.ADAM:
        assert isinstance(state["optimizer"]["state"]["0"]["step"], torch.Tensor)
    before = Checkpoint(
        intended=3, updates=3, weights=dict(model.named_parameters()), optimisation=state
    )
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(before, RUN)
    after = checkpoints.newest([RUN], 3)
    assert after is not None
    assert same(state, after.optimisation)
    assert same({n: p.detach() for n, p in before.weights.items()}, dict(after.weights))
    other = nn.Linear(3, 2)
    resumed = Optimisation.of(other, optim, privacy.plan(20))
    resumed.load_state_dict(dict(after.optimisation))
    assert same(state, resumed.state_dict())


def test_tensors_and_numbers_of_every_kind_come_back(tmp_path: Path) -> None:
    optimisation: dict[str, Any] = {
        "tensor": {"tensor": [torch.tensor(3, dtype=torch.int64), torch.zeros(0)]},
        "entries": [1, 1.0, 0.1 + 0.2, 1e-310, True, None, "x", [], {}],
        "bfloat16": torch.randn(4).bfloat16(),
        "view": torch.arange(6.0).view(2, 3).T,
    }
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    before = checkpoint(4, updates=2, **optimisation)
    checkpoints.save(before, RUN)
    after = checkpoints.newest(["other", RUN], 9)
    assert after is not None
    assert (after.intended, after.updates) == (4, 2)
    assert same(before.weights, dict(after.weights))
    assert same(optimisation, after.optimisation)


def test_what_only_pickle_could_store_is_refused(tmp_path: Path) -> None:
    for value in (object(), (1, 2), {1: 2}, {1, 2}):
        with pytest.raises(TypeError):
            Checkpoints(tmp_path / "checkpoints").save(checkpoint(1, value=value), RUN)
    assert Checkpoints(tmp_path / "checkpoints").newest([RUN], 1) is None


def test_the_last_two_are_kept_and_nothing_else_lies_about(tmp_path: Path) -> None:
    saved(tmp_path, 5, 10, 999_999, 1_000_000)
    assert names(tmp_path) == ["step_1000000", "step_999999"]
    for folder in (tmp_path / "checkpoints").iterdir():
        assert {path.name for path in folder.iterdir()} == FILES


def test_the_newest_is_read(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 999_999, 1_000_000)
    found = checkpoints.newest([RUN], 2_000_000)
    assert found is not None
    assert found.intended == 1_000_000
    assert same(checkpoint(1_000_000).weights["w"], found.weights["w"])


@pytest.mark.parametrize("file", sorted(FILES))
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped"])
def test_a_damaged_one_is_skipped_for_the_one_before(
    tmp_path: Path, file: str, damage: str
) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    path = tmp_path / "checkpoints" / "step_000010" / file
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage in {"cut", "empty"}:
        path.write_bytes(content[: -4 if damage == "cut" else 0])
    else:
        place = content.index(b"updates") + 11 if file == "state.json" else len(content) - 3
        content[place] ^= 64
        path.write_bytes(content)
    found = checkpoints.newest([RUN], 10)
    assert found is not None
    assert found.intended == 5


@pytest.mark.parametrize("file", ["state.json", "weights.safetensors"])
def test_one_with_a_file_of_another_is_damaged(tmp_path: Path, file: str) -> None:
    checkpoints, folder = saved(tmp_path, 5, 10), tmp_path / "checkpoints"
    shutil.copy(folder / "step_000005" / file, folder / "step_000010" / file)
    found = checkpoints.newest([RUN], 10)
    assert found is not None
    assert found.intended == 5


@pytest.mark.parametrize("bit", [0, 6])
def test_a_flipped_bit_anywhere_in_the_state_is_damage_and_no_other_run(
    tmp_path: Path, bit: int
) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    path = tmp_path / "checkpoints" / "step_000010" / "state.json"
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        found = checkpoints.newest([RUN], 10)
        assert found is not None
        assert found.intended == 5


@pytest.mark.parametrize("text", ["3", "null", "[]", '"x"', "{}", "[" * 100_000])
def test_a_state_of_another_form_is_damage(tmp_path: Path, text: str) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    (tmp_path / "checkpoints" / "step_000010" / "state.json").write_text(text)
    found = checkpoints.newest([RUN], 10)
    assert found is not None
    assert found.intended == 5


def test_damaged_ones_of_later_steps_do_not_displace_what_was_just_written(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 20, 30)
    for folder in (tmp_path / "checkpoints").iterdir():
        (folder / "state.json").unlink()
    checkpoints.save(checkpoint(10), RUN)
    found = checkpoints.newest([RUN], 10)
    assert found is not None
    assert found.intended == 10


def test_all_damaged_is_as_none(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5, 10)
    for folder in (tmp_path / "checkpoints").iterdir():
        (folder / "state.json").write_text("{}")
    assert checkpoints.newest([RUN], 10) is None
    assert Checkpoints(tmp_path / "absent").newest([RUN], 10) is None


def test_a_renamed_one_is_damaged(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5)
    (tmp_path / "checkpoints" / "step_000005").rename(tmp_path / "checkpoints" / "step_000007")
    assert checkpoints.newest([RUN], 10) is None


def test_a_checkpoint_whose_steps_are_not_charged_is_refused(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5)
    for runs, intended in (([RUN], 4), (["b" * 32], 5), ([], 0)):
        with pytest.raises(BrokenGuaranteeError, match="charged elsewhere"):
            checkpoints.newest(runs, intended)


def test_a_crash_while_writing_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = saved(tmp_path, 5)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dpft.checkpoint.os.replace", crash)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(checkpoint(10), RUN)
    found = checkpoints.newest([RUN], 10)
    assert found is not None
    assert found.intended == 5
    checkpoints.save(checkpoint(11), RUN)
    assert names(tmp_path) == ["step_000005", "step_000011"]


def test_every_file_is_on_the_disk_before_the_checkpoint_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def replace(draft: Path, path: Path) -> None:
        events.append("replace")
        shutil.move(draft, path)

    monkeypatch.setattr("dpft.checkpoint.make_durable", lambda path: events.append(path.name))
    monkeypatch.setattr("dpft.checkpoint.os.replace", replace)
    saved(tmp_path, 5)
    before, after = events[: events.index("replace")], events[events.index("replace") + 1 :]
    assert set(before) == {*FILES, ".step_000005.draft"}
    assert before[-1] == ".step_000005.draft"
    assert after[0] == "checkpoints"


def test_a_damaged_one_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 5)
    (tmp_path / "checkpoints" / "step_000005" / "state.json").unlink()
    checkpoints.save(checkpoint(5), RUN)
    assert checkpoints.newest([RUN], 5) is not None


def test_the_state_says_how_many_steps_and_nothing_of_a_sample(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    state = json.loads((tmp_path / "checkpoints" / "step_000005" / "state.json").read_text())
    assert set(state) == {"digest", "format_version", "run_id", "intended", "updates", "files"}
