"""BitFit and other trained biases: moved from where the base model has them.

peft trains the biases of the base model in place, so that where they began is not in the adapted
model any more: the base model has to be given.
"""

import torch

from dpft.adapters.algebra.delta import Part, Source
from dpft.adapters.algebra.offset import Offset

__all__ = ["UNDER_ADAPTER", "read_biases"]

UNDER_ADAPTER = ".base_layer."
"""In the name of a bias in peft's file, if its layer has a LoRA."""


def read_biases(source: Source, names: dict[str, torch.Tensor]) -> dict[str, Part]:
    """Read the biases that peft saved with `bias="all"` or `bias="lora_only"`.

    Args:
        source: What peft saved; its base must not be the adapted model itself.
        names: Tensors under the names of the model; emptied of the biases.

    Returns:
        Parts at the names of the biases; without a base their start is unknown.

    Raises:
        ConfigurationError: If the base lacks one of them.

    Privacy:
        Nothing, no data touched.

    References:
        Ben Zaken et al. 2022 (2106.10199), section 3.
    """
    parts: dict[str, Part] = {}
    for name in [name for name in names if name.endswith(".bias")]:
        place = name.replace(UNDER_ADAPTER, ".")
        parts[place] = Offset(names.pop(name), _start(source, place))
    return parts


def _start(source: Source, name: str) -> torch.Tensor | None:
    if name in source.start:
        return source.start[name]
    return None if source.base is None else source.base.tensor(name)
