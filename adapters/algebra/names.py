"""Names in peft's files, and the names that the model itself has for the same places."""

from collections.abc import Mapping

import torch

from dpft.errors import ConfigurationError

__all__ = [
    "EMBEDDING_NAMES",
    "LINEAR_NAMES",
    "in_file",
    "on_prompted_model",
    "plain",
    "refuse_leftover",
]

LINEAR_NAMES = ("lora_A.weight", "lora_B.weight")
EMBEDDING_NAMES = ("lora_embedding_A", "lora_embedding_B")
_ADAPTED, _PROMPTED = "base_model.model.", "base_model."
_IDLE = (".original_module.", ".modules_to_save.")  # copies that peft saves with bias="all"


def plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of a file under the names of the model.

    Args:
        tensors: Tensors by the names that peft gives them.

    Privacy:
        Nothing, no data touched.
    """
    return {
        name.removeprefix(_ADAPTED).removeprefix(_PROMPTED): tensor
        for name, tensor in tensors.items()
        if not any(part in name for part in _IDLE)
    }


def in_file(name: str) -> str:
    """Return the name that a tensor inside the model has in peft's file.

    Args:
        name: Name in the model.

    Privacy:
        Nothing, no data touched.
    """
    return f"{_ADAPTED}{name}"


def on_prompted_model(name: str) -> str:
    """Return the name that a tensor of the model has in the file of a prompt.

    Args:
        name: Name in the model.

    Privacy:
        Nothing, no data touched.
    """
    return f"{_PROMPTED}{name}"


def refuse_leftover(names: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors that no reader understood.

    Args:
        names: What is left.

    Raises:
        ConfigurationError: If anything is.

    Privacy:
        Nothing, no data touched.
    """
    if names:
        raise ConfigurationError(
            f"Expected tensors={', '.join(sorted(names)[:3])} to be of a known kind. A part that "
            "is dropped would change what the adapter does. Use an adapter whose algebra is "
            "known: see dpft.adapters.algebra."
        )
