"""The difference of two models, one tensor at a time: of models in memory, or of folders."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.pytorch_utils import Conv1D

from dpft.accounting.bounded_files import bounded_text
from dpft.adapters.algebra import BaseModel, Delta, Dense, Family, Part
from dpft.adapters.algebra.base import labels_digest, update_with_tensor
from dpft.adapters.algebra.layout import Layout
from dpft.errors import ConfigurationError
from dpft.taskvectors.bases import BaseIdentity

__all__ = ["difference", "identity_of_folder"]

_WORD_HEADS = ("LMHeadModel", "ForCausalLM", "ForConditionalGeneration", "ForMaskedLM")


def difference(
    base: nn.Module | Path | str, finetuned: nn.Module | Path | str
) -> tuple[Delta, BaseIdentity]:
    """Return what full fine-tuning added to the weights.

    Args:
        base: The model before: in memory, or a folder of safetensors files.
        finetuned: The model after, likewise.

    Returns:
        The delta, each part computed when it is asked for, and what identifies the base model.

    Raises:
        ConfigurationError: If names or shapes differ, or a number that is not trained does.

    Privacy:
        Nothing, no data touched: weights.
    """
    before, after = _weights(base), _weights(finetuned)
    if set(before.tensors) != set(after.tensors):
        apart = sorted(set(before.tensors) ^ set(after.tensors))
        raise ConfigurationError(
            f"Expected tensors={', '.join(apart[:3])} in both models. What one of them lacks has "
            "no difference. Take two models of one architecture."
        )
    parts = _Differences(before, after)
    heads = frozenset(place for place in parts if before.is_head(place))
    delta = Delta(Family.WEIGHTS, parts, heads=heads, labels=after.labels)
    return delta, BaseIdentity(before.name, before.digest)


def identity_of_folder(folder: Path | str) -> BaseIdentity:
    """Return what identifies a model in a folder; its tensors are read one at a time.

    Args:
        folder: A folder of safetensors files.

    Raises:
        ConfigurationError: If there are none.

    Privacy:
        Nothing, no data touched: weights.
    """
    found = _OfFolder(Path(folder))
    return BaseIdentity(found.name, found.digest)


class _Differences(Mapping[str, Part]):
    """after - before by name, for tensors that changed; nothing is kept but names."""

    def __init__(self, before: "_Weights", after: "_Weights") -> None:
        self._before, self._after = before, after
        self._changed = dict.fromkeys(
            name for name in sorted(before.tensors) if self._has_changed(name)
        )

    def _has_changed(self, name: str) -> bool:
        old, new = self._before.tensors[name], self._after.tensors[name]
        if old.shape != new.shape or (not old.is_floating_point() and not torch.equal(old, new)):
            raise ConfigurationError(
                f"Expected {name} to be of one shape in both models, and equal if it holds whole "
                "numbers. There is no difference to take. Take two models of one architecture."
            )
        return not torch.equal(old, new)

    def __getitem__(self, place: str) -> Part:
        if place not in self._changed:
            raise KeyError(place)
        old, new = self._before.tensors[place], self._after.tensors[place]
        return Dense((new.double() - old.double()).to(new.dtype), self._before.layout(place))

    def __iter__(self) -> Iterator[str]:
        return iter(self._changed)

    def __len__(self) -> int:
        return len(self._changed)


class _Weights:
    """Tensors of a model and what is known of it."""

    tensors: Mapping[str, torch.Tensor]
    name: str
    digest: str
    labels: str | None

    def is_head(self, name: str) -> bool:
        raise NotImplementedError

    def layout(self, name: str) -> Layout:
        raise NotImplementedError


class _OfModel(_Weights):
    """A model in memory. Weights that are shared are taken once."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._base = model, BaseModel(model)
        self.name, self.digest, self.labels = self._base.name, self._base.digest, self._base.labels
        kept = {name for name, _ in model.named_parameters()}
        kept |= {name for name, _ in model.named_buffers()}
        tensors = self._base.tensors
        self.tensors = {name: tensor for name, tensor in tensors.items() if name in kept}

    def is_head(self, name: str) -> bool:
        return self._base.is_head(name)

    def layout(self, name: str) -> Layout:
        module = self._model.get_submodule(name.rpartition(".")[0])
        kinds = {nn.Linear: Layout.LINEAR, Conv1D: Layout.CONV1D, nn.Embedding: Layout.EMBEDDING}
        is_weight = name.endswith(".weight")
        return kinds.get(type(module), Layout.UNKNOWN) if is_weight else Layout.UNKNOWN


class _OfFolder(_Weights):
    """A folder of safetensors files, read one tensor at a time."""

    def __init__(self, folder: Path) -> None:
        self.tensors = _Files(folder)
        config = _config_in(folder)
        names = config.get("id2label")
        tells_words = any(each.endswith(_WORD_HEADS) for each in config["architectures"])
        self.labels = labels_digest(names, config.get("vocab_size") if tells_words else None)
        self.name = str(folder)
        tops = Counter(name.partition(".")[0] for name in self.tensors)
        self._body = f"{tops.most_common(1)[0][0]}." if len(tops) > 1 else ""
        self.digest = self._digest()

    def is_head(self, name: str) -> bool:
        return not name.startswith(self._body)

    def layout(self, name: str) -> Layout:  # noqa: ARG002 - a file does not tell
        return Layout.UNKNOWN

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            if not self.is_head(name):
                update_with_tensor(digest, name.removeprefix(self._body), self.tensors[name])
        return digest.hexdigest()


def _config_in(folder: Path) -> dict[str, Any]:
    """Return what is known of a model; the fields that are computed with are of their types."""
    path = folder / "config.json"
    try:
        fields = json.loads(bounded_text(path)) if path.is_file() else {}
        architectures = list(map(str, fields.get("architectures") or ()))
        fields["id2label"] = {str(int(key)): each for key, each in _labels(fields)} or None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f"Expected {path} to be the configuration of a model ({type(error).__name__}). What "
            "its head predicts would not be known. Take the file as it was saved."
        ) from error
    return {**fields, "architectures": architectures}


def _labels(fields: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return list(dict(fields.get("id2label") or {}).items())


class _Files(Mapping[str, torch.Tensor]):
    """Tensors of all safetensors files in a folder, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    self._files |= dict.fromkeys(file.keys(), path)
            except SafetensorError as error:
                raise ConfigurationError(
                    f"Expected {path} to be a whole safetensors file ({error}). A difference of "
                    "other tensors would be taken. Take the file as it was saved."
                ) from error
        if not self._files:
            raise ConfigurationError(
                f"Expected folder={folder} to hold safetensors files. Other formats run code when "
                "they are read. Save the model with save_pretrained()."
            )

    def __getitem__(self, name: str) -> torch.Tensor:
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _weights(model: nn.Module | Path | str) -> _Weights:
    if isinstance(model, nn.Module):
        return _OfModel(model)
    return _OfFolder(Path(model))
