"""The same sums by peft; mergekit is checked where there is one."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dpft.recipes.editing.judging import Judges
from dpft.recipes.editing.others import MERGEKIT_METHODS, by_mergekit, by_peft
from dpft.recipes.editing.runs import Place, TrainingRun, vector_of
from dpft.taskvectors import TaskVector

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
NAME = "bert.encoder.layer.2.attention.self.query.weight"


@pytest.fixture
def vectors(place: Place, runs: dict[str, TrainingRun]) -> list[TaskVector]:
    return [vector_of(place, runs["trec"]), vector_of(place, runs["sst2"])]


def change(base: nn.Module, edited: nn.Module) -> torch.Tensor:
    moved: torch.Tensor = edited.state_dict()[NAME] - base.state_dict()[NAME]
    return moved


def test_concatenation_by_peft_is_our_sum(judges: Judges, vectors: list[TaskVector]) -> None:
    ours = sum(vectors, TaskVector()).apply_to(judges.base, 0.5)
    theirs = by_peft(judges.base, vectors, 0.5, "cat")
    torch.testing.assert_close(change(judges.base, theirs), change(judges.base, ours))


def test_linear_by_peft_counts_a_shared_first_factor_twice(
    judges: Judges, vectors: list[TaskVector]
) -> None:
    ours = sum(vectors, TaskVector()).apply_to(judges.base, 0.5)
    theirs = by_peft(judges.base, vectors, 0.5, "linear")
    torch.testing.assert_close(change(judges.base, theirs), 2 * change(judges.base, ours))


def test_the_base_stays_as_it_is(judges: Judges, vectors: list[TaskVector]) -> None:
    before = {name: value.clone() for name, value in judges.base.state_dict().items()}
    by_peft(judges.base, vectors, 1.0, "cat")
    after = judges.base.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", MERGEKIT_METHODS)
def test_mergekit_is_told_to_sum_and_not_to_average(
    judges: Judges, vectors: list[TaskVector], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, object]] = []

    def run(command: list[str], **_: object) -> None:
        config = json.loads(Path(command[3]).read_text(encoding="utf-8"))
        seen.append(config)
        Path(config["models"][0]["model"]).rename(command[4])

    monkeypatch.setattr("dpft.recipes.editing.others.subprocess.run", run)
    made = by_mergekit("python", judges.base, vectors, 1.0, method)
    assert seen[0]["parameters"] == {"normalize": False, "lambda": 1.0}
    expected = change(judges.base, vectors[0].apply_to(judges.base))
    torch.testing.assert_close(change(judges.base, made), expected)
