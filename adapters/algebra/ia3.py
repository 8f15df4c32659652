"""(IA)³: factors on activations, which begin at 1. Two algebras, each exact in what it claims.

Additive, the one of `+`: l = 1 + sum of w_i (l_i - 1), which is the sum of the changes of the
merged weights. Multiplicative, `composed`: l = product of l_i^w_i, which is one adapter after
another.
"""

from collections.abc import Sequence
from typing import Any

import torch
from peft import IA3Config

from dpft.adapters.algebra.delta import Delta, Family, Part, Source, Written
from dpft.adapters.algebra.heads import head_modules_of
from dpft.adapters.algebra.linear import same_shape
from dpft.adapters.algebra.names import in_file, refuse_leftover
from dpft.adapters.algebra.offset import Offset
from dpft.errors import ConfigurationError

__all__ = ["FACTOR", "composed", "ia3_settings", "is_on_input", "read_ia3", "write_ia3"]

FACTOR = "ia3_l"
_TRANSPOSED = "fan_in_fan_out"


def read_ia3(source: Source, names: dict[str, torch.Tensor]) -> tuple[Family, dict[str, Part]]:
    """Read an adapter of (IA)³.

    Args:
        source: What peft saved; only its tensors are needed.
        names: The adapter's tensors under the names of the model; emptied of what was read.

    Returns:
        The family and the parts, at the name of the module and `ia3_l`.

    Raises:
        ConfigurationError: If a tensor is not a factor.

    Privacy:
        Nothing, no data touched.

    References:
        Liu et al. 2022 (2205.05638), section 3.3.
    """
    assert isinstance(source.config, IA3Config)
    parts: dict[str, Part] = {}
    for name in [name for name in names if name.endswith(f".{FACTOR}")]:
        factor = names.pop(name)
        parts[name] = Offset(factor, torch.ones_like(factor))
    refuse_leftover(names)
    return Family.SCALING, parts


def ia3_settings(config: Any) -> dict[str, str]:
    """Return what must agree in a sum.

    Args:
        config: Of (IA)³.

    Privacy:
        Nothing, no data touched.
    """
    return {_TRANSPOSED: str(bool(config.fan_in_fan_out)).lower()}


def is_on_input(factor: torch.Tensor) -> bool:
    """Return whether a factor scales the input of its layer: peft keeps those as [1, K].

    Args:
        factor: As peft saves it.

    Privacy:
        Nothing, no data touched.
    """
    return factor.shape[0] == 1


def composed(terms: Sequence[tuple[float, Offset]]) -> Offset:
    """Return the product of l_i^w_i.

    Args:
        terms: Weights and factors, at least one.

    Returns:
        The factors of one adapter after another.

    Raises:
        ConfigurationError: If a factor is not positive: it has no power and no inverse.

    Privacy:
        Nothing, no data touched.
    """
    same_shape([part.value for _, part in terms])
    if not all(bool((part.value > 0).all()) for _, part in terms):
        raise ConfigurationError(
            "Expected all factors > 0 to be multiplied. One that is zero or negative has no "
            "inverse and no power. Add the vectors with + instead."
        )
    first = terms[0][1]
    logarithm = sum(weight * part.value.double().log() for weight, part in terms)
    assert isinstance(logarithm, torch.Tensor)
    return Offset(logarithm.exp().to(first.value.dtype), first.start)


def write_ia3(delta: Delta) -> Written:
    """Return the adapter that peft loads.

    Args:
        delta: Of the family.

    Privacy:
        Nothing, no data touched.
    """
    factors = {place: part for place, part in delta.parts.items() if place not in delta.heads}
    modules = {place.removesuffix(f".{FACTOR}"): _value(part) for place, part in factors.items()}
    config = IA3Config(
        task_type=delta.task_type,
        target_modules=sorted(modules),
        feedforward_modules=sorted(name for name, each in modules.items() if is_on_input(each)),
        fan_in_fan_out=delta.settings.get(_TRANSPOSED) == "true",
        modules_to_save=head_modules_of(delta.heads),
        inference_mode=True,
    )
    return Written(config, {in_file(place): _value(part) for place, part in delta.parts.items()})


def _value(part: Part) -> torch.Tensor:
    assert isinstance(part, Offset)
    return part.value
