"""Adapters in peft's files, read one module at a time: the shape of each part is known before.

A reader of `dpft.adapters.algebra` reads a subset of tensors as it reads all of them, so that it is
called on shapes alone first, and on the tensors of one module when its part is asked for.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from dpft.accounting.bounded_files import bounded_text
from dpft.accounting.canonical_json import misfit, parsed
from dpft.adapters.algebra import Delta, Part, Source, read
from dpft.artefact_digest import StoredTensor, read_header
from dpft.errors import BrokenGuaranteeError, ConfigurationError

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "adapter_config",
    "as_stored",
    "read_lazily",
    "read_whole",
    "shapes_in",
    "stored_tensors",
]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_LOADING = (
    "adapters",
    "arrow_config",
    "corda_config",
    "eva_config",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "prompt_tuning_init_state_dict_path",
    "shadow_model",
    "source_folders",
    "tokenizer_kwargs",
)
_PATTERNS = (
    "alpha_pattern",
    "exclude_modules",
    "feedforward_modules",
    "layers_pattern",
    "modules_to_save",
    "rank_pattern",
    "target_modules",
)
_LONGEST_PATTERN = 500
_DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I32": torch.int32,
    "I64": torch.int64,
    "U8": torch.uint8,
}
# Where the name of a module ends, by kind; other kinds are read in one piece.
_MARKS = {
    "LORA": ".lora_",
    "DPFT_FFA_LORA": ".lora_",
    "IA3": "",
    "LN_TUNING": "",
    "DPFT_BOTTLENECK": ".dpft_bottleneck_",
}


def adapter_config(folder: Path) -> Any:
    """Read peft's configuration of an adapter.

    Args:
        folder: Folder of the adapter.

    Returns:
        The configuration.

    Raises:
        ConfigurationError: If a file of the adapter is missing, or the configuration is damaged,
            or names what would be imported, opened or searched for a long time.

    Privacy:
        Nothing, no data touched (`test_a_configuration_that_loads_anything_is_refused`).
    """
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ConfigurationError(
            f"Expected {folder} to hold {' and '.join(missing)}. It is no adapter that peft saved "
            "with safetensors; other formats run code when they are read. Name the folder of an "
            "adapter or of a run."
        )
    _refuse_beyond_values(folder / CONFIG)
    try:
        config = PeftConfig.from_pretrained(str(folder))
        _refuse_ill_typed(config)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ConfigurationError(_no_configuration(folder / CONFIG, error)) from error
    return config


def shapes_in(path: Path) -> dict[str, torch.Tensor]:
    """Return tensors without content for those in a file, from its header alone.

    Args:
        path: A safetensors file.

    Raises:
        BrokenGuaranteeError: If it is no such file, or not whole.
        ConfigurationError: If a type is unknown.

    Privacy:
        Nothing, no data touched: released weights
        (`test_a_dry_run_reads_no_tensor`).
    """
    return {name: _shape(name, each) for name, each in read_header(path).tensors.items()}


def as_stored(dtype: torch.dtype) -> str:
    """Return what safetensors calls a type.

    Args:
        dtype: Of a tensor.

    Raises:
        ConfigurationError: If it is not stored.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> as_stored(torch.bfloat16)
        'BF16'
    """
    names = [name for name, each in _DTYPES.items() if each is dtype]
    if not names:
        raise ConfigurationError(
            f"Expected dtype={dtype} to be one of {', '.join(_DTYPES)}. Other types are not "
            "stored. Convert the tensors first."
        )
    return names[0]


def read_lazily(path: Path, source: Source) -> Delta:
    """Read an adapter whose parts are read when they are asked for, and not kept.

    Args:
        path: Its file.
        source: Configuration, base model and starts; the tensors are not looked at.

    Returns:
        The delta. The change by DoRA depends on the base model and is read at once.

    Raises:
        ConfigurationError: If the adapter cannot be read exactly.

    Privacy:
        Nothing, no data touched: released weights (`test_a_lazily_read_adapter_is_the_adapter`).
    """
    shapes = shapes_in(path)
    if getattr(source.config, "use_dora", False):
        return read_whole(dataclasses.replace(source, tensors=load_file(path)))
    whole = read_whole(dataclasses.replace(source, tensors=shapes))
    groups: dict[str, Sequence[str]] = {}
    for names in _groups(shapes, source.config).values():
        known = dataclasses.replace(source, tensors={name: shapes[name] for name in names})
        groups |= dict.fromkeys(read_whole(known).parts, names)
    return dataclasses.replace(whole, parts=_Parts(path, source, groups))


def stored_tensors(path: Path, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Read tensors of a file into memory.

    Args:
        path: A safetensors file.
        names: Which of its tensors.

    Returns:
        Copies: the file is mapped into memory, and what is mapped would stay there.

    Raises:
        BrokenGuaranteeError: If the file is damaged.

    Privacy:
        Nothing, no data touched: released weights.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in names}
    except SafetensorError as error:
        raise BrokenGuaranteeError(
            f"Expected {path} to be a whole safetensors file ({error}). What it holds would not be "
            "what was trained. Take the file from the original run."
        ) from error


def read_whole(source: Source) -> Delta:
    """Read what peft saved of an adapter, or the shapes of it.

    Args:
        source: Configuration and tensors.

    Returns:
        The delta.

    Raises:
        ConfigurationError: If the kind has no verified algebra, or a tensor is missing.

    Privacy:
        Nothing, no data touched: released weights.
    """
    try:
        return read(source)
    except KeyError as error:
        raise ConfigurationError(
            f"Expected the tensor {error} in the file of the adapter. A part that is dropped would "
            "change what the adapter does. Take the whole file."
        ) from error


class _Parts(Mapping[str, Part]):
    """Parts in a file; the tensors of one module are read at a time."""

    def __init__(self, path: Path, source: Source, groups: Mapping[str, Sequence[str]]) -> None:
        self._path, self._source, self._groups = path, source, groups

    def __getitem__(self, place: str) -> Part:
        tensors = stored_tensors(self._path, self._groups[place])
        return read(dataclasses.replace(self._source, tensors=tensors)).parts[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def _no_configuration(path: Path, error: Exception) -> str:
    return (
        f"Expected {path} to be a configuration of peft ({error}). What the tensors mean would not "
        "be known. Take the file from the original run."
    )


def _refuse_beyond_values(path: Path) -> None:
    """Refuse fields by which peft, or we, would import a module or open a file elsewhere."""
    try:
        fields = parsed(CONFIG, bounded_text(path))
    except ConfigurationError as error:
        raise ConfigurationError(_no_configuration(path, error)) from error
    if not isinstance(fields, Mapping):
        raise ConfigurationError(misfit(CONFIG, fields, "an object"))
    named = [name for name in _LOADING if fields.get(name)]
    sources = fields.get("sources")
    named += ["sources"] if isinstance(sources, list) and not all(map(_is_plain, sources)) else []
    slow = [name for name in _PATTERNS if not all(map(_is_quick, _texts_in(fields.get(name))))]
    if named or slow:
        raise ConfigurationError(
            f"Expected {path} without {', '.join(named + slow)}. These fields import modules, open "
            "files elsewhere, or hold patterns that may take for ever. Remove them, or name "
            "modules in full, if the adapter is your own."
        )


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and not set(name) & set("/\\") and name not in {"", ".", ".."}


def _texts_in(value: object) -> Iterable[object]:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list | dict) else []


def _is_quick(pattern: object) -> bool:
    """Return whether a search ends soon: no repeated groups, and few repetitions at all."""
    if not isinstance(pattern, str):
        return True  # told by those who read the field
    is_short = len(pattern) <= _LONGEST_PATTERN and len(re.findall(r"[*+{]", pattern)) <= 4
    return is_short and pattern.count("?") <= 8 and re.search(r"\)[*+{]", pattern) is None


def _refuse_ill_typed(config: Any) -> None:
    """Refuse fields that peft takes over from the file as they are, and that are computed with."""
    for rule, names in _FIELDS.items():
        for name in names:
            if hasattr(config, name) and not rule(getattr(config, name)):
                raise ValueError(f"{name}={getattr(config, name)!r}")


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]  # is a number


def _is_pattern(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    try:
        re.compile("|".join(value))  # peft reads the names of modules as patterns
    except re.error:
        return False
    return all(_is_number(number) for number in value.values())


def _is_list_of_texts(value: object) -> bool:
    if not isinstance(value, list | tuple | set):
        return value is None
    return all(isinstance(each, str) for each in value)


_FIELDS: Mapping[Callable[[object], bool], Sequence[str]] = {
    _is_number: ("r", "lora_alpha"),
    _is_pattern: ("rank_pattern", "alpha_pattern"),
    _is_list_of_texts: ("modules_to_save",),
    lambda value: isinstance(value, str | None): ("base_model_name_or_path",),
    lambda value: isinstance(value, Mapping | None): ("auto_mapping",),
}


def _groups(names: Mapping[str, torch.Tensor], config: Any) -> dict[str, list[str]]:
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    mark = _MARKS.get(kind)
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        owner = "" if mark is None else name.partition(mark)[0] if mark else name
        groups.setdefault(owner, []).append(name)
    return groups


def _shape(name: str, stored: StoredTensor) -> torch.Tensor:
    if stored.dtype not in _DTYPES:
        raise ConfigurationError(
            f"Expected dtype={stored.dtype} of {name} to be one of {', '.join(_DTYPES)}. Sums of "
            "other types are not verified. Save the adapter in float32."
        )
    dtype = _DTYPES[stored.dtype]
    if math.prod(stored.shape) * dtype.itemsize != stored.end - stored.begin:
        raise BrokenGuaranteeError(
            f"Expected shape={stored.shape} of {name} to fill its {stored.end - stored.begin} "
            "bytes. What the file holds is not what its header says. Take the file from the "
            "original run."
        )
    return torch.empty(stored.shape, dtype=dtype, device="meta")
