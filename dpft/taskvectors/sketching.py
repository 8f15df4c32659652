"""Deltas without content, from the headers of files and certificates alone.

What follows from them is what follows from the deltas, except for what only numbers tell: whether
two runs share their noise, whether two starts are equal, whether the tensors are those of their
certificate. That is found when the vectors are used.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from dpft.accounting.canonical_json import canonical, digest_of
from dpft.adapters.algebra import Delta, Family, LowRank, Offset, Part, Source
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.taskvectors.adapter_file import WEIGHTS, adapter_config, read_whole, shapes_in
from dpft.taskvectors.certification import Uncertified, check_runs, marked
from dpft.taskvectors.expression import Expression
from dpft.taskvectors.leaf import Leaf
from dpft.taskvectors.reading import START, STARTS, base_of_folder
from dpft.taskvectors.stored_parts import Form, shapes_of_parts
from dpft.verification import Artefact, holds_certificate, stated

__all__ = ["Hints", "as_if_equal", "sketch"]

_SCALING = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hints:
    """What is known of a delta beside its files.

    Args:
        on_uncertified: What to do with a delta that has no certificate.
        starts_known: Whether the start of its heads and biases can be told when it is used.
        labels: Digest of the labels of its head; None if unknown.

    Privacy:
        Nothing, no data touched.
    """

    on_uncertified: Uncertified = Uncertified.REFUSE
    starts_known: bool = False
    labels: str | None = None


def sketch(folder: Path, hints: Hints) -> Leaf:
    """Return the leaf of a folder without the content of its tensors.

    Args:
        folder: Folder of an adapter, of a run, or of a saved vector.
        hints: What is known beside.

    Returns:
        A leaf of tensors on torch's device "meta"; its id is no digest of tensors.

    Raises:
        ConfigurationError: If the adapter cannot be read exactly.
        BrokenGuaranteeError: If the certificate is missing, or another one is named in a header.

    Privacy:
        Nothing, no data touched (`test_a_dry_run_reads_no_tensor`).
    """
    artefact = Artefact.of(folder)
    publication = stated(artefact) if holds_certificate(artefact) else None
    if publication is None and hints.on_uncertified is Uncertified.REFUSE:
        raise BrokenGuaranteeError(
            f"Expected a certificate to lie in {folder}. Nobody knows what the delta tells of "
            "private records. Name the folder of a run, or ask by name for on_uncertified=mark: "
            "epsilon of all that is made of it is infinite."
        )
    expression = Expression.read(artefact.folder)
    base = base_of_folder(artefact.folder, expression)
    content = publication.tensors if publication else str(artefact.folder.resolve())
    certificate = publication.certificate if publication else marked(digest_of(content))
    meaning = _meaning(artefact.folder, expression)
    name = digest_of(canonical([content, base.name, base.digest, certificate.digest, meaning]))
    check_runs(certificate.runs)
    return Leaf(name, _shapes(artefact.folder, expression, hints), certificate, base)


def _meaning(folder: Path, expression: Expression | None) -> str:
    """Return what turns the same tensors into another delta."""
    if expression is not None and expression.form is Form.DELTA:
        return ""
    config = adapter_config(folder)
    return json.dumps([getattr(config, name, None) for name in _SCALING], default=str)


@contextlib.contextmanager
def as_if_equal() -> Iterator[None]:
    """Compare tensors without content by identity: those that are taken to be equal are one.

    Privacy:
        Nothing, no data touched.
    """
    with _Identity():
        yield


class _Identity(TorchFunctionMode):
    """Answers `torch.equal` of tensors without content."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func is torch.equal and args[0].is_meta:
            return args[0] is args[1]
        return func(*args, **(kwargs or {}))


def _shapes(folder: Path, expression: Expression | None, hints: Hints) -> Delta:
    if expression is not None and expression.form is Form.DELTA:
        return _known(expression.shell(shapes_of_parts(folder, expression.layouts)))
    config = adapter_config(folder)
    if getattr(config, "use_dora", False):
        raise ConfigurationError(
            f"Expected use_dora=True of {folder} to be False in a dry run. What DoRA adds depends "
            "on the numbers of the base model. Run without --dry-run."
        )
    shapes = shapes_in(folder / WEIGHTS)
    starts = shapes_in(folder / STARTS) if (folder / STARTS).is_file() else {}
    start = {name.removeprefix(START): tensor for name, tensor in starts.items()}
    delta = read_whole(Source(config=config, tensors=shapes, start=start))
    if hints.starts_known:
        parts = {p: _started(delta, p) for p in delta.parts}
        delta = dataclasses.replace(delta, parts=parts)
    labels = expression.labels if expression is not None else hints.labels
    return _known(dataclasses.replace(delta, labels=labels))


def _started(delta: Delta, place: str) -> Part:
    """Return a part with a start if it is one of the base model's own parameters."""
    part = delta.parts[place]
    of_base = place in delta.heads or delta.family is Family.WEIGHTS
    if not isinstance(part, Offset) or part.start is not None or not of_base:
        return part
    return Offset(part.value, part.value)


def _known(delta: Delta) -> Delta:
    """Make those tensors one that are taken to be equal."""
    parts = {place: _shared(place, part, delta.frozen_seed) for place, part in delta.parts.items()}
    return dataclasses.replace(delta, parts=parts)


def _shared(place: str, part: Part, seed: int | None) -> Part:
    if isinstance(part, Offset) and part.start is not None:
        return Offset(part.value, _one("start", place, part.start.shape, part.start.dtype))
    if isinstance(part, LowRank) and seed is not None:
        right = _one(f"seed {seed}", place, part.right.shape, part.right.dtype)
        return dataclasses.replace(part, right=right)
    return part


@functools.cache
def _one(what: str, place: str, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    del what, place  # tell apart what is not taken to be equal
    return torch.empty(shape, dtype=dtype, device="meta")
