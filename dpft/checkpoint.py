"""Checkpoints: the iterate after a noisy step, and what the optimiser needs to go on.

    checkpoints/step_000120/
        weights.safetensors        trainable parameters
        optimisation.safetensors   tensors of the optimiser and of the average
        optimisation.json          its plain numbers, and where the tensors belong
        state.json                 steps, whose run it is, digests of all files, its own included

Everything in them post-processes noised gradients. No accumulator, no index, no key, no time.
Reading runs no code: there is no pickle.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from dpft.charges import FORMAT_VERSION
from dpft.errors import BrokenGuaranteeError
from dpft.run_folder import make_durable, storing

__all__ = ["Checkpoint", "Checkpoints"]

_KEPT = 2
_STATE = "state.json"
# What damaged files raise, also where somebody damaged them on purpose.
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    SafetensorError,
    TypeError,
    ValueError,
)
_PARTS = ("optimisation.json", "optimisation.safetensors", "weights.safetensors")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a run stood after a step.

    Args:
        intended: Steps charged up to this one, itself included.
        updates: Those of them whose update is in the weights.
        weights: Trained tensors by name.
        optimisation: State of the optimiser: tensors, numbers, text and None in lists and
            dictionaries with string keys.

    Privacy:
        Post-processing of noised gradients, and public numbers.
    """

    intended: int
    updates: int
    weights: Mapping[str, torch.Tensor]
    optimisation: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run, the last two of them.

    Args:
        folder: Where they lie; made with the first one.

    Privacy:
        What is saved is released: only iterates after noise may be given
        (`tests/dpft/test_checkpoint.py`, `tests/end_to_end/test_run_folder_is_releasable.py`).
    """

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self._folder = folder

    def save(self, checkpoint: Checkpoint, run: str) -> None:
        """Write a checkpoint whole or not at all, and delete those before the last two.

        Args:
            checkpoint: What to write.
            run: Random name of the process that made it, as charged.

        Raises:
            StorageError: If it cannot be written; those before it are still there.

        Privacy:
            Releases the checkpoint. It is in place, durably, when this returns.
        """
        place = self._folder / f"step_{checkpoint.intended:06d}"
        with storing(place, "the steps stay charged and the checkpoints before it are whole"):
            self._write(place, _files(checkpoint, run))
            for old in [path for path in self._present() if path != place][_KEPT - 1 :]:
                _remove(old)

    def newest(self, runs: Sequence[str], intended: int) -> Checkpoint | None:
        """Read the newest checkpoint that is whole.

        Args:
            runs: Names of the processes that the charges know.
            intended: Steps charged.

        Returns:
            The checkpoint; None if there is none, or all are damaged.

        Raises:
            BrokenGuaranteeError: If a whole one was made by steps that are not charged here.

        Privacy:
            Nothing, no data touched. Weights whose steps are charged elsewhere, or nowhere, are
            never continued from
            (`test_a_checkpoint_whose_steps_are_not_charged_is_refused`).
        """
        for folder in self._present():
            try:
                checkpoint, run = _read(folder)
            except _UNREADABLE:
                continue
            if run not in runs or checkpoint.intended > intended:
                raise BrokenGuaranteeError(
                    f"Expected the steps of {folder} to stand in charges.jsonl beside it. Weights "
                    "whose steps were charged elsewhere would make this certificate too small. "
                    "Put back the newest charges.jsonl, or start a new run."
                )
            return checkpoint
        return None

    def remove_drafts(self) -> None:
        """Remove what processes left that were interrupted while they wrote a checkpoint.

        Privacy:
            Nothing, no data touched.
        """
        for stale in self._folder.glob(".*.draft"):
            _remove(stale)

    def _write(self, place: Path, files: Mapping[str, bytes]) -> None:
        draft = self._folder / f".{place.name}.draft"
        self.remove_drafts()
        try:
            draft.mkdir(parents=True)
            for file, content in files.items():
                (draft / file).write_bytes(content)
                make_durable(draft / file)
            make_durable(draft)
        except OSError:  # half a checkpoint would take the room that is missing
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _remove(place)  # only ever a damaged one: no step is taken twice
        os.replace(draft, place)  # noqa: PTH105 - the atomic call by its name
        make_durable(self._folder)
        make_durable(self._folder.parent)

    def _present(self) -> list[Path]:
        """Return the folders of checkpoints, newest first."""
        found = [path for path in self._folder.glob("step_*") if _step_of(path) is not None]
        return sorted(found, key=lambda path: -(_step_of(path) or 0))


def _step_of(folder: Path) -> int | None:
    digits = folder.name.removeprefix("step_")
    return int(digits) if digits.isdecimal() else None


def _files(checkpoint: Checkpoint, run: str) -> dict[str, bytes]:
    tensors: dict[str, torch.Tensor] = {}
    plain = _without_tensors(checkpoint.optimisation, tensors)
    files = {
        "weights.safetensors": _saved(checkpoint.weights),
        "optimisation.safetensors": _saved(tensors),
        "optimisation.json": _json(plain),
    }
    state = {
        "format_version": FORMAT_VERSION,
        "run_id": run,
        "intended": checkpoint.intended,
        "updates": checkpoint.updates,
        "files": {name: _digest(content) for name, content in files.items()},
    }
    return files | {_STATE: _json(state | {"digest": _digest(_json(state))})}


def _read(folder: Path) -> tuple[Checkpoint, str]:
    """Return a checkpoint and the name of its process.

    Raises:
        ValueError: If it is not whole; any error of `_UNREADABLE` says the same.
    """
    state = json.loads((folder / _STATE).read_bytes())
    if state.pop("digest") != _digest(_json(state)):
        raise ValueError(folder)
    if sorted(state["files"]) != sorted(_PARTS):  # no other file is opened, wherever it lies
        raise ValueError(folder)
    contents = {name: (folder / name).read_bytes() for name in _PARTS}
    whole = all(_digest(content) == state["files"][name] for name, content in contents.items())
    if not whole or state["format_version"] != FORMAT_VERSION:
        raise ValueError(folder)
    if not 0 < state["updates"] <= state["intended"] == _step_of(folder):
        raise ValueError(folder)
    plain = json.loads(contents["optimisation.json"])
    checkpoint = Checkpoint(
        intended=state["intended"],
        updates=state["updates"],
        weights=load(contents["weights.safetensors"]),
        optimisation=_with_tensors(plain, load(contents["optimisation.safetensors"])),
    )
    return checkpoint, str(state["run_id"])


def _without_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a JSON value in which {"tensor": NAME} stands for each tensor, moved to `tensors`.

    Other dictionaries become {"entries": {...}}, so that none can be taken for a tensor.

    Raises:
        TypeError: If there is anything else, such as an object that only pickle could store.
    """
    if isinstance(value, torch.Tensor):
        name = f"tensor_{len(tensors)}"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"Expected string keys in a checkpoint, got {list(value)[:5]}.")
        # sorted: the numbers of the tensors do not depend on whether the run was resumed
        return {"entries": {key: _without_tensors(value[key], tensors) for key in sorted(value)}}
    if isinstance(value, list):
        return [_without_tensors(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"Expected plain values in a checkpoint, got {type(value).__name__}.")


def _with_tensors(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_with_tensors(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _with_tensors(item, tensors) for key, item in value["entries"].items()}


def _saved(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return tensors as safetensors; copies, since views of one storage are refused."""
    return save(
        {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
