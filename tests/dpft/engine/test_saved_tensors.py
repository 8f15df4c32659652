"""What is kept for the backward pass: what the plain operations keep, seen by the same hooks."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from dpft.engine.attachment import Engine, PerRecordLoss

Batch = Mapping[str, torch.Tensor]
Kept = list[tuple[int, int, int]]  # address and size of the storage, size of the tensor; in bytes


class Watched:
    """A loss whose forward pass is watched as offloading would watch it."""

    def __init__(self, losses: PerRecordLoss) -> None:
        self._losses = losses
        self.kept: Kept = []
        self._alive: list[torch.Tensor] = []  # a freed address could be counted for another tensor

    def __call__(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        self.kept, self._alive = [], []
        with saved_tensors_hooks(self._pack, lambda tensor: tensor):
            return self._losses(model, batch)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self.kept.append((storage.data_ptr(), storage.nbytes(), tensor.nbytes))
        self._alive.append(tensor.detach())
        return self._alive[-1]

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors kept, each use counted."""
        return sum(size for _, _, size in self.kept)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory held, each storage once."""
        return sum({address: size for address, size, _ in self.kept}.values())


def watch(model: nn.Module, batch: Batch, losses: PerRecordLoss) -> tuple[Watched, Watched]:
    """Return what a plain pass keeps, and what the engine's keeps."""
    plain, ours = Watched(losses), Watched(losses)
    total = plain(model, batch).sum()
    plain_sizes = list(plain.kept)
    total.backward()
    model.zero_grad(set_to_none=True)
    Engine(model, ours).gradients(batch)
    plain.kept = plain_sizes
    return plain, ours


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("architecture", ["bert", "t5", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["lora", "ia3", "prefix"])
def test_a_pass_keeps_exactly_what_the_plain_one_keeps(
    method: str,
    architecture: str,
    dropout: float,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
) -> None:
    model = prepare(method, architecture, torch.float32, dropout=dropout)
    plain, ours = watch(model, texts(), losses)
    assert len(ours.kept) == len(plain.kept) > 0
    assert ours.tensor_bytes == plain.tensor_bytes
    assert ours.memory_bytes == plain.memory_bytes


@pytest.mark.parametrize("architecture", ["bert", "t5", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["prompt", "layer_norm", "dora", "full"])
def test_a_pass_keeps_little_more_than_the_plain_one(
    method: str,
    architecture: str,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
) -> None:
    # What is kept beyond the plain pass has the size of a parameter, such as T5's table of relative
    # positions. Nothing grows with the number of records.
    model = prepare(method, architecture, torch.float32)
    plain, ours = watch(model, texts(), losses)
    assert ours.tensor_bytes <= 1.02 * plain.tensor_bytes
    assert ours.memory_bytes <= 1.02 * plain.memory_bytes
