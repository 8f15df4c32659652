"""Perplexity per token, of losses that were summed over the tokens of each record."""

import math
from collections.abc import Sequence

import numpy as np

from dpft.errors import ConfigurationError
from dpft.recipes.metrics.scorer import Kind, Rows, Scorer

__all__ = ["perplexity_scorer"]

_LARGEST_LOSS = 700.0  # exp of more is no longer a float


def perplexity_scorer() -> Scorer:
    """Return exp(sum of losses / sum of tokens), >= 1: long records count for more than short ones.

    Predictions are summed negative log-likelihoods in nats, references the numbers of tokens. It is
    comparable between models of one vocabulary only.

    Privacy:
        As `Scorer`.
    """
    return Scorer(
        figures=("perplexity",),
        kind=Kind.LOSSES,
        columns=2,
        statistics=_statistics,
        score=_score,
        signature=lambda _: "perplexity|per:token|base:e",
    )


def _statistics(predictions: Sequence[float], references: Sequence[int]) -> Rows:
    return np.column_stack([predictions, references]).astype(np.float64)


def _score(rows: Rows) -> dict[str, float]:
    loss, tokens = rows.sum(axis=0).tolist()
    if loss / tokens > _LARGEST_LOSS:
        raise ConfigurationError(
            f"Expected predictions to have a mean loss of at most {_LARGEST_LOSS:g} nats a token. "
            "No model of a vocabulary is that bad. Pass summed losses and the tokens they were "
            "summed over."
        )
    return {"perplexity": math.exp(loss / tokens)}
