"""Parts of a delta in one safetensors file, for what no adapter of peft holds."""

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dpft.adapters.algebra import Bottleneck, Delta, Dense, LowRank, Offset, Part
from dpft.adapters.algebra.layout import Layout
from dpft.errors import ConfigurationError
from dpft.taskvectors.adapter_file import shapes_in, stored_tensors
from dpft.taskvectors.tensor_stream import refuse_infinite

__all__ = ["Form", "layouts_of", "parts_in", "shapes_of_parts", "store_parts"]

_FILE = "delta.safetensors"
_KINDS: Mapping[str, Any] = {"dense": Dense, "low_rank": LowRank, "offset": Offset}


class Form(str, Enum):
    """How a vector is stored."""

    PEFT = "peft"
    """An adapter that peft loads."""
    DELTA = "delta"
    """Parts as they are, which this library loads."""


def layouts_of(delta: Delta) -> dict[str, str]:
    """Return kind and layout of each part, as `kind:layout`.

    Args:
        delta: What is stored.

    Raises:
        ConfigurationError: If a part is a network, which peft's form holds.

    Privacy:
        Nothing, no data touched.
    """
    return {place: _described(delta.parts[place]) for place in delta.parts}


def store_parts(delta: Delta, folder: Path) -> None:
    """Write all parts into a folder.

    Args:
        delta: What to store.
        folder: An existing folder.

    Raises:
        ConfigurationError: If a number is infinite, or none.

    Privacy:
        Nothing, no data touched: released weights.
    """
    tensors = {
        f"{place}|{name}": tensor.detach().clone().contiguous()
        for place, part in delta.parts.items()
        for name, tensor in part.tensors().items()
    }
    for name, tensor in tensors.items():
        refuse_infinite(name, tensor)
    save_file(tensors, folder / _FILE, metadata={"format": "pt"})


def parts_in(folder: Path, layouts: Mapping[str, str]) -> Mapping[str, Part]:
    """Return the parts in a folder, read one at a time.

    Args:
        folder: What `store_parts` wrote to.
        layouts: What `layouts_of` returned.

    Raises:
        ConfigurationError: If a kind or a tensor is missing.

    Privacy:
        Nothing, no data touched: released weights.
    """
    return _Stored(folder / _FILE, layouts)


def shapes_of_parts(folder: Path, layouts: Mapping[str, str]) -> dict[str, Part]:
    """Return the parts in a folder without content, from the header of their file.

    Args:
        folder: What `store_parts` wrote to.
        layouts: What `layouts_of` returned.

    Raises:
        ConfigurationError: If a kind or a tensor is missing.
        BrokenGuaranteeError: If the file is not whole.

    Privacy:
        Nothing, no data touched.
    """
    by_place: dict[str, dict[str, torch.Tensor]] = {}
    for name, shape in shapes_in(folder / _FILE).items():
        place, _, tensor = name.rpartition("|")
        by_place.setdefault(place, {})[tensor] = shape
    _refuse_other_places(set(by_place), layouts)
    return {place: _part(layouts[place], by_place[place]) for place in sorted(by_place)}


class _Stored(Mapping[str, Part]):
    """Parts in a file, each read when it is asked for and not kept."""

    def __init__(self, path: Path, layouts: Mapping[str, str]) -> None:
        self._path = path
        self._layouts = layouts
        self._names = sorted(shapes_in(path))
        _refuse_other_places({name.rpartition("|")[0] for name in self._names}, layouts)

    def __getitem__(self, place: str) -> Part:
        names = [name for name in self._names if name.rpartition("|")[0] == place]
        read = stored_tensors(self._path, names)
        tensors = {name.rpartition("|")[2]: tensor for name, tensor in read.items()}
        return _part(self._layouts[place], tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._layouts))

    def __len__(self) -> int:
        return len(self._layouts)


def _refuse_other_places(found: set[str], layouts: Mapping[str, str]) -> None:
    if found != set(layouts):
        raise ConfigurationError(
            f"Expected {_FILE} to hold the places of expression.json. One of the files is of "
            "another vector. Take the folder as it was saved."
        )


def _part(described: str, tensors: Mapping[str, torch.Tensor]) -> Part:
    kind, _, layout = described.partition(":")
    if kind == "offset":
        return Offset(tensors["value"], tensors.get("start"))
    made: Part = _KINDS[kind](**tensors, layout=Layout(layout))
    return made


def _described(part: Part) -> str:
    if isinstance(part, Bottleneck):
        raise ConfigurationError(
            "Expected form=delta with changes of weights. Networks beside sub-layers are stored in "
            "peft's form. Leave form out."
        )
    kind = next(name for name, each in _KINDS.items() if isinstance(part, each))
    layout = part.layout.value if isinstance(part, LowRank | Dense) else ""
    return f"{kind}:{layout}"
