"""Synthetic records shaped like the task's: random tokens and labels of the public ranges.

The preflight runs on them and never on private records, because its verdict is published.
"""

from collections.abc import Sequence
from typing import Any

import torch

from dpft.errors import ConfigurationError
from dpft.records import Row

__all__ = ["synthetic_rows"]

_LENGTHS = (7, 11, 4)  # three different ones, unsorted, so that two records are padded
_IDS = ("input_ids", "decoder_input_ids")
_ZEROS = ("token_type_ids",)
_SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id")  # a number, or several
_ONES = ("attention_mask", "decoder_attention_mask")


def synthetic_rows(
    template: Row, config: Any, seed: int = 0, lengths: Sequence[int] = _LENGTHS
) -> list[dict[str, Any]]:
    """Return random records with the fields of a template.

    Args:
        template: A row; only its field names and the types of its values are used.
        config: The model's configuration, for `vocab_size`, `num_labels` and special tokens.
        seed: Public seed.
        lengths: Length of each record in tokens, public.

    Returns:
        Rows with the same fields, one for each length.

    Raises:
        ConfigurationError: If a field's public range is not known.

    Privacy:
        Nothing: of the template only field names, types of values and the length of lists of
        real numbers (a public width) are read (`tests/dpft/test_preflight.py`).
    """
    generator = torch.Generator().manual_seed(seed)
    return [_row(template, config, length, generator) for length in lengths]


def _row(
    template: Row,
    config: Any,
    length: int,
    generator: torch.Generator,
) -> dict[str, Any]:
    tokens = _tokens(config, length, generator) if _vocabulary(config) else []
    row: dict[str, Any] = {}
    for name, value in template.items():
        if name in _IDS and tokens:
            row[name] = tokens
        elif name in _ZEROS or name in _ONES:
            row[name] = [int(name in _ONES)] * length
        elif name == "labels":
            row[name] = _label(value, config, tokens, generator)
        else:
            row[name] = _numbers(name, value, generator)
    return row


def _tokens(config: Any, length: int, generator: torch.Generator) -> list[int]:
    named = [getattr(config, name, None) for name in _SPECIAL]
    special = {
        token for one in named for token in (one if isinstance(one, (list, tuple)) else [one])
    }
    drawn: list[int] = []
    while len(drawn) < length:
        token = int(torch.randint(_vocabulary(config), (1,), generator=generator))
        if token not in special:
            drawn.append(token)
    return drawn


def _vocabulary(config: Any) -> int:
    return int(getattr(config, "vocab_size", 0) or 0)


def _label(value: Any, config: Any, tokens: list[int], generator: torch.Generator) -> Any:
    if isinstance(value, Sequence):
        return list(tokens)
    if isinstance(value, float):
        return float(torch.randn(1, generator=generator))
    return int(torch.randint(int(getattr(config, "num_labels", 2)), (1,), generator=generator))


def _numbers(name: str, value: Any, generator: torch.Generator) -> Any:
    if isinstance(value, float):
        return float(torch.randn(1, generator=generator))
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], float):
        return torch.randn(len(value), generator=generator).tolist()
    raise ConfigurationError(
        f"Expected synthetic records to be given for field {name!r}. Its public range is not "
        "known, and the preflight never looks at private values. Pass synthetic=[rows] with at "
        "least two records of your own making."
    )
