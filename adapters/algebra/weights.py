"""Changes of weights of any kind, written as a LoRA, as BitFit or as LayerNorm tuning.

The LoRA has lora_alpha = r and use_rslora False at every layer, so that its scaling is 1. A dense
change of a matrix becomes one of full rank: exact, though large.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft import LNTuningConfig, LoraConfig
from peft.utils.constants import DUMMY_TARGET_MODULES

from dpft.adapters.algebra.biases import UNDER_ADAPTER
from dpft.adapters.algebra.delta import Delta, Part, Written
from dpft.adapters.algebra.dense import Dense
from dpft.adapters.algebra.heads import head_modules_of
from dpft.adapters.algebra.layout import Layout
from dpft.adapters.algebra.low_rank import LowRank
from dpft.adapters.algebra.names import EMBEDDING_NAMES, LINEAR_NAMES, in_file
from dpft.adapters.algebra.norms import COPIES
from dpft.adapters.algebra.offset import Offset
from dpft.errors import ConfigurationError

__all__ = ["full_rank", "write_weights"]


def write_weights(delta: Delta) -> Written:
    """Return the adapter that peft loads.

    Args:
        delta: Of the family.

    Raises:
        ConfigurationError: If no adapter of peft holds the delta, such as a change of matrices and
            norms at once.

    Privacy:
        Nothing, no data touched.
    """
    parts = {place: part for place, part in delta.parts.items() if place not in delta.heads}
    if _all_moved(parts, (".bias",)):
        config: Any = LoraConfig(target_modules=DUMMY_TARGET_MODULES, bias="all")
        tensors = {place: part.tensors()["value"] for place, part in parts.items()}
    elif _all_moved(parts, (".bias", ".weight")):
        config, tensors = _norms(parts)
    else:
        config, tensors = _lora(parts)
    config.task_type, config.inference_mode = delta.task_type, True
    config.modules_to_save = head_modules_of(delta.heads)
    tensors |= {place: delta.parts[place].tensors()["value"] for place in delta.heads}
    return Written(config, {in_file(name): tensor for name, tensor in tensors.items()})


def full_rank(part: Dense) -> LowRank:
    """Return a dense change of a matrix as the product of itself and the unit matrix.

    Args:
        part: A change of a matrix of known layout.

    Returns:
        The same change, of the rank of the shorter side.

    Raises:
        ConfigurationError: If the layout is unknown.

    Privacy:
        Nothing, no data touched.
    """
    if part.layout is Layout.UNKNOWN or part.added.dim() != 2:
        raise ConfigurationError(
            f"Expected layout={part.layout.value} of a matrix to be known. Whether it is stored "
            "transposed cannot be seen from its shape. Make the vector of two models in memory, or "
            "call apply_to(model)."
        )
    matrix = part.added.T if part.layout.is_transposed else part.added
    outputs, inputs = matrix.shape
    unit = torch.eye(min(outputs, inputs), dtype=matrix.dtype, device=matrix.device)
    factors = (matrix, unit) if inputs <= outputs else (unit, matrix)
    return LowRank(*factors, part.layout)


def _all_moved(parts: Mapping[str, Part], ends: tuple[str, ...]) -> bool:
    moved = [isinstance(part, Offset) and place.endswith(ends) for place, part in parts.items()]
    return bool(moved) and all(moved)


def _norms(parts: Mapping[str, Part]) -> tuple[Any, dict[str, torch.Tensor]]:
    modules = sorted({place.rpartition(".")[0] for place in parts})
    tensors = {}
    for place, part in parts.items():
        module, _, name = place.rpartition(".")
        tensors[f"{module}.{COPIES}.{name}"] = part.tensors()["value"]
    return LNTuningConfig(target_modules=modules), tensors


def _lora(parts: Mapping[str, Part]) -> tuple[Any, dict[str, torch.Tensor]]:
    matrices = {
        place.removesuffix(".weight"): _factors(part)
        for place, part in parts.items()
        if place.endswith(".weight") and not _is_vector(part)
    }
    biases = {place: part for place, part in parts.items() if _is_vector(part)}
    _refuse_homeless(biases, matrices)
    tensors: dict[str, torch.Tensor] = {}
    for module, part in matrices.items():
        tensors |= _tensors(module, part)
    if _all_moved(biases, (".bias",)):  # those of the model itself, trained beside LoRA
        config = _config(matrices)
        config.bias = "all"
        return config, tensors | {
            _bias_name(place, matrices): part.tensors()["value"] for place, part in biases.items()
        }
    for module, part in matrices.items():
        if biases and part.layout is not Layout.EMBEDDING:
            tensors[f"{module}.lora_B.bias"] = _bias(biases.get(f"{module}.bias"), part)
    return _config(matrices, with_bias=bool(biases)), tensors


def _config(matrices: Mapping[str, LowRank], *, with_bias: bool = False) -> LoraConfig:
    ranks = {module: part.rank for module, part in matrices.items()}
    common = Counter(ranks.values()).most_common(1)[0][0]
    other = {_pattern(module, ranks): rank for module, rank in ranks.items() if rank != common}
    return LoraConfig(
        r=common,
        lora_alpha=common,
        rank_pattern=other,
        alpha_pattern=dict(other),
        target_modules=sorted(matrices),
        fan_in_fan_out=any(part.layout is Layout.CONV1D for part in matrices.values()),
        lora_bias=with_bias,
    )


def _pattern(module: str, modules: Iterable[str]) -> str:
    """Return a pattern of one module alone: peft also takes a name for the end of longer ones."""
    return f"^{module}" if any(each.endswith(f".{module}") for each in modules) else module


def _tensors(module: str, part: LowRank) -> dict[str, torch.Tensor]:
    embedded = part.layout is Layout.EMBEDDING
    names = EMBEDDING_NAMES if embedded else LINEAR_NAMES
    right, left = (f"{module}.{name}" for name in names)
    return {right: part.right, left: part.left}


def _bias_name(place: str, matrices: Mapping[str, LowRank]) -> str:
    module = place.removesuffix(".bias")
    return f"{module}{UNDER_ADAPTER}bias" if module in matrices else place


def _bias(part: Part | None, matrix: LowRank) -> torch.Tensor:
    return matrix.left.new_zeros(len(matrix.left)) if part is None else part.tensors()["added"]


def _factors(part: Part) -> LowRank:
    assert isinstance(part, LowRank | Dense)
    return part if isinstance(part, LowRank) else full_rank(part)


def _is_vector(part: Part) -> bool:
    return isinstance(part, Offset) or (isinstance(part, Dense) and part.added.dim() != 2)


def _refuse_homeless(biases: Mapping[str, Part], matrices: Mapping[str, LowRank]) -> None:
    """Refuse what is neither a matrix nor the bias of a layer that LoRA adapts."""
    if matrices and _all_moved(biases, (".bias",)):
        return
    others = [
        place
        for place, part in biases.items()
        if isinstance(part, Offset)
        or not place.endswith(".bias")
        or place.removesuffix(".bias") not in matrices
    ]
    if others or not matrices:
        raise ConfigurationError(
            f"Expected places={', '.join(sorted(others)[:3])} to be matrices, or biases of adapted "
            "layers. No adapter of peft holds these changes together. Call apply_to(model), or "
            "save() and load them with this library."
        )
