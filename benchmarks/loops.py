"""Training loops over records of real lengths; every builder returns one block of a loop.

A block is one logical batch of the private loops, and as many records of the plain ones. It
returns how many records it went through.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from opacus import PrivacyEngine
from opacus.utils.batch_memory_manager import BatchMemoryManager
from torch import nn
from torch.utils.data import DataLoader

import dpft
from benchmarks.engines import adamw
from benchmarks.measuring import Action
from benchmarks.peers.older import OLDER, Attach, Terms
from dpft.losses import CausalLanguageModelling, Classification
from dpft.records import Row, collate

__all__ = ["LOOPS", "OLDER_LOOPS", "Loop", "Run"]

_STEPS = 1_000_000  # of the plan; more than any benchmark takes


@dataclasses.dataclass(frozen=True)
class Run:
    """What all loops are given alike.

    Args:
        model: In train mode; each loop needs its own.
        records: Encoded records.
        loss: Of a record.
        tokenizer: Pads for transformers' own collators.
        expected: Mean size of a logical batch.
        physical: Records in a batch of the loops that do not cut by tokens.
        trainer_steps: Steps of a block of transformers' trainer; 50 batches are what it sorts by
            length at a time.
        device: Where the model lies.

    Privacy:
        A benchmark: its models are thrown away, nothing is released.
    """

    model: nn.Module
    records: Sequence[Row]
    loss: Classification | CausalLanguageModelling
    tokenizer: Any
    expected: int = 1024
    physical: int = 32
    trainer_steps: int = 50
    device: str = "cpu"

    def collate(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Pad rows to the longest of them."""
        return {name: value.to(self.device) for name, value in collate(rows, 0).items()}


Loop = Callable[[Run], Action]
"""Builds the blocks of a training loop; the model is the loop's own."""


def _dpft(run: Run) -> Action:
    """`PrivateStep` as `dpft.fit` uses it: Poisson samples cut by tokens after sorting."""
    privacy = dpft.Privacy(
        noise_multiplier=1.0, delta=1e-6, expected_batch_size=run.expected, steps=_STEPS
    )
    private = dpft.PrivateStep(run.model, adamw(run.model), privacy, run.loss)
    count = _Count(run.collate)
    batches = private.batches(run.records, count)

    def block() -> int:
        count.records = 0
        private(next(batches))
        return count.records

    return block


class _Count:
    """Counts the records that are collated."""

    def __init__(self, inner: Callable[[Sequence[Row]], dict[str, torch.Tensor]]) -> None:
        self._inner = inner
        self.records = 0

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        self.records += len(rows)
        return self._inner(rows)


def _opacus(run: Run) -> Action:
    """Opacus as its tutorials use it: Poisson loader, BatchMemoryManager, hooks."""
    loader: Any = DataLoader(run.records, batch_size=run.expected, collate_fn=run.collate)  # type: ignore[arg-type]  # any sequence does
    module, optimizer, loader = PrivacyEngine().make_private(
        module=run.model,
        optimizer=adamw(run.model),
        data_loader=loader,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    batches = _physical(loader, optimizer, run.physical)

    def block() -> int:
        records, is_over = 0, False
        while not is_over:
            batch = next(batches)
            records += len(batch["labels"])
            torch.autograd.backward(run.loss(module, batch).mean())
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # keeps the sum until the logical batch is over
            is_over = all(p.summed_grad is None for p in optimizer.params)
        return records

    return block


def _physical(loader: Any, optimizer: Any, size: int) -> Iterator[Mapping[str, torch.Tensor]]:
    with BatchMemoryManager(
        data_loader=loader, max_physical_batch_size=size, optimizer=optimizer
    ) as batches:
        while True:
            yield from batches


def _older(attach: Attach) -> Loop:
    """Peers without a Poisson loader: random batches, the optimiser once in a logical batch."""

    def build(run: Run) -> Action:
        take = attach(run.model, adamw(run.model), Terms(1.0, 1.0, run.expected))
        random = np.random.default_rng(0)

        def block() -> int:
            batches = _shuffled(run, random)
            for number, positions in enumerate(batches, 1):
                batch = run.collate([run.records[position] for position in positions])
                take(run.loss(run.model, batch), is_last=number == len(batches))
            return sum(map(len, batches))

        return block

    return build


def _plain(run: Run) -> Action:
    """The usual loop, written out: random batches, padded to their longest record."""
    return _without_privacy(run, _shuffled)


def _plain_sorted(run: Run) -> Action:
    """The same with the records of a block sorted by length."""
    return _without_privacy(run, _by_length)


def _without_privacy(run: Run, order: Callable[[Run, np.random.Generator], Any]) -> Action:
    optimizer = adamw(run.model)
    random = np.random.default_rng(0)

    def block() -> int:
        batches = order(run, random)
        for positions in batches:
            batch = run.collate([run.records[position] for position in positions])
            run.model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return sum(map(len, batches))

    return block


def _shuffled(run: Run, random: np.random.Generator) -> list[Sequence[int]]:
    chosen = random.choice(len(run.records), run.expected, replace=False).tolist()
    return _parts(chosen, run.physical)


def _by_length(run: Run, random: np.random.Generator) -> list[Sequence[int]]:
    chosen = [position for batch in _shuffled(run, random) for position in batch]
    chosen.sort(key=lambda position: len(run.records[position]["input_ids"]))
    batches = _parts(chosen, run.physical)
    return [batches[place] for place in random.permutation(len(batches))]


def _parts(positions: Sequence[int], size: int) -> list[Sequence[int]]:
    return [positions[start : start + size] for start in range(0, len(positions), size)]


LOOPS: dict[str, Loop] = {
    "dpft": _dpft,
    "opacus": _opacus,
    "plain": _plain,
    "plain, sorted by length": _plain_sorted,
}
OLDER_LOOPS: dict[str, Loop] = {name: _older(attach) for name, attach in OLDER.items()}
"""Loops of peers whose sources have to be given."""
