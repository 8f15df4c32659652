"""The training runs behind the experiments: which there are, and how one is carried out or resumed.

A run trains an adapter on the last two layers under a head that is made of words and stays as it
is. The first factors of FFA-LoRA come from one public seed for all tasks of a repetition, so that
sums are exact at constant rank.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import dpft
from dpft import adapters
from dpft.adapters import AdapterName
from dpft.engine.attachment import PerRecordLoss
from dpft.errors import ConfigurationError
from dpft.losses import Classification, Pooling
from dpft.optim import Optim
from dpft.privacy import Privacy, PrivacyMode
from dpft.recipes.config.schema import Architecture
from dpft.recipes.editing.objectives import Ascent, Objective, word_embeddings
from dpft.recipes.heads import start_from_descriptions
from dpft.recipes.models import LoadedModel, load, quiet_peft
from dpft.recipes.tasks import Split
from dpft.recipes.tasks.corpora import CORPORA, CorpusName
from dpft.recipes.tasks.corpus import CorpusSettings, CorpusTask
from dpft.run_folder import RunFolder
from dpft.taskvectors import TaskVector
from dpft.training import FitOptions, FitResult

__all__ = [
    "TRAINED_LAYERS",
    "Place",
    "Schedule",
    "TrainingRun",
    "finished",
    "load_for",
    "train",
    "vector_of",
]

TRAINED_LAYERS = 2
_PARTS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_DELTA = 1e-5
_LONGEST = 32  # tokens; what is longer is cut
_FIRST_WORD, _WORDS = 1996, 4096  # BERT's vocabulary holds the most frequent words first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a run is.

    Args:
        batch: Expected batch size.
        steps: Optimiser steps.
        learning_rate: Of Adam, decaying to 0.

    Privacy:
        Nothing, no data touched.
    """

    batch: int
    steps: int
    learning_rate: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One training run.

    Args:
        corpus: What it is trained on.
        objective: What for.
        epsilon: Target at delta 1e-5; None without privacy.
        repetition: Number of the repetition: the public seed of the first factors. Sampling and
            noise are drawn afresh from the operating system.
        adapter: FFA-LoRA or LoRA.

    Privacy:
        Nothing, no data touched.
    """

    corpus: CorpusName
    objective: Objective = Objective.LABELS
    epsilon: float | None = None
    repetition: int = 0
    adapter: AdapterName = AdapterName.FFA_LORA

    @property
    def name(self) -> str:
        """Name of the run folder."""
        kind = [self.adapter.value, self.corpus.value, self.objective.value]
        return "-".join([*kind, f"eps_{self.epsilon or 'inf'}", f"rep_{self.repetition}"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where models, data and run folders are.

    Args:
        runs: Folder of all run folders.
        model: Folder of the base model, a BERT, or "embedded".
        data: The data folder; None: that of the assets.
        ledger: File of the ledger; None: where `dpft train` keeps it.

    Privacy:
        Nothing, no data touched.
    """

    runs: Path
    model: str
    data: str | None = None
    ledger: Path | None = None

    def folder(self, run: TrainingRun) -> Path:
        """Return the folder of a run."""
        return self.runs / run.name

    def task(self, corpus: CorpusName, **settings: Any) -> CorpusTask:
        """Return the task of a corpus in this place."""
        return CorpusTask(CorpusSettings(corpus=corpus, path=self.data, **settings))


def load_for(place: Place, corpus: CorpusName, repetition: int = 0) -> LoadedModel:
    """Load the base model with the head that a corpus describes.

    Args:
        place: Where the model is.
        corpus: The corpus; one without labels gets a head that passes states through.
        repetition: Seed of what is drawn and then overwritten.

    Returns:
        The model.

    Privacy:
        Nothing, no data touched.
    """
    described = CORPORA[corpus]
    architecture = Architecture(max_length=_LONGEST)
    if described.is_labelled:
        loaded = load(place.model, architecture, described.labels, repetition)
        start_from_descriptions(loaded, described.descriptions)
        return loaded
    width = load(place.model, architecture, ("text", "other"), repetition).model.config.hidden_size
    loaded = load(place.model, architecture, [f"state {i}" for i in range(width)], repetition)
    with torch.no_grad():
        loaded.model.classifier.weight.copy_(torch.eye(width))
        loaded.model.classifier.bias.zero_()
    return loaded


