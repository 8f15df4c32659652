"""Loads base models and tokenizers as a run asks for them, and encodes records for them."""

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from dpft.errors import ConfigurationError, DpftError
from dpft.losses import Infilling, Pooling, RankedChoices
from dpft.recipes.base_models import base_model_path
from dpft.recipes.config.schema import Architecture, FamilyName
from dpft.recipes.infilling.encoding import (
    WordedFields,
    answer_tokens,
    encode_worded,
    word_tokens,
)
from dpft.recipes.infilling.wording import Wording, checked_wording
from dpft.recipes.large_models import (
    quantisation_config,
    refuse_wrongly_rounded,
    save_memory,
)
from dpft.recipes.tasks import Row, Task
from dpft.recipes.tasks.traits import TaskKind, traits_of
from dpft.recipes.text_targets import encode_text_targets
from dpft.records import EncodingSettings, encode

__all__ = [
    "Answers",
    "Encoded",
    "LoadedModel",
    "auto_class",
    "fit_config",
    "load",
    "load_for",
    "quiet_peft",
    "ready_for_full_fine_tuning",
    "task_type_of",
]

_RELATIVE_BIAS = "relative_attention_bias"
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
class Answers:
    """How a language model names labels: a wording, and the loss that compares their words.

    Args:
        wording: Template and words.
        loss: The loss; its method `logits` scores the labels.

    Privacy:
        Nothing, no data touched.
    """

    wording: Wording
    loss: Infilling | RankedChoices


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A base model with a fresh head, and its tokenizer.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer.
        pooling: How token states become one prediction.
        max_length: Longest input in tokens.
        kind: What is predicted.
        answers: How a language model names labels; None: by a head, or it writes texts.

    Privacy:
        Nothing, no data touched: the head is drawn from the public seed.
    """

    model: Any
    tokenizer: Any
    pooling: Pooling
    max_length: int
    kind: TaskKind = TaskKind.CLASSIFICATION
    answers: Answers | None = None

    @property
    def scoring(self) -> Pooling | Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor]:
        """How classes are scored: by pooling a head's states, or by the words of labels."""
        return self.pooling if self.answers is None else self.answers.loss.logits

    @property
    def has_encoder(self) -> bool:
        """Whether the model is an encoder-decoder."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def task_type(self) -> str | None:
        """Peft's task type; it has none for a masked language model."""
        if self.kind is TaskKind.TEXT:
            return "SEQ_2_SEQ_LM" if self.has_encoder else "CAUSAL_LM"
        if self.answers is not None:
            return "SEQ_2_SEQ_LM" if self.has_encoder else None
        return task_type_of(self.pooling)

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
        if self.kind is TaskKind.TEXT:
            texts = encode_text_targets(
                rows, traits_of(task), self.tokenizer, self.max_length, has_encoder=self.has_encoder
            )
            return Encoded(texts, self.tokenizer.pad_token_id)
        if self.answers is not None:
            worded = encode_worded(
                rows, self.tokenizer, self.answers.wording, self._worded_fields(task)
            )
            return Encoded(worded, self.tokenizer.pad_token_id)
        settings = EncodingSettings(
            text_field=task.text_field,
            pair_field=traits_of(task).pair_field,
            label_field=task.label_field,
            max_length=self.max_length,
        )
        return Encoded(encode(rows, self.tokenizer, settings), self.tokenizer.pad_token_id)

    def synthetic(self, task: Task) -> list[dict[str, Any]] | None:
        """Return public records for the preflight; None where they can be made of the model alone.

        A worded record holds the mask once, which random tokens do not.

        Privacy:
            Nothing, no data touched.
        """
        if self.answers is None:
            return None
        fields = self._worded_fields(task)
        texts = ("one two three", "one two three four five six", "one")
        rows: list[Row] = [
            {fields.text: text, fields.label: number % len(task.labels)}
            | ({fields.pair: f"{text} more"} if fields.pair is not None else {})
            for number, text in enumerate(texts)
        ]
        return self.encode(rows, task).records

    def _worded_fields(self, task: Task) -> WordedFields:
        pair = traits_of(task).pair_field
        return WordedFields(task.text_field, pair, task.label_field, self.max_length)


def task_type_of(pooling: Pooling) -> str:
    """Return peft's task type of a pooling."""
    return "SEQ_CLS" if pooling is Pooling.HEAD else "TOKEN_CLS"


def auto_class(
    pooling: Pooling,
    kind: TaskKind = TaskKind.CLASSIFICATION,
    family: FamilyName = FamilyName.CLASSIFIER,
    *,
    has_encoder: bool = False,
) -> type[Any]:
    """Return the class of transformers that loads a base model for what is predicted."""
    if family is FamilyName.INFILLING:
        return AutoModelForMaskedLM
    if family is FamilyName.RANKED:
        return AutoModelForSeq2SeqLM
    if kind is TaskKind.TEXT:
        return AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM
    head, mean = AutoModelForSequenceClassification, AutoModelForTokenClassification
    return head if pooling is Pooling.HEAD else mean


