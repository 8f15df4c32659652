"""What a private Trainer finds in its output folder, and what it writes there beside the run's."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import get_last_checkpoint, rotate_checkpoints

from dpft.artefact_digest import tensor_files
from dpft.artefacts import save_adapter
from dpft.errors import ConfigurationError
from dpft.loop import Standing

__all__ = ["copy_adapter", "newest_checkpoint", "write_checkpoint"]

_Asked: TypeAlias = str | os.PathLike[str] | bool | None


def newest_checkpoint(output_dir: str | None, asked: _Asked) -> str | None:
    """Find where a run is continued.

    Args:
        output_dir: Folder of the run.
        asked: What `train` was given as `resume_from_checkpoint`.

    Returns:
        The newest checkpoint of the Trainer; None for a new run, or where there is none yet.

    Raises:
        ConfigurationError: If a new run would mix with another, or an older checkpoint is asked
            for.

    Privacy:
        Nothing, no data touched (`test_going_back_to_an_older_checkpoint_is_refused`).
    """
    folder = Path(output_dir or ".")
    find: Callable[[str], str | None] = get_last_checkpoint
    newest = find(os.fspath(folder)) if folder.is_dir() else None
    if not asked and folder.is_dir() and any(folder.iterdir()):
        raise ConfigurationError(
            f"Expected args.output_dir={folder} to be absent or empty. It is the run folder, and "
            "would mix the files of two runs, or of an earlier part of this one. Choose another, "
            "or call train(resume_from_checkpoint=True)."
        )
    newest_path = None if newest is None else Path(newest).resolve()
    if isinstance(asked, str | os.PathLike) and Path(asked).resolve() != newest_path:
        raise ConfigurationError(
            f"Expected resume_from_checkpoint={asked} to be the newest one of {folder}, "
            f"{newest}. Going back would take steps a second time, uncounted. Pass True."
        )
    return newest if asked else None


def write_checkpoint(trainer: Trainer, standing: Standing) -> None:
    """Write the engine's checkpoint, then a folder with adapter, certificate and state.

    Args:
        trainer: A Trainer between two steps.
        standing: Its run.

    Privacy:
        An iterate after noise, and public numbers. The certificate claims the whole plan
        (`test_a_checkpoint_of_the_trainer_is_certified_for_the_whole_plan`).
    """
    standing.save()
    folder = Path(trainer.args.output_dir or ".") / f"checkpoint-{trainer.state.global_step}"
    model: Any = trainer.model
    save_adapter(model, standing.certificate(), folder, standing.plan.privacy.delta)
    _save_tokenizer(trainer, folder)
    _note_callbacks(trainer)
    trainer.state.save_to_json(os.fspath(folder / TRAINER_STATE_NAME))
    rotate_checkpoints(os.fspath(folder.parent), trainer.args.save_total_limit)


def copy_adapter(trainer: Trainer, source: Path, folder: Path) -> None:
    """Copy the adapter of a run and its certificate into a folder that plain peft loads.

    Args:
        trainer: The Trainer, for its tokenizer.
        source: Adapter of its run.
        folder: Where to copy it; the run folder itself keeps it where it is.

    Raises:
        ConfigurationError: If other tensors lie there.

    Privacy:
        Weights after noise, and public numbers.
    """
    if folder.resolve() in {source.resolve(), source.parent.resolve()}:
        folder = source  # the run's own certificate allows no other weights beside it
    else:
        _refuse_other_tensors(folder, source)
        shutil.copytree(source, folder, dirs_exist_ok=True)
    _save_tokenizer(trainer, folder)


def _save_tokenizer(trainer: Trainer, folder: Path) -> None:
    tokenizer: Any = trainer.processing_class
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _note_callbacks(trainer: Trainer) -> None:
    """Put the state of callbacks into that of the Trainer, as it does."""
    noted: Any = trainer.state.stateful_callbacks
    for each in [*trainer.callback_handler.callbacks, trainer.control]:
        if isinstance(each, ExportableState):
            name, state = type(each).__name__, each.state()
            noted[name] = [*noted[name], state] if isinstance(noted[name], list) else state


def _refuse_other_tensors(folder: Path, source: Path) -> None:
    written = {path.relative_to(source) for path in tensor_files(source)}
    others = [path for path in tensor_files(folder) if path.relative_to(folder) not in written]
    if others:
        raise ConfigurationError(
            f"Expected folder={folder} to hold no tensors but the adapter's, found "
            f"{others[0].name}. The certificate would not be theirs. Choose another folder."
        )
