"""Bottleneck adapters and Compacter, read as networks beside sub-layers; written as the former.

A PHM map is the dense matrix H = sum of S_i (x) (L_i R_i), so Compacter is a bottleneck adapter of
those matrices. Sums of Compacters are bottleneck adapters: a sum of PHM maps is none of that size.
"""

from collections.abc import Mapping
from typing import Any

import torch

from dpft.adapters.algebra.bottleneck import Bottleneck, padded
from dpft.adapters.algebra.delta import Delta, Family, Part, Source, Written
from dpft.adapters.algebra.heads import head_modules_of
from dpft.adapters.algebra.names import in_file, refuse_leftover
from dpft.adapters.bottleneck import BottleneckConfig
from dpft.adapters.phm import kronecker_sum
from dpft.errors import ConfigurationError

__all__ = ["read_bottleneck", "read_compacter", "sublayer_settings", "write_bottleneck"]

_OURS, _COMPACTER = "dpft_bottleneck_", "dpft_compacter_"
_NAMES = {"down": "down.weight", "down_bias": "down.bias"}
_NAMES |= {"up": "up.weight", "up_bias": "up.bias"}
_NORMS = ("norm_before.weight", "norm_before.bias", "norm_after.weight", "norm_after.bias")


def read_bottleneck(
    source: Source, names: dict[str, torch.Tensor]
) -> tuple[Family, dict[str, Part]]:
    """Read bottleneck adapters.

    Args:
        source: What peft saved.
        names: The adapter's tensors under the names of the model; emptied of what was read.

    Returns:
        The family and the parts, at the names of the modules that they stand beside.

    Raises:
        ConfigurationError: If a tensor is unknown.

    Privacy:
        Nothing, no data touched.

    References:
        Houlsby et al. 2019 (1902.00751), section 2.1.
    """
    assert isinstance(source.config, BottleneckConfig)
    parts: dict[str, Part] = {}
    for place in _places(names, f"{_OURS}down.weight"):
        taken = {key: names.pop(f"{place}.{_OURS}{name}") for key, name in _NAMES.items()}
        found = {each: names.pop(f"{place}.{_OURS}{each}", None) for each in _NORMS}
        norms = {each: tensor for each, tensor in found.items() if tensor is not None}
        parts[place] = Bottleneck(**taken, norms=norms)
    refuse_leftover(names)
    return Family.BOTTLENECK, parts


def read_compacter(
    source: Source, names: dict[str, torch.Tensor]
) -> tuple[Family, dict[str, Part]]:
    """Read Compacter by the dense matrices of its PHM maps.

    Args:
        source: What peft saved.
        names: The adapter's tensors under the names of the model; emptied of what was read.

    Returns:
        The family and the parts, at the names of the modules that they stand beside.

    Raises:
        ConfigurationError: If a tensor is unknown.

    Privacy:
        Nothing, no data touched.

    References:
        Mahabadi et al. 2021 (2106.04647), equations 5 and 6.
    """
    assert source.config is not None
    shared = _rule(names, f"{_COMPACTER}rule.")
    parts: dict[str, Part] = {}
    for place in _places(names, f"{_COMPACTER}down.left"):
        maps = {side: _phm(names, f"{place}.{_COMPACTER}{side}", shared) for side in ("down", "up")}
        biases = [names.pop(f"{place}.{_COMPACTER}{side}.bias") for side in ("down", "up")]
        parts[place] = Bottleneck(maps["down"], biases[0], maps["up"], biases[1])
    refuse_leftover(names)
    return Family.BOTTLENECK, parts


def sublayer_settings(config: Any) -> dict[str, str]:
    """Return what must agree in a sum: where adapters stand, and their activation.

    Args:
        config: Of bottleneck adapters or Compacter.

    Privacy:
        Nothing, no data touched.
    """
    return {"placement": config.placement.value, "non_linearity": config.non_linearity}


def write_bottleneck(delta: Delta) -> Written:
    """Return the bottleneck adapters that peft loads once `dpft.adapters` was imported.

    Args:
        delta: Of the family. Where widths differ, idle units fill up.

    Raises:
        ConfigurationError: If the bottleneck is wider than the model.

    Privacy:
        Nothing, no data touched.
    """
    parts = {
        place: _network(delta.parts[place]) for place in delta.parts if place not in delta.heads
    }
    width = max(part.width for part in parts.values())
    model = len(next(iter(parts.values())).up_bias)
    norms = {name for part in parts.values() for name in part.norms}
    config = BottleneckConfig(
        task_type=delta.task_type,
        target_modules=sorted(parts),
        reduction_factor=_reduction(width, model),
        modules_to_save=head_modules_of(delta.heads),
        ln_before=_NORMS[0] in norms,
        ln_after=_NORMS[2] in norms,
        inference_mode=True,
        **delta.settings,  # type: ignore[arg-type]  # the placement is read from its text
    )
    tensors = {
        in_file(f"{place}.{name}"): tensor
        for place, part in parts.items()
        for name, tensor in _file_tensors(padded(part, width)).items()
    }
    heads = {in_file(place): delta.parts[place].tensors()["value"] for place in delta.heads}
    return Written(config, tensors | heads)


def _reduction(width: int, model: int) -> float:
    if width > model:
        raise ConfigurationError(
            f"Expected the sum of widths={width} <= {model}, the width of the model. The "
            "configuration of bottleneck adapters has no wider ones. Add fewer, or narrower ones."
        )
    return 1.0 if width == model else model / (width + 0.5)  # the quotient is rounded down


def _file_tensors(part: Bottleneck) -> dict[str, torch.Tensor]:
    tensors = {f"{_OURS}{name}": getattr(part, key) for key, name in _NAMES.items()}
    return tensors | {f"{_OURS}{name}": tensor for name, tensor in part.norms.items()}


def _network(part: Part) -> Bottleneck:
    assert isinstance(part, Bottleneck)
    return part


def _places(names: Mapping[str, torch.Tensor], last: str) -> list[str]:
    return [name.removesuffix(f".{last}") for name in names if name.endswith(f".{last}")]


def _rule(names: dict[str, torch.Tensor], prefix: str) -> torch.Tensor | None:
    """Take a rule S out of the tensors: whole, or as products of columns and rows."""
    whole = names.pop(f"{prefix}full", None)
    left, right = names.pop(f"{prefix}left", None), names.pop(f"{prefix}right", None)
    return left.double() @ right.double() if left is not None and right is not None else whole


def _phm(names: dict[str, torch.Tensor], prefix: str, shared: torch.Tensor | None) -> torch.Tensor:
    """Return the dense matrix of a PHM map as a linear layer has it, [outputs, inputs]."""
    own = _rule(names, f"{prefix}_rule.")
    rule = shared if own is None else own
    if rule is None:
        raise ConfigurationError(
            f"Expected a rule for {prefix} in the file of a Compacter. Its factors mean nothing "
            "without it. Take the whole file."
        )
    left, right = names.pop(f"{prefix}.left"), names.pop(f"{prefix}.right")
    matrix = kronecker_sum(rule.double(), left.double(), right.double())
    return matrix.T.contiguous().to(left.dtype)
