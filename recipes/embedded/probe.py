"""How much an encoder already knows: linear heads on its frozen features.

A quick check of the recipe, not a training path: `private_head_accuracy` simulates DP-SGD with a
seeded generator and is never private. May be imported by tests and by hand.

Legend: B records, F features, K labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from dpft.recipes.embedded.encoder import mean_pool
from dpft.recipes.embedded.tokenizer import MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dpft.recipes.embedded.generator import Record

__all__ = [
    "HeadPlan",
    "LabelledFeatures",
    "bag_of_words_accuracy",
    "frozen_features",
    "head_accuracy",
    "private_head_accuracy",
]


class LabelledFeatures(NamedTuple):
    """Frozen features of some records.

    Args:
        features: Mean-pooled hidden states, [B, F].
        labels: Label of each record, [B].

    Privacy:
        Invented records only.
    """

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class HeadPlan:
    """A simulated private training of a linear head.

    Args:
        noise_multiplier: Noise std divided by the clip norm.
        expected_batch_size: Mean of the Poisson batch, and divisor of the sum.
        steps: Optimiser steps.
        learning_rate: Of Adam.
        seed: Of sampling and noise, which makes the simulation NOT PRIVATE.

    Privacy:
        Nothing, no data touched.
    """

    noise_multiplier: float = 1.0
    expected_batch_size: int = 512
    steps: int = 50
    learning_rate: float = 0.1
    seed: int = 0


def bag_of_words_accuracy(train: Sequence[Record], validation: Sequence[Record]) -> float:
    """Train tf-idf and logistic regression, both as scikit-learn ships them.

    Args:
        train: Records to learn from.
        validation: Records to score.

    Returns:
        Accuracy in [0, 1].

    Privacy:
        NOT PRIVATE; invented records only.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    model.fit([r["text"] for r in train], [r["label"] for r in train])
    return float(model.score([r["text"] for r in validation], [r["label"] for r in validation]))


@torch.no_grad()
def frozen_features(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: Sequence[Record]
) -> LabelledFeatures:
    """Mean-pool the hidden states of every record.

    Args:
        model: A BERT encoder.
        tokenizer: Its tokenizer.
        records: Labelled records.

    Returns:
        Features and labels.

    Privacy:
        Raw features; invented records only.
    """
    model.eval()  # type: ignore[no-untyped-call]
    parts = [
        _features(model, tokenizer, [r["text"] for r in records[start : start + 256]])
        for start in range(0, len(records), 256)
    ]
    return LabelledFeatures(torch.cat(parts).numpy(), np.array([r["label"] for r in records]))


def head_accuracy(train: LabelledFeatures, validation: LabelledFeatures) -> float:
    """Train a linear head without privacy on frozen features.

    Args:
        train: Features to learn from.
        validation: Features to score.

    Returns:
        Accuracy in [0, 1].

    Privacy:
        NOT PRIVATE; invented records only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    head.fit(train.features, train.labels)
    return float(head.score(validation.features, validation.labels))


def private_head_accuracy(
    train: LabelledFeatures, validation: LabelledFeatures, plan: HeadPlan
) -> float:
    """Simulate DP-SGD on a linear head with AUTO-S clipping and Adam.

    The gradient of a record is the outer product of its features and its error, so that its norm
    is the product of two norms.

    Args:
        train: Features to learn from.
        validation: Features to score.
        plan: Noise, batch, steps, learning rate, seed.

    Returns:
        Accuracy in [0, 1].

    Privacy:
        NOT PRIVATE: sampling and noise come from a known seed. Invented records only.

    References:
        Bu et al. 2023, "Automatic Clipping", equation 6 (AUTO-S with gamma 0.01).
    """
    random = np.random.default_rng(plan.seed)
    inputs_BF = _with_bias(train.features)
    targets_BK = np.eye(int(train.labels.max()) + 1)[train.labels]
    head_FK = np.zeros((inputs_BF.shape[1], targets_BK.shape[1]))
    first_FK, second_FK = np.zeros_like(head_FK), np.zeros_like(head_FK)
    for step in range(1, plan.steps + 1):
        chosen = random.random(len(inputs_BF)) < plan.expected_batch_size / len(inputs_BF)
        grad_FK = _clipped_sum(inputs_BF[chosen], targets_BK[chosen], head_FK)
        grad_FK += plan.noise_multiplier * random.standard_normal(head_FK.shape)
        grad_FK /= plan.expected_batch_size
        first_FK = 0.9 * first_FK + 0.1 * grad_FK
        second_FK = 0.999 * second_FK + 0.001 * grad_FK**2
        scale_FK = np.sqrt(second_FK / (1 - 0.999**step)) + 1e-8
        head_FK -= plan.learning_rate * first_FK / (1 - 0.9**step) / scale_FK
    guesses = (_with_bias(validation.features) @ head_FK).argmax(1)
    return float((guesses == validation.labels).mean())


def _clipped_sum(inputs_BF: np.ndarray, targets_BK: np.ndarray, head_FK: np.ndarray) -> np.ndarray:
    logits_BK = inputs_BF @ head_FK
    exp_BK = np.exp(logits_BK - logits_BK.max(1, keepdims=True))
    errors_BK = exp_BK / exp_BK.sum(1, keepdims=True) - targets_BK
    norms_B = np.linalg.norm(inputs_BF, axis=1) * np.linalg.norm(errors_BK, axis=1)
    sum_FK: np.ndarray = inputs_BF.T @ (errors_BK / (norms_B + 0.01)[:, None])
    return sum_FK


def _with_bias(features: np.ndarray) -> np.ndarray:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _features(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> torch.Tensor:
    batch = tokenizer(
        texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    hidden = model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    return mean_pool(hidden, batch["attention_mask"])
