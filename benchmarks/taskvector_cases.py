"""Rows of the exactness table: kinds of adapters in their variants, three random ones of each.

Every trained tensor moves by normal noise of a fixed public seed, about as far as training would
move it.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from peft import LNTuningConfig, get_peft_model
from torch import nn

from benchmarks.taskvector_models import Base, model_of
from dpft import adapters
from dpft.adapters.targets import task_type_of

__all__ = ["CASES", "FULL", "NORMS", "OPERATIONS", "Case", "Trained", "trained"]

NORMS, FULL = "layer norms", "full weights"
_SEED = 7
_NAMES = ("a", "b", "c")
_IN_ATTENTION = r".*layer\.\d\.attention\.self\.({})"
_Options = Mapping[str, Any]

OPERATIONS: Mapping[str, Mapping[str, float]] = {
    "a": {"a": 1.0},
    "-a": {"a": -1.0},
    "0.3 a": {"a": 0.3},
    "a + b": {"a": 1.0, "b": 1.0},
    "a - b": {"a": 1.0, "b": -1.0},
    "c + b - a": {"a": -1.0, "b": 1.0, "c": 1.0},
}
"""What is computed, as coefficients."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One row.

    Args:
        name: As the table has it.
        method: Of `dpft.adapters`, or `NORMS` or `FULL`.
        base: The model.
        options: Options of peft.
        each: What differs for a, b and c.
        spread: Standard deviation of what is added to trained tensors.

    Privacy:
        Nothing, no data touched.
    """

    name: str
    method: str = "lora"
    base: Base = Base.MINILM
    options: _Options = dataclasses.field(default_factory=dict)
    each: tuple[_Options, _Options, _Options] = ({}, {}, {})
    spread: float = 0.02


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A row's base model and three models that were "trained" from it.

    Args:
        case: The row.
        base: Without adapters, float32.
        models: With one adapter each, called `default`, or with changed weights.
        starts: Where prompts and prefixes began, by name of the model.

    Privacy:
        Nothing, no data touched.
    """

    case: Case
    base: nn.Module
    models: Mapping[str, Any]
    starts: Mapping[str, Mapping[str, torch.Tensor]]


def _lora(name: str, **fields: Any) -> Case:
    return Case(
        name, options={"target_modules": _IN_ATTENTION.format("query|value"), "r": 8}, **fields
    )


CASES: tuple[Case, ...] = (
    _lora("LoRA, same rank and alpha"),
    _lora("LoRA, other alphas", each=({}, {"lora_alpha": 16}, {"lora_alpha": 32})),
    _lora("LoRA, other ranks", each=({}, {"r": 4}, {"r": 16})),
    _lora(
        "LoRA, other targets",
        each=(
            {},
            {"target_modules": _IN_ATTENTION.format("query|key")},
            {"target_modules": "pooler.dense"},
        ),
    ),
    _lora("LoRA, rank_pattern", each=({"rank_pattern": {"query": 4}}, {}, {})),
    _lora("LoRA, alpha_pattern", each=({"alpha_pattern": {"value": 2}}, {}, {})),
    _lora("rsLoRA, the first", each=({"use_rslora": True}, {}, {})),
    _lora("rsLoRA, all", each=({"use_rslora": True}, {"use_rslora": True}, {"use_rslora": True})),
    _lora("DoRA", each=({"use_dora": True}, {"use_dora": True}, {"use_dora": True})),
    _lora("LoRA, lora_bias", each=({"lora_bias": True}, {"lora_bias": True}, {"lora_bias": True})),
    Case("LoRA on embeddings", options={"target_modules": ["word_embeddings", "pooler.dense"]}),
    Case("LoRA with a head", base=Base.CLASSIFIER, options={"r": 8}),
    _lora("LoRA, PiSSA", each=tuple({"init_lora_weights": "pissa"} for _ in _NAMES)),
    Case("LoRA on Conv1D", base=Base.GPT2),
    Case("LoRA on an encoder-decoder", base=Base.T5),
    Case("LoRA on a decoder", base=Base.LLAMA),
    Case("FFA-LoRA", "ffa_lora", options={"target_modules": _IN_ATTENTION.format("query|value")}),
    Case("(IA)³", "ia3", spread=0.1),
    Case("(IA)³ on Conv1D", "ia3", Base.GPT2, spread=0.1),
    Case("BitFit", "bitfit"),
    Case("LayerNorm tuning", NORMS, spread=0.05),
    Case("full weights", FULL, spread=0.001),
    Case("bottleneck adapter", "bottleneck"),
    Case("Compacter", "compacter", options={"reduction_factor": 16}, spread=0.1),
    Case("prompt, one start", "prompt", Base.GPT2, spread=0.1),
    Case("prefix, one start", "prefix", Base.GPT2, spread=0.1),
)
"""All rows."""


def trained(case: Case, *, quick: bool = False) -> Trained:
    """Build the models of a row.

    Args:
        case: The row.
        quick: Whether a tiny random encoder stands for MiniLM.

    Privacy:
        Nothing, no data touched: random adapters.
    """
    base = model_of(case.base, quick=quick)
    models, starts = {}, {}
    for number, (name, extra) in enumerate(zip(_NAMES, case.each, strict=True)):
        model = _fresh(case.method, copy.deepcopy(base), {**case.options, **extra})
        starts[name] = _start(model) if case.method in {"prompt", "prefix"} else {}
        models[name] = _stirred(model, number, case.spread)
    return Trained(case, base, models, starts)


def _fresh(method: str, model: Any, options: _Options) -> Any:
    torch.manual_seed(_SEED)  # adapters of one kind begin alike
    if method == FULL:
        return model
    if method == NORMS:
        return get_peft_model(model, LNTuningConfig(target_modules=["LayerNorm"]))
    config = adapters.config(method, model.config, task_type_of(model), **options)
    return get_peft_model(model, config)


def _stirred(model: nn.Module, number: int, spread: float) -> nn.Module:
    generator = torch.Generator().manual_seed(_SEED + number)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "original_module" not in name:
                parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def _start(model: Any) -> dict[str, torch.Tensor]:
    rows = model.get_prompt_embedding_to_save("default")
    return {"prompt_embeddings": rows.detach().clone()}
