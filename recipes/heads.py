"""A head that knows its classes before it sees a record: the nearest of their public descriptions.

Clipping bounds a record's whole gradient, and that of a fresh head is many times that of an
adapter. A head that starts from words, and stays as it is, leaves the bound to the adapter.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dpft.errors import ConfigurationError
from dpft.losses import Pooling
from dpft.recipes.metrics.evaluation import predict_logits
from dpft.recipes.models import Encoded, LoadedModel
from dpft.records import EncodingSettings, encode

__all__ = ["start_from_descriptions"]

_HEAD = "classifier"
_SPREAD = 8.0  # how far apart the logits of two classes' mean descriptions are


def start_from_descriptions(loaded: LoadedModel, descriptions: Sequence[Sequence[str]]) -> None:
    """Set the head to that of the nearest mean: logits_c = s (<h, m_c> - |m_c|^2 / 2).

    m_c is the mean state of the texts that describe class c, less the mean of all m_c; s makes
    two classes' own means differ by a fixed logit.

    Args:
        loaded: Model with mean pooling; its head is changed in place.
        descriptions: For each class in order, public texts, at least one.

    Raises:
        ConfigurationError: If the model pools by a head of its own, or a class has no text.

    Privacy:
        Nothing, no data touched: the texts are part of the recipe, never taken from records.

    References:
        Snell et al. 2017 (1703.05175), equations 2 and 8, with descriptions for shots.
    """
    _check(loaded, descriptions)
    states = [_mean_state(loaded, texts) for texts in descriptions]
    centre = torch.stack(states).mean(0)
    means_CD = torch.stack(states) - centre
    scale = _SPREAD / _mean_squared_distance(means_CD)
    head = getattr(loaded.model, _HEAD)
    with torch.no_grad():
        head.weight.copy_(scale * means_CD)
        head.bias.copy_(-scale * (means_CD.square().sum(1) / 2 + means_CD @ centre))


def _check(loaded: LoadedModel, descriptions: Sequence[Sequence[str]]) -> None:
    if loaded.pooling is not Pooling.MEAN:
        raise ConfigurationError(
            f"Expected architecture.pooling={loaded.pooling.value} to be mean with "
            "architecture.head=descriptions. Only then is the head one linear map of the mean "
            "state. Set architecture.pooling=mean, or architecture.head=fresh."
        )
    if not descriptions or not all(descriptions):
        raise ConfigurationError(
            "Expected architecture.head=descriptions with a task that describes each of its "
            "classes. There is nothing to start from. Set architecture.head=fresh."
        )


def _mean_state(loaded: LoadedModel, texts: Sequence[str]) -> torch.Tensor:
    """Return the mean state [D] of some texts."""
    rows = [{"text": text, "label": 0} for text in texts]
    settings = EncodingSettings(text_field="text", label_field="label")
    encoded = Encoded(encode(rows, loaded.tokenizer, settings), loaded.tokenizer.pad_token_id)
    with _without_head(loaded.model):  # the mean of the states is then that of the logits
        return predict_logits(loaded.model, encoded, loaded.pooling).mean(0)


@contextmanager
def _without_head(model: Any) -> Iterator[None]:
    head = getattr(model, _HEAD)
    setattr(model, _HEAD, nn.Identity())
    try:
        yield
    finally:
        setattr(model, _HEAD, head)


def _mean_squared_distance(means_CD: torch.Tensor) -> torch.Tensor:
    """Return the mean of |m_c - m_d|^2 over pairs of classes that differ."""
    classes = len(means_CD)
    return 2 * classes * means_CD.square().sum() / (classes * (classes - 1))
