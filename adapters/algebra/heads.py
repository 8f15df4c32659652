"""Heads and other modules that peft trains whole and saves beside the adapter.

A head belongs to its labels in their order. Heads of different labels never add up.
"""

from collections.abc import Mapping
from typing import Any

import torch

from dpft.adapters.algebra.base import BaseModel
from dpft.adapters.algebra.offset import Offset

__all__ = ["HEAD_MODULES", "head_modules_of", "needs_head", "read_heads", "taken_apart"]

HEAD_MODULES = ("classifier", "qa_outputs", "score")
"""Modules that peft trains and loads unasked for tasks with a head of labels."""
_HEADED_TASKS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")


def taken_apart(
    names: Mapping[str, torch.Tensor], config: Any
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Tell the tensors of modules that were saved whole from those of the adapter.

    Args:
        names: Tensors under the names of the model.
        config: peft's configuration.

    Returns:
        The adapter's tensors, and the others.

    Privacy:
        Nothing, no data touched.
    """
    modules = tuple(getattr(config, "modules_to_save", None) or ())
    whole = {name for name in names if _lies_in(name, modules)}
    adapter = {name: tensor for name, tensor in names.items() if name not in whole}
    return adapter, {name: names[name] for name in whole}


def read_heads(
    names: Mapping[str, torch.Tensor], base: BaseModel | None, start: Mapping[str, torch.Tensor]
) -> dict[str, Offset]:
    """Return the parts of modules that were saved whole.

    Args:
        names: Their tensors under the names of the model.
        base: The model as it was before, whose modules are where these began; None if unknown.
        start: Where they began, under the same names, if it was recorded; it wins.

    Privacy:
        Nothing, no data touched.
    """
    return {name: Offset(tensor, _began(name, base, start)) for name, tensor in names.items()}


def needs_head(config: Any) -> bool:
    """Return whether peft will ask for a head that an adapter does not bring.

    Args:
        config: peft's configuration of what is written.

    Privacy:
        Nothing, no data touched.
    """
    task = getattr(config.task_type, "value", config.task_type)
    return task in _HEADED_TASKS and not config.modules_to_save


def head_modules_of(places: frozenset[str]) -> list[str] | None:
    """Return the names of modules for `modules_to_save`, None for none.

    Args:
        places: Full names of parameters.

    Privacy:
        Nothing, no data touched.
    """
    return sorted({place.rpartition(".")[0] for place in places}) or None


def _began(
    name: str, base: BaseModel | None, start: Mapping[str, torch.Tensor]
) -> torch.Tensor | None:
    if name in start:
        return start[name]
    return None if base is None or name not in base.tensors else base.tensor(name)


def _lies_in(name: str, modules: tuple[str, ...]) -> bool:
    return any(f".{module}." in f".{name}" for module in modules)
