"""A Trainer's model before a private run: the loss in the place of its own, and preparations."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.models.auto import modeling_auto
from transformers.trainer_utils import align_special_tokens

from dpft.engine.attachment import PerRecordLoss
from dpft.errors import ConfigurationError
from dpft.losses import CausalLanguageModelling, Classification, Regression, SequenceToSequence

__all__ = ["UnderAutocast", "loss_for", "prepare_model", "tokenizer_of"]


@dataclasses.dataclass(frozen=True)
class UnderAutocast:
    """A loss in bfloat16 where autocast takes it.

    Args:
        loss: Callable (model, batch) -> losses [B].
        device_type: Where the model lies: cpu, cuda.

    Privacy:
        Loss b depends on the same record as before; norms and sums are taken in float32
        (`docs/engine.md`).
    """

    loss: PerRecordLoss
    device_type: str

    def __call__(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return losses [B]."""
        with torch.autocast(self.device_type, dtype=torch.bfloat16):
            return self.loss(model, batch)


def loss_for(model: nn.Module) -> PerRecordLoss:
    """Choose the loss by the model's head.

    A class that transformers lists for sequence classification has cross-entropy, or squared error
    with `problem_type="regression"` or, where none is set, one label; one for causal language
    models next-token cross-entropy; one of its encoder-decoders cross-entropy of the target. Each
    is averaged over the record's own tokens.

    Args:
        model: The model, with or without an adapter.

    Returns:
        A loss of `dpft.losses`.

    Raises:
        ConfigurationError: If the head is another, as for several labels a record.

    Privacy:
        Nothing, no data touched (`test_the_loss_follows_from_the_head`).
    """
    base = getattr(model, "get_base_model", lambda: model)()
    name, config = type(base).__name__, getattr(base, "config", None)
    if name in _classes("SEQUENCE_CLASSIFICATION"):
        return _of_classification(config)
    if name in _classes("CAUSAL_LM"):
        return CausalLanguageModelling()
    if name in _classes("SEQ_TO_SEQ_CAUSAL_LM"):
        return SequenceToSequence()
    raise _unknown(f"model={name}")


def prepare_model(model: Any, args: TrainingArguments, tokenizer: Any) -> None:
    """Do to a model what `Trainer.train` does before its loop.

    Args:
        model: The model.
        args: Their activation checkpointing is switched on, if asked for.
        tokenizer: Its special tokens enter the model's configuration, if there is one.

    Privacy:
        Nothing, no data touched.
    """
    if args.activation_checkpointing:
        given: Any = args.activation_checkpointing_kwargs
        settings = dict(given or {})
        every, offload = settings.pop("every_n_layers", 1), settings.pop("offload", False)
        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs=settings or None, every_n_layers=every, offload=offload
        )
    if tokenizer is not None and hasattr(model, "config"):
        align_special_tokens(model, tokenizer)  # type: ignore[no-untyped-call]  # transformers'


def tokenizer_of(processing_class: Any) -> Any:
    """Return the tokenizer that a Trainer was given, or that its processor holds; None without one.

    Args:
        processing_class: What the Trainer was given.

    Privacy:
        Nothing, no data touched. A processor is saved with its vocabulary, whose origin is asked
        for like that of a tokenizer (`test_a_processor_hides_no_vocabulary`).
    """
    held = getattr(processing_class, "tokenizer", None)
    found = [each for each in (processing_class, held) if isinstance(each, PreTrainedTokenizerBase)]
    return found[0] if found else None


def _of_classification(config: Any) -> PerRecordLoss:
    problem, labels = getattr(config, "problem_type", None), config.num_labels
    if problem == "regression" or (problem is None and labels == 1):
        if labels != 1:
            raise _unknown(f"regression with num_labels={labels}")
        return Regression()
    if problem in {None, "single_label_classification"}:
        return Classification()
    raise _unknown(f"problem_type={problem}")


def _classes(task: str) -> set[str]:
    names: Mapping[str, Any] = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")
    return {
        each for name in names.values() for each in ((name,) if isinstance(name, str) else name)
    }


def _unknown(found: str) -> ConfigurationError:
    return ConfigurationError(
        f"Expected a loss for {found}. The Trainer's own is a mean over the batch, in which "
        "records depend on each other, and which one takes its place is not known. Pass loss, a "
        "callable (model, batch) -> losses [B] as in dpft.losses."
    )
