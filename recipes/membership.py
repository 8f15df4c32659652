"""Membership inference on public records: does a model tell which of them it was trained on?

Many models are trained, each on a random half of the records, once without privacy and once with
it. Each is attacked by its loss, and by how unusual that loss is beside the losses of all other
models. What is trained is a head on frozen features of an encoder, so that a hundred models take a
minute; the engine that clips, noises and samples is that of every other run.

Legend: M models, N records.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import dpft
from dpft.accounting.auditing import Attacked, likelihood_scores, loss_scores
from dpft.errors import ConfigurationError
from dpft.ledger_place import throwaway_ledger
from dpft.optim import Optim
from dpft.privacy import EvaluationStatus, Privacy, PrivacyMode, PrivacyPlan
from dpft.private_step import StepSettings
from dpft.recipes.models import LoadedModel, load_for
from dpft.recipes.preparation import Prepared
from dpft.recipes.tasks.traits import TaskKind
from dpft.records import collate
from dpft.training import FitOptions

__all__ = ["MembershipAudit", "MembershipSettings", "Population", "attack_models", "public_records"]

_BATCH = 64  # records whose features are computed at once
_FEWEST_MODELS = 4


@dataclasses.dataclass(frozen=True)
class MembershipSettings:
    """How many models are attacked, and how they are trained.

    Args:
        epsilon: Of the private models, > 0.
        delta: Of the private models, below 2 / records.
        clip_norm: Of the private models, > 0.
        models: Number of models with privacy, and of models without; >= 4. Each is attacked, and
            serves as a shadow of all others.
        records: Number of public records, of which each model sees about half.
        expected_batch_size: Of all models.
        steps: Of all models.
        learning_rate: Of all models.
        seed: Of the coins, the records and the initialisation; never of sampling or noise.

    Raises:
        ConfigurationError: If there are too few models to compare with.

    Privacy:
        Nothing, no data touched.
    """

    epsilon: float = 8.0
    delta: float = 1e-5
    clip_norm: float = 1.0
    models: int = 32
    records: int = 200
    expected_batch_size: int = 25
    steps: int = 100
    learning_rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the number of models."""
        if self.models < _FEWEST_MODELS:
            raise ConfigurationError(
                f"Expected models={self.models} >= {_FEWEST_MODELS}. Beside fewer losses none is "
                "unusual. Give about thirty."
            )

    def privacy(self, *, private: bool) -> Privacy:
        """Return the guarantee of each model; all else is equal.

        Args:
            private: Whether it is clipped and noised.
        """
        return Privacy(
            delta=self.delta,
            epsilon=self.epsilon if private else None,
            clip_norm=self.clip_norm,
            num_records=self.records // 2,
            expected_batch_size=self.expected_batch_size,
            steps=self.steps,
            mode=PrivacyMode.PRIVATE if private else PrivacyMode.NOT_PRIVATE,
            dataset_id="public records of a membership test",
        )


