"""LayerNorm tuning as peft has it: the weights and biases of norms, trained as copies."""

import torch

from dpft.adapters.algebra.delta import Family, Part, Source
from dpft.adapters.algebra.names import refuse_leftover
from dpft.adapters.algebra.offset import Offset

__all__ = ["COPIES", "read_norms"]

COPIES = "ln_tuning_layers"


def read_norms(source: Source, names: dict[str, torch.Tensor]) -> tuple[Family, dict[str, Part]]:
    """Read an adapter of LayerNorm tuning.

    Args:
        source: What peft saved.
        names: The adapter's tensors under the names of the model; emptied of what was read.

    Returns:
        The family and the parts, at the names of the norms' own parameters.

    Raises:
        ConfigurationError: If a tensor is not of a norm.

    Privacy:
        Nothing, no data touched.

    References:
        Zhao et al. 2024 (2312.11420), section 2.
    """
    parts: dict[str, Part] = {}
    for name in [name for name in names if f".{COPIES}." in name]:
        place = name.replace(f".{COPIES}.", ".")
        start = source.start.get(place)
        if start is None and source.base is not None:
            start = source.base.tensor(place)
        parts[place] = Offset(names.pop(name), start)
    refuse_leftover(names)
    return Family.WEIGHTS, parts
