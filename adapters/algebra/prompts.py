"""Prompts and prefixes: rows before the input, keys and values before those of every layer.

Two things can be done. A task vector, tau = trained - start, adds up where all begin at the same
recorded start. A mixture puts them side by side: for prefixes, it is attention to all of them,
gated by the sums of their scores, in any order; for prompts, the words also move to later
positions. A mixture is not a sum of effects, and has no negation.
"""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PrefixTuningConfig, PromptTuningConfig, PromptTuningInit

from dpft.adapters.algebra.delta import Delta, Family, Part, Source, Written
from dpft.adapters.algebra.heads import head_modules_of
from dpft.adapters.algebra.linear import same_shape
from dpft.adapters.algebra.names import on_prompted_model, refuse_leftover
from dpft.adapters.algebra.offset import Offset
from dpft.errors import ConfigurationError

__all__ = ["ROWS", "mixed", "prompt_settings", "read_prefix", "read_prompt", "write_prompt"]

ROWS = "prompt_embeddings"
_STACKS = "num_transformer_submodules"


def read_prompt(source: Source, names: dict[str, torch.Tensor]) -> tuple[Family, dict[str, Part]]:
    """Read a prompt.

    Args:
        source: What peft saved, and where the prompt began if that was recorded.
        names: The adapter's tensors; emptied of what was read.

    Returns:
        The family and one part.

    Raises:
        ConfigurationError: If there are other tensors than rows.

    Privacy:
        Nothing, no data touched.

    References:
        Lester et al. 2021 (2104.08691), section 2.1; Belanec et al. 2024 (2408.01119), equation 1.
    """
    part = Offset(names.pop(ROWS), source.start.get(ROWS))
    refuse_leftover(names)
    return Family.PROMPT, {ROWS: part}


def read_prefix(source: Source, names: dict[str, torch.Tensor]) -> tuple[Family, dict[str, Part]]:
    """Read a prefix; of one with a projection, peft saves what the projection makes.

    Args:
        source: What peft saved, and where the prefix began if that was recorded.
        names: The adapter's tensors; emptied of what was read.

    Returns:
        The family and one part.

    Raises:
        ConfigurationError: If there are other tensors than rows.

    Privacy:
        Nothing, no data touched.

    References:
        Li and Liang 2021 (2101.00190), section 4.2.
    """
    return Family.PREFIX, read_prompt(source, names)[1]


def prompt_settings(config: Any) -> dict[str, str]:
    """Return what must agree in a sum or a mixture.

    Args:
        config: Of a prompt or a prefix.

    Privacy:
        Nothing, no data touched.
    """
    return {_STACKS: str(getattr(config, _STACKS) or 1)}


def mixed(parts: Sequence[Offset]) -> Offset:
    """Return the rows of all parts, one after another.

    Args:
        parts: At least one, of one width.

    Returns:
        Rows whose start is unknown.

    Raises:
        ConfigurationError: If widths differ.

    Privacy:
        Nothing, no data touched.
    """
    same_shape([part.value[:1] for part in parts])
    return Offset(torch.cat([part.value for part in parts]), None)


def write_prompt(delta: Delta) -> Written:
    """Return the adapter that peft loads.

    Args:
        delta: Of a prompt or a prefix.

    Raises:
        ConfigurationError: If its rows lie before several stacks; how to cut them is not known.

    Privacy:
        Nothing, no data touched.
    """
    rows, stacks = _value(delta.parts[ROWS]), int(delta.settings[_STACKS])
    given: dict[str, Any] = {
        "task_type": delta.task_type,
        "num_virtual_tokens": len(rows),
        _STACKS: stacks,
        "modules_to_save": head_modules_of(delta.heads),
        "inference_mode": True,
    }
    if delta.family is Family.PREFIX:
        config: Any = PrefixTuningConfig(**given)
    elif stacks == 1:
        config = PromptTuningConfig(**given, prompt_tuning_init=PromptTuningInit.RANDOM)
    else:
        raise ConfigurationError(
            f"Expected {_STACKS}={stacks} to be 1 for a prompt. The rows of several stacks are not "
            "told apart in the file. Train with num_transformer_submodules=1."
        )
    heads = {on_prompted_model(place): _value(delta.parts[place]) for place in delta.heads}
    return Written(config, {ROWS: rows} | heads)


def _value(part: Part) -> torch.Tensor:
    assert isinstance(part, Offset)
    return part.value