@dataclasses.dataclass(frozen=True)
class Population:
    """Public records as features.

    Args:
        features: Means of an encoder's last states [N, width].
        labels: Classes [N].
        classes: Number of classes.

    Privacy:
        Of public records.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: int


@dataclasses.dataclass(frozen=True)
class MembershipAudit:
    """What attacks found, on models with privacy and without.

    Args:
        private: Scores by attack, `loss` and `likelihood`, on models with privacy.
        non_private: The same on models without.
        plan: The plan of the private models.

    Privacy:
        Of public records.
    """

    private: Mapping[str, Attacked]
    non_private: Mapping[str, Attacked]
    plan: PrivacyPlan


def public_records(prepared: Prepared, number: int) -> Population:
    """Encode held-out records of a task whose records are known to be public.

    Args:
        prepared: A run whose held-out records were read; training records are not looked at.
        number: How many of them are used, the first.

    Raises:
        ConfigurationError: If the task does not know its held-out records to be public, has no
            classes, or too few records.

    Privacy:
        A shadow model is a run on the records. On private ones each would be charged, and the
        models without privacy have no epsilon to charge. So records have to be invented, or those
        of a benchmark: in a folder that `task.path` names, by their content; in the assets folder
        and on the Hub, by their name. That somebody declares them public is not enough
        (`test_records_that_are_not_known_to_be_public_are_refused`).
    """
    task = prepared.task
    if task.evaluation is not EvaluationStatus.PUBLIC:
        raise ConfigurationError(
            f"Expected task={task.name} to know that its held-out records are public. Every shadow "
            "model is a run on them, and those without privacy would give them away. Test with "
            "task=embedded or a published benchmark; audit your own run with --mode epsilon."
        )
    if prepared.traits.kind is not TaskKind.CLASSIFICATION:
        raise ConfigurationError(
            f"Expected task={task.name} to be a classification. The attacks compare losses of "
            "classes. Choose another task."
        )
    rows = prepared.held_out[:number]
    if len(rows) < number:
        raise ConfigurationError(
            f"Expected records={number} to be at most {len(rows)}. There are no more held-out "
            "records. Give fewer."
        )
    loaded = load_for(
        prepared.base_model,
        prepared.settings.architecture,
        task,
        prepared.settings.run.seed,
    )
    labels = np.array([int(row[task.label_field]) for row in rows])
    return Population(_features(loaded, prepared, rows), labels, len(task.labels))


def attack_models(population: Population, settings: MembershipSettings) -> MembershipAudit:
    """Train the models and attack each of them.

    Args:
        population: Public records.
        settings: How.

    Returns:
        The scores of both attacks.

    Raises:
        ConfigurationError: If a setting is wrong.

    Privacy:
        Of public records; every model is thrown away, and no ledger is charged, `$DPFT_LEDGER`
        included (`test_no_named_ledger_hears_of_public_records`).

    References:
        Yeom et al. 2018 (1709.01604), section 3 (loss); Carlini et al. 2022 (2112.03570), section
        4 (likelihood ratio, online, one query), each model being the shadow of all others.
    """
    random = np.random.default_rng(settings.seed)
    included = random.random((settings.models, settings.records)) < 0.5
    found = {}
    for private in (True, False):
        confidences = _confidences(population, settings, included, private=private)
        found[private] = {
            "loss": Attacked(loss_scores(confidences), included),
            "likelihood": Attacked(likelihood_scores(confidences, included), included),
        }
    plan = settings.privacy(private=True).plan(settings.records // 2)
    return MembershipAudit(found[True], found[False], plan)


class _Head(nn.Module):
    """A linear classifier of features."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(width, classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes]."""
        logits: torch.Tensor = self.classifier(features)
        return logits


def _loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(model(batch["features"]), batch["labels"], reduction="none")


def _confidences(
    population: Population, settings: MembershipSettings, included: np.ndarray, *, private: bool
) -> np.ndarray:
    """Return how surely each model names the right class of each record [M, N], as logits."""
    rows = [
        {"input_ids": [0], "features": features.tolist(), "labels": int(label)}
        for features, label in zip(population.features, population.labels, strict=True)
    ]
    features, labels = torch.tensor(population.features), torch.tensor(population.labels)
    found = []
    for chosen in included:
        members = [row for row, is_in in zip(rows, chosen, strict=True) if is_in]
        head = _trained(population, settings, members, private=private)
        with torch.no_grad():
            found.append(_logit_of_truth(head(features.float()), labels))
    return np.stack(found)


def _logit_of_truth(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return log p / (1 - p) of the right class [N]: nearly normal, unlike the loss itself."""
    logits = logits.double()
    right = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], float("-inf")).logsumexp(1)
    found: np.ndarray = (right - others).numpy()
    return found


def _trained(
    population: Population,
    settings: MembershipSettings,
    members: Sequence[dict[str, Any]],
    *,
    private: bool,
) -> nn.Module:
    width = population.features.shape[1]
    synthetic = [
        {"input_ids": [0] * length, "features": [0.1 * length] * width, "labels": 0}
        for length in (1, 2, 3)
    ]
    with throwaway_ledger() as ledger:
        privacy = dataclasses.replace(settings.privacy(private=private), ledger=ledger)
        result = dpft.fit(
            _Head(width, population.classes),
            members,
            loss=_loss,
            privacy=privacy,
            optim=Optim(learning_rate=settings.learning_rate),
            options=FitOptions(step=StepSettings(synthetic=synthetic)),
        )
    return result.model


def _features(
    loaded: LoadedModel, prepared: Prepared, rows: Sequence[dict[str, Any]]
) -> np.ndarray:
    """Return means of the encoder's last states [N, width], scaled to a mean square of one."""
    encoder = loaded.model.base_model.eval()
    encoded = loaded.encode(rows, prepared.task)
    found = []
    for start in range(0, len(rows), _BATCH):
        part = encoded.records[start : start + _BATCH]
        inputs = collate([{**row, "labels": 0} for row in part], encoded.pad_token_id)
        inputs.pop("labels")
        with torch.no_grad():
            states = encoder(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        found.append(((states * mask).sum(1) / mask.sum(1)).float().cpu().numpy())
    features = np.concatenate(found)
    scaled: np.ndarray = features / np.sqrt(np.square(features).mean())
    return scaled
