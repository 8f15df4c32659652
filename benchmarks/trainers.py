"""`transformers.Trainer` with peft and without privacy: as it comes, and with group_by_length.

Batches of 32, padded to their longest record. A trainer runs in a thread of its own, which
waits between blocks: what it sets up, and counts for its epochs, is not timed.
"""

import tempfile
from functools import partial
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any

import torch
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.loops import Loop, Run
from benchmarks.measuring import Action
from dpft.losses import Classification

__all__ = ["TRAINERS"]

_RATE = 1e-4
_STEPS = 1_000_000  # more than any benchmark takes


def _blocks(run: Run, strategy: str) -> Action:
    """Return blocks of steps of one run of a trainer, which is set up before the first."""
    megabatch = run.trainer_steps * run.physical  # as LengthGroupedSampler cuts what it sorts
    records = run.records[: len(run.records) // megabatch * megabatch]
    turns = _Turns(run.trainer_steps)
    with tempfile.TemporaryDirectory() as folder:  # nothing is saved
        trainer = Trainer(
            model=run.model,
            args=_arguments(run, strategy, folder),
            train_dataset=records,
            data_collator=_collator(run),
            callbacks=[turns],
        )
    trainer.remove_callback(PrinterCallback)
    Thread(target=turns.guarding, args=[trainer], daemon=True).start()
    turns.wait()

    def block() -> int:
        turns.take()
        return megabatch

    return block


class _Turns(TrainerCallback):
    """Lets a trainer in a thread of its own take some steps at a time, and wait in between."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._go = Semaphore(0)
        self._told: SimpleQueue[Exception | None] = SimpleQueue()

    def guarding(self, trainer: Any) -> None:
        try:
            trainer.train()
        except Exception as error:  # noqa: BLE001 - told in the thread that waits
            self._told.put(error)

    def take(self) -> None:
        self._go.release()
        self.wait()

    def wait(self) -> None:
        error = self._told.get()
        if error is not None:
            raise error

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._pause()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - theirs
        if state.global_step % self._steps == 0:
            self._pause()

    def _pause(self) -> None:
        self._told.put(None)
        self._go.acquire()


def _arguments(run: Run, strategy: str, folder: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        train_sampling_strategy=strategy,
        per_device_train_batch_size=run.physical,
        max_steps=_STEPS,
        learning_rate=_RATE,
        use_cpu=run.device == "cpu",
        dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="no",
        disable_tqdm=True,
        report_to=[],
    )


def _collator(run: Run) -> Any:
    is_label = isinstance(run.loss, Classification)
    return (DataCollatorWithPadding if is_label else DataCollatorForSeq2Seq)(run.tokenizer)


TRAINERS: dict[str, Loop] = {
    "Trainer": partial(_blocks, strategy="random"),
    "Trainer, group_by_length": partial(_blocks, strategy="group_by_length"),
}
"""Loops by name."""
