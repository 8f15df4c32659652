"""What large base models need: weights in 8 or 4 bits, activations computed anew. No torch in here.

The bits are those of torchao and bitsandbytes. Only their weight-only kinds are offered: weights
are widened before they meet records, so that no scale is taken from several of them.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dpft.errors import ConfigurationError
from dpft.recipes.config.schema import Architecture, QuantisationName, TrainSettings

__all__ = [
    "HEADS",
    "large_model_problems",
    "nothing_rounded",
    "quantisation_config",
    "refuse_wrongly_rounded",
    "rounded_weights",
    "save_memory",
]

HEADS = (
    "classification_head",
    "classifier",
    "cls",
    "embed_out",
    "lm_head",
    "pre_classifier",
    "qa_outputs",
    "score",
)
"""Output layers as transformers names them: trained whole or tied, so never rounded."""

_LIBRARIES = {QuantisationName.INT4: "bitsandbytes", QuantisationName.INT8: "torchao"}


def large_model_problems(settings: TrainSettings) -> list[str]:
    """Return which settings of a large base model cannot be honoured together, or here.

    Args:
        settings: What was asked for.

    Privacy:
        Nothing, no data touched.
    """
    architecture = settings.architecture
    problems = _quantisation_problems(settings)
    if architecture.offload_activations and not architecture.activation_checkpointing:
        problems.append(
            "Expected architecture.offload_activations=True with "
            "architecture.activation_checkpointing=True. What is offloaded are the inputs that "
            "checkpointing keeps. Set both, or neither."
        )
    return problems


def _quantisation_problems(settings: TrainSettings) -> list[str]:
    chosen = settings.architecture.quantisation
    if chosen is QuantisationName.NONE:
        return []
    problems = []
    if settings.trains_whole_model:
        problems.append(
            f"Expected architecture.quantisation={chosen.value} with an adapter, not with "
            "adapter=full. Rounded weights take no gradient, so that not all would be trained. "
            "Choose an adapter, or architecture.quantisation=none."
        )
    if not settings.architecture.pretrained:
        problems.append(
            f"Expected architecture.quantisation={chosen.value} with architecture.pretrained=True. "
            "Only weights that are read are rounded. Set one of the two otherwise."
        )
    return [*problems, *_missing(chosen)]


def _missing(chosen: QuantisationName) -> list[str]:
    library = _LIBRARIES[chosen]
    if find_spec(library) is not None:
        return []
    said = (
        f"Expected {library} to be installed for architecture.quantisation={chosen.value}. It "
        f"stores the weights. Install dpft[quantised], or {library} alone."
    )
    return [said]


def quantisation_config(architecture: Architecture) -> Any:
    """Return what transformers is told of how weights are stored, None if as they are.

    Args:
        architecture: How the base model is loaded.

    Raises:
        ConfigurationError: If the library that stores them is not installed.

    Privacy:
        Nothing, no data touched. Neither kind quantises activations: per-record gradients stay
        exact (`tests/recipes/test_large_models.py`).
    """
    chosen = architecture.quantisation
    if chosen is QuantisationName.NONE:
        return None
    problems = _missing(chosen)
    if problems:
        raise ConfigurationError(problems)
    if chosen is QuantisationName.INT8:
        from transformers import TorchAoConfig

        weight_only = import_module("torchao.quantization").Int8WeightOnlyConfig()
        return TorchAoConfig(weight_only, modules_to_not_convert=list(HEADS))
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # theirs
        load_in_4bit=True,
        llm_int8_skip_modules=list(HEADS),  # of 4 bits too, whatever its name says
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, architecture.dtype.value),
    )


def rounded_weights(model: Any, quantisation: QuantisationName) -> list[Any]:
    """Return the weights that the libraries would round, [outputs, inputs] each.

    Args:
        model: A model of transformers, before that.
        quantisation: How weights are to be stored.

    Privacy:
        Nothing, no data touched (`test_what_is_foreseen_to_be_rounded_is_what_is_rounded`).
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept = [*HEADS, *(getattr(model, "_keep_in_fp32_modules", None) or ())]
    weights = []
    for name, module in model.named_modules():
        turned = quantisation is QuantisationName.INT4 and isinstance(module, Conv1D)
        asked = name if quantisation is QuantisationName.INT4 else f"{name}.weight"  # as they ask
        if (turned or type(module) is nn.Linear) and should_convert_module(asked, kept):
            weights.append(module.weight.T if turned else module.weight)
    return weights


def refuse_wrongly_rounded(model: Any, architecture: Architecture) -> None:
    """Raise if a model that was to be rounded is not, or if what writes its texts is.

    Args:
        model: A model of transformers, as it was loaded.
        architecture: How it was to be loaded.

    Raises:
        ConfigurationError: If no weight is stored in fewer bits, or the output layer is.

    Privacy:
        Nothing, no data touched.
    """
    asked = architecture.quantisation
    if asked is QuantisationName.NONE:
        return
    if next(_rounded(model), None) is None:
        raise ConfigurationError(nothing_rounded(model, asked))
    output = model.get_output_embeddings()
    if output is not None and next(_rounded(output), None) is not None:
        raise ConfigurationError(
            f"Expected architecture.quantisation={asked.value} to leave the output layer of "
            f"{type(model).__name__} as it is. It is rounded: its name is not known here. Set "
            "architecture.quantisation=none."
        )


def nothing_rounded(model: Any, asked: QuantisationName) -> str:
    """Return what is said of a model of which nothing can be rounded.

    Args:
        model: A model of transformers.
        asked: How weights were to be stored.

    Privacy:
        Nothing, no data touched.
    """
    return (
        f"Expected architecture.quantisation={asked.value} to round weights of "
        f"{type(model).__name__}. It has none that the library knows; that of int8 leaves "
        "the layers of GPT-2 and its kin, Conv1D, as they are. Set "
        "architecture.quantisation=int4 for these, none for others."
    )


def _rounded(model: Any) -> Iterator[Any]:
    from dpft.fingerprint import stored_parts

    return (each for each in model.parameters() if len(stored_parts(each)) > 1)


def save_memory(model: Any, architecture: Architecture) -> None:
    """Let a model compute its activations anew in the backward pass, if that was asked for.

    Args:
        model: A model of transformers; it is changed in place.
        architecture: How it is loaded.

    Raises:
        ConfigurationError: If the model cannot.

    Privacy:
        Nothing, no data touched. Per-record gradients stay what they are
        (`test_activations_computed_anew_leave_the_gradients_as_they_are`).
    """
    if not architecture.activation_checkpointing:
        return
    import torch

    offload = architecture.offload_activations and torch.accelerator.is_available()
    try:
        model.activation_checkpointing_enable({"use_reentrant": False}, offload=offload)
    except ValueError as error:
        raise ConfigurationError(
            "Expected architecture.activation_checkpointing=False with "
            f"{type(model).__name__}. transformers says: {error} Unset it."
        ) from error