def load(
    name: str,
    architecture: Architecture,
    labels: Sequence[str],
    seed: int,
    kind: TaskKind = TaskKind.CLASSIFICATION,
) -> LoadedModel:
    """Load a base model with a fresh head for a set of labels, or as it is to write texts.

    Args:
        name: Folder, Hub name, or "embedded".
        architecture: How it is loaded.
        labels: Public names of the classes.
        seed: Public seed of the head, and of all weights if not pretrained.
        kind: What is predicted.

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
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        config = _config(path, architecture, labels, tokenizer)
        encodes = bool(config.is_encoder_decoder)
        auto = auto_class(pooling, kind, architecture.family, has_encoder=encodes)
        model = _model(path, auto, config, architecture)
        refuse_wrongly_rounded(model, architecture)
        save_memory(model, architecture)
    model.name_or_path = model.config.name_or_path = name  # as artefacts call the base model
    tokenizer.name_or_path = name
    return LoadedModel(model, tokenizer, pooling, architecture.max_length, kind)


def load_for(name: str, architecture: Architecture, task: Task, seed: int) -> LoadedModel:
    """Load a base model for a task.

    Args:
        name: Folder, Hub name, or that of a model in the package.
        architecture: How it is loaded.
        task: The task.
        seed: Public seed.

    Returns:
        The model, with the answers of a language model that names labels.

    Raises:
        ConfigurationError: If transformers cannot load it as asked, or a label has no word of one
            token.

    Privacy:
        Nothing, no data touched.
    """
    loaded = load(name, architecture, task.labels, seed, traits_of(task).kind)
    if architecture.family is FamilyName.CLASSIFIER:
        return loaded
    return dataclasses.replace(loaded, answers=_answers(loaded.tokenizer, architecture, task))


def _answers(tokenizer: Any, architecture: Architecture, task: Task) -> Answers:
    fills_in = architecture.family is FamilyName.INFILLING
    wording = checked_wording(
        task, architecture.template, architecture.label_words, with_mask=fills_in
    )
    if fills_in:
        return Answers(wording, Infilling(word_tokens(tokenizer, wording), tokenizer.mask_token_id))
    return Answers(wording, RankedChoices(answer_tokens(tokenizer, wording)))


def _model(path: str, auto: type[Any], config: Any, architecture: Architecture) -> Any:
    dtype = getattr(torch, architecture.dtype.value)
    if not architecture.pretrained:
        return auto.from_config(config, dtype=dtype).to(_device())
    options = {"trust_remote_code": False, "use_safetensors": True}  # nothing in a file is run
    quantised = quantisation_config(architecture)
    if quantised is None:
        return auto.from_pretrained(path, config=config, dtype=dtype, **options).to(_device())
    placed = {"quantization_config": quantised, "device_map": {"": _device()}}
    return auto.from_pretrained(path, config=config, dtype=dtype, **options, **placed)


def _config(path: str, architecture: Architecture, labels: Sequence[str], tokenizer: Any) -> Any:
    config = fit_config(
        AutoConfig.from_pretrained(path, trust_remote_code=False), architecture, labels
    )
    if tokenizer.pad_token_id is None:  # GPT-2 and its kin have none
        tokenizer.pad_token = tokenizer.eos_token
    config.pad_token_id = tokenizer.pad_token_id
    return config


def fit_config(config: Any, architecture: Architecture, labels: Sequence[str]) -> Any:
    """Write labels and dropout into the configuration of a base model.

    Args:
        config: Of transformers; it is changed in place.
        architecture: How the model is loaded.
        labels: Public names of the classes.

    Returns:
        The same configuration.

    Privacy:
        Nothing, no data touched.
    """
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    for field in _DROPOUT_FIELDS:
        if isinstance(getattr(config, field, None), float):
            setattr(config, field, architecture.dropout)
    return config


@contextlib.contextmanager
def ready_for_full_fine_tuning(model: Any) -> Iterator[None]:
    """Let every weight of a model be trained and saved: attention with a trained bias is spelt out.

    Fused attention does without a mask where no record of a batch is padded, and then meets the
    relative bias of T5 in another place than the probe saw: what is done would depend on lengths.

    Args:
        model: A model without adapter.

    Privacy:
        Nothing, no data touched: the same attention, written out
        (`tests/recipes/test_full_fine_tuning.py`).
    """
    if any(_RELATIVE_BIAS in name for name, _ in model.named_parameters()):
        model.set_attn_implementation("eager")
    with _quiet():  # of the bar of saving, too
        yield


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
    except DpftError:  # says what it is itself
        raise
    except Exception as error:
        raise ConfigurationError(
            f"Expected model={name} to load with architecture.pooling="
            f"{architecture.pooling.value}. transformers says: {error}. Correct the name, or set "
            "architecture.pooling to what the model offers."
        ) from error