def finished(place: Place, run: TrainingRun) -> bool:
    """Return whether a run left its adapter and its certificate.

    Privacy:
        Nothing, no data touched.
    """
    return RunFolder(place.folder(run)).is_finished


def vector_of(place: Place, run: TrainingRun) -> TaskVector:
    """Return the vector of a finished run, without its head.

    Privacy:
        Nothing, no data touched: released weights, with the certificate of the run.
    """
    return TaskVector.load(place.folder(run)).without_heads()


def train(place: Place, run: TrainingRun, schedule: Schedule) -> dict[str, Any]:
    """Carry out a run, or go on with one that was interrupted.

    Args:
        place: Where everything is.
        run: The run.
        schedule: How long it is.

    Returns:
        The public numbers of the run, and the processor time of this process for it.

    Raises:
        ConfigurationError: If the run is finished.

    Privacy:
        As `dpft.fit`; the run folder holds its certificate, and the ledger beside it charges it.
    """
    if finished(place, run):
        raise ConfigurationError(
            f"Expected run={run.name} not to be finished. Its folder holds an adapter already. "
            "Remove the folder to train it again."
        )
    began = time.process_time()
    folder = place.folder(run)
    begun = (folder / "charges.jsonl").exists()
    loaded = load_for(place, run.corpus, run.repetition)
    rows = loaded.encode(place.task(run.corpus).load(Split.TRAIN), place.task(run.corpus)).records
    with quiet_peft():
        result = dpft.fit(
            loaded.model,
            rows,
            loss=_loss(run.objective, loaded.model),
            privacy=_privacy(place, run, schedule),
            tokenizer=loaded.tokenizer,
            adapter=_adapter(run, loaded.model),
            optim=Optim(learning_rate=schedule.learning_rate),
            out=folder,
            options=FitOptions(seed=run.repetition, train_head=False, resume=begun),
        )
    seconds = None if begun else round(time.process_time() - began)
    return _facts(result, schedule) | {"cpu_seconds": seconds}


def _loss(objective: Objective, model: nn.Module) -> PerRecordLoss:
    if objective is Objective.LABELS:
        return Classification(Pooling.MEAN)
    if objective is Objective.ASCENT:
        return Ascent(Pooling.MEAN)
    table_ND: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[operator]  # transformers'
    first = min(_FIRST_WORD, len(table_ND) // 2)
    return word_embeddings(table_ND, first, min(_WORDS, len(table_ND) - first))


def _privacy(place: Place, run: TrainingRun, schedule: Schedule) -> Privacy:
    private = run.epsilon is not None
    return Privacy(
        delta=_DELTA,
        epsilon=run.epsilon,
        mode=PrivacyMode.PRIVATE if private else PrivacyMode.NOT_PRIVATE,
        expected_batch_size=schedule.batch,
        steps=schedule.steps,
        dataset_id=run.corpus.value,
        ledger=None if place.ledger is None else str(place.ledger),
    )


def _adapter(run: TrainingRun, model: Any) -> Any:
    layers = model.config.num_hidden_layers
    last = range(layers - TRAINED_LAYERS, layers)
    targets = [f"encoder.layer.{layer}.{part}" for layer in last for part in _PARTS]
    drawn = {"seed": run.repetition} if run.adapter is AdapterName.FFA_LORA else {}
    return adapters.config(
        run.adapter, model.config, "TOKEN_CLS", r=16, lora_alpha=16, target_modules=targets, **drawn
    )


def _facts(result: FitResult, schedule: Schedule) -> dict[str, Any]:
    length = result.plan.length
    return {
        "epsilon_spent": result.epsilon if result.plan.is_private else None,
        "delta": result.delta,
        "noise_multiplier": result.plan.noise_multiplier,
        "num_records": length.num_records,
        "sample_rate": length.sample_rate,
        "steps": result.history.intended,
        "updates": result.history.updates,
        **dataclasses.asdict(schedule),
    }
