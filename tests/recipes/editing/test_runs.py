"""Training runs: heads that stay, first factors that agree, and interruptions that cost nothing."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from dpft.adapters import AdapterName
from dpft.adapters.algebra import LowRank
from dpft.errors import ConfigurationError
from dpft.losses import Classification, Pooling
from dpft.recipes.editing import runs as module
from dpft.recipes.editing.runs import (
    Place,
    Schedule,
    TrainingRun,
    finished,
    load_for,
    train,
    vector_of,
)
from dpft.recipes.tasks.corpora import CorpusName

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def test_sums_of_one_repetition_are_exact_at_constant_rank(
    place: Place, runs: dict[str, TrainingRun]
) -> None:
    total = sum((vector_of(place, run) for run in runs.values()), vector_of(place, runs["trec"]))
    parts = [total.delta.parts[name] for name in total.delta.parts]
    assert parts
    assert all(isinstance(part, LowRank) and part.right.shape[0] == 16 for part in parts)


def test_the_last_layers_alone_are_trained(place: Place, runs: dict[str, TrainingRun]) -> None:
    places = set(vector_of(place, runs["trec"]).delta.parts)
    assert len(places) == 12
    assert all(".layer.1." in name or ".layer.2." in name for name in places)


def test_every_run_leaves_its_certificate(place: Place, runs: dict[str, TrainingRun]) -> None:
    vector = vector_of(place, runs["texts"])
    assert vector.certificate is not None
    [run] = vector.certificate.runs
    assert run.dataset_id == "goods_texts"
    assert 0 < vector.certificate.epsilon(1e-5) <= 8


def test_a_finished_run_is_not_trained_again(
    place: Place, runs: dict[str, TrainingRun], short: Schedule
) -> None:
    assert finished(place, runs["trec"])
    with pytest.raises(ConfigurationError, match="not to be finished"):
        train(place, runs["trec"], short)


def test_names_tell_all_runs_apart(runs: dict[str, TrainingRun]) -> None:
    run = runs["trec"]
    others = [
        dataclasses.replace(run, epsilon=None),
        dataclasses.replace(run, repetition=1),
        dataclasses.replace(run, adapter=AdapterName.LORA),
        dataclasses.replace(run, corpus=CorpusName.SST2),
    ]
    assert len({each.name for each in (run, *others)}) == 5


def test_a_head_of_texts_passes_states_through(place: Place) -> None:
    head = load_for(place, CorpusName.GOODS_TEXTS).model.classifier
    assert torch.equal(head.weight, torch.eye(128))
    assert not head.bias.any()


def test_a_run_without_privacy_has_no_epsilon(
    place: Place, tmp_path: Path, runs: dict[str, TrainingRun], short: Schedule
) -> None:
    run = dataclasses.replace(runs["sst2"], epsilon=None)
    facts = train(dataclasses.replace(place, runs=tmp_path), run, short)
    assert facts["epsilon_spent"] is None
    assert facts["noise_multiplier"] == 0


def test_an_interrupted_run_goes_on_where_it_stopped(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: dict[str, TrainingRun]
) -> None:
    elsewhere, run = dataclasses.replace(place, runs=tmp_path), runs["trec"]
    schedule = Schedule(batch=8, steps=4, learning_rate=1e-2)
    calls: list[int] = []

    class Interrupted(Classification):
        def __call__(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            progress = (tmp_path / run.name / "charges.jsonl").exists()
            calls.extend([1] * progress)
            if len(calls) > 2:
                raise KeyboardInterrupt
            return super().__call__(model, batch)

    with monkeypatch.context() as patched:
        patched.setattr(module, "Classification", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(elsewhere, run, schedule)
    assert not finished(elsewhere, run)
    facts = train(elsewhere, run, schedule)
    assert finished(elsewhere, run)
    assert facts["cpu_seconds"] is None
    assert facts["steps"] == 4
    assert facts["updates"] >= 3
    assert Pooling.MEAN.value == "mean"
