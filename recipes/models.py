"""Loads base models and tokenizers as a run asks for them, and encodes records for them."""

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from dpft.errors import ConfigurationError
from dpft.losses import Pooling
from dpft.recipes.base_models import base_model_path
from dpft.recipes.config.schema import Architecture
from dpft.recipes.tasks import Row, Task
from dpft.records import EncodingSettings, encode

__all__ = ["Encoded", "LoadedModel", "auto_class", "load", "quiet_peft", "task_type_of"]

# Every name under which transformers' configurations keep a dropout probability.
_DROPOUT_FIELDS = (
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "dropout",
    "dropout_rate",
    "embd_pdrop",
    "hidden_dropout_prob",
    "resid_pdrop",
    "seq_classif_dropout",
    "summary_first_dropout",
)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Encoded records and what is needed to collate them.

    Args:
        records: Rows with `input_ids`, `attention_mask` and `labels`.
        pad_token_id: Token to pad with.

    Privacy:
        Holds raw records.
    """

    records: list[dict[str, Any]]
    pad_token_id: int


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A base model with a fresh head, and its tokenizer.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer.
        pooling: How token states become one prediction.
        max_length: Longest input in tokens.

    Privacy:
        Nothing, no data touched: the head is drawn from the public seed.
    """

    model: Any
    tokenizer: Any
    pooling: Pooling
    max_length: int

    def encode(self, rows: Sequence[Row], task: Task) -> Encoded:
        """Encode records for this model.

        Args:
            rows: Records of the task.
            task: Names the fields.

        Returns:
            The encoded records, in the same order.

        Privacy:
            Keeps raw records; nothing is released.
        """
        settings = EncodingSettings(
            text_field=task.text_field, label_field=task.label_field, max_length=self.max_length
        )
        return Encoded(encode(rows, self.tokenizer, settings), self.tokenizer.pad_token_id)


def task_type_of(pooling: Pooling) -> str:
    """Return peft's task type of a pooling."""
    return "SEQ_CLS" if pooling is Pooling.HEAD else "TOKEN_CLS"


def auto_class(pooling: Pooling) -> type[Any]:
    """Return the class of transformers that loads the base model of a pooling."""
    head, mean = AutoModelForSequenceClassification, AutoModelForTokenClassification
    return head if pooling is Pooling.HEAD else mean


def load(name: str, architecture: Architecture, labels: Sequence[str], seed: int) -> LoadedModel:
    """Load a base model with a fresh head for a set of labels.

    Args:
        name: Folder, Hub name, or "embedded".
        architecture: How it is loaded.
        labels: Public names of the classes.
        seed: Public seed of the head, and of all weights if not pretrained.

    Returns:
        The model, on the GPU if there is one.

    Raises:
        ConfigurationError: If transformers cannot load it as asked.

    Privacy:
        Nothing, no data touched.
    """
    pooling = Pooling(architecture.pooling.value)
    path = base_model_path(name)
    torch.manual_seed(seed)
    with _quiet(), _as_configuration_error(name, architecture):
        tokenizer = AutoTokenizer.from_pretrained(path)
        config = _config(path, architecture, labels, tokenizer)
        model = _model(path, auto_class(pooling), config, architecture)
    model.name_or_path = model.config.name_or_path = name  # as artefacts call the base model
    tokenizer.name_or_path = name
    return LoadedModel(model.to(_device()), tokenizer, pooling, architecture.max_length)


def _model(path: str, auto: type[Any], config: Any, architecture: Architecture) -> Any:
    dtype = getattr(torch, architecture.dtype.value)
    if not architecture.pretrained:
        return auto.from_config(config, dtype=dtype)
    return auto.from_pretrained(path, config=config, dtype=dtype)


def _config(path: str, architecture: Architecture, labels: Sequence[str], tokenizer: Any) -> Any:
    names = dict(enumerate(labels))
    config = AutoConfig.from_pretrained(
        path,
        num_labels=len(labels),
        id2label=names,
        label2id={label: index for index, label in names.items()},
    )
    for field in _DROPOUT_FIELDS:
        if isinstance(getattr(config, field, None), float):
            setattr(config, field, architecture.dropout)
    if tokenizer.pad_token_id is None:  # GPT-2 and its kin have none
        tokenizer.pad_token = tokenizer.eos_token
    config.pad_token_id = tokenizer.pad_token_id
    return config


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence the one notice that peft 0.21 causes in transformers 5.23: a name about to change.

    Privacy:
        Nothing, no data touched.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars, and the notice that the head is fresh: it always is."""
    notices = transformers.logging
    verbosity, bars = notices.get_verbosity(), notices.is_progress_bar_enabled()
    notices.set_verbosity(logging.ERROR)
    notices.disable_progress_bar()  # type: ignore[no-untyped-call]  # theirs
    try:
        yield
    finally:
        notices.set_verbosity(verbosity)
        if bars:
            notices.enable_progress_bar()  # type: ignore[no-untyped-call]  # theirs


@contextlib.contextmanager
def _as_configuration_error(name: str, architecture: Architecture) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"Expected model={name} to load with architecture.pooling="
            f"{architecture.pooling.value}. transformers says: {error}. Correct the name, or set "
            "architecture.pooling to what the model offers."
        ) from error
