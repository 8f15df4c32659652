"""Which kinds of adapters have a verified algebra, and what reads and writes each.

A kind that is not in the table is refused, never guessed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from dpft.adapters import bottleneck, compacter, ffa_lora
from dpft.adapters.algebra.bottleneck_adapters import (
    read_bottleneck,
    read_compacter,
    sublayer_settings,
    write_bottleneck,
)
from dpft.adapters.algebra.delta import Delta, Family, Part, Source, Written
from dpft.adapters.algebra.heads import needs_head, read_heads, taken_apart
from dpft.adapters.algebra.ia3 import ia3_settings, read_ia3, write_ia3
from dpft.adapters.algebra.lora import read_lora
from dpft.adapters.algebra.names import plain
from dpft.adapters.algebra.norms import read_norms
from dpft.adapters.algebra.prompts import (
    prompt_settings,
    read_prefix,
    read_prompt,
    write_prompt,
)
from dpft.adapters.algebra.weights import write_weights
from dpft.errors import ConfigurationError

__all__ = ["read", "write"]

_SEED = "dpft_ffa_lora_seed"  # in auto_mapping, as dpft.adapters.ffa_lora writes it
_Reader = Callable[[Source, dict[str, torch.Tensor]], tuple[Family, dict[str, Part]]]
_READERS: Mapping[str, _Reader] = {
    "LORA": read_lora,
    ffa_lora.TYPE.value: read_lora,
    "LN_TUNING": read_norms,
    "IA3": read_ia3,
    bottleneck.TYPE.value: read_bottleneck,
    compacter.TYPE.value: read_compacter,
    "PROMPT_TUNING": read_prompt,
    "PREFIX_TUNING": read_prefix,
}
_SETTINGS: Mapping[Family, Callable[[Any], dict[str, str]]] = {
    Family.WEIGHTS: lambda config: {},  # noqa: ARG005 - they are in the parts
    Family.SCALING: ia3_settings,
    Family.BOTTLENECK: sublayer_settings,
    Family.PROMPT: prompt_settings,
    Family.PREFIX: prompt_settings,
}
_WRITERS: Mapping[Family, Callable[[Delta], Written]] = {
    Family.WEIGHTS: write_weights,
    Family.SCALING: write_ia3,
    Family.BOTTLENECK: write_bottleneck,
    Family.PROMPT: write_prompt,
    Family.PREFIX: write_prompt,
}


def read(source: Source) -> Delta:
    """Read what peft saved of an adapter.

    Args:
        source: Configuration and tensors, and the base model where it is needed.

    Returns:
        The delta.

    Raises:
        ConfigurationError: If the kind has no verified algebra, or something cannot be read
            exactly.

    Privacy:
        Nothing, no data touched: released weights.
    """
    kind = source.config.peft_type
    name = str(getattr(kind, "value", kind))
    if name not in _READERS:
        raise ConfigurationError(
            f"Expected peft_type={name} to be one of {', '.join(sorted(_READERS))}. What a sum of "
            "such adapters does is not verified, and no algebra is guessed. Merge the adapter into "
            "the weights and take the vector between two models."
        )
    adapter, whole = taken_apart(plain(source.tensors), source.config)
    family, parts = _READERS[name](source, adapter)
    heads = read_heads(whole, source.base, source.start)
    return Delta(
        family=family,
        parts=parts | heads,
        heads=frozenset(heads),
        settings=_SETTINGS[family](source.config),
        labels=None if source.base is None else source.base.labels,
        task_type=getattr(source.config, "task_type", None),
        frozen_seed=(getattr(source.config, "auto_mapping", None) or {}).get(_SEED),
    )


def write(delta: Delta) -> Written:
    """Return what peft loads for a delta.

    Args:
        delta: With at least one part beside heads.

    Raises:
        ConfigurationError: If it is empty, or no adapter of peft holds it.

    Privacy:
        Nothing, no data touched: released weights.
    """
    if set(delta.parts) == delta.heads:
        raise ConfigurationError(
            "Expected at least one part to write. The empty vector changes nothing, and peft has "
            "no adapter of nothing. Use the base model."
        )
    written = _WRITERS[delta.family](delta)
    if needs_head(written.config) and delta.family not in {Family.PROMPT, Family.PREFIX}:
        written.config.task_type = None  # peft would ask for a head; prompts need their task
    if delta.frozen_seed is not None:
        written.config.auto_mapping = {_SEED: delta.frozen_seed}
    # Views of larger tensors, and tensors that share memory, are not stored by safetensors.
    own = {name: tensor.detach().clone().contiguous() for name, tensor in written.tensors.items()}
    return Written(written.config, own)
