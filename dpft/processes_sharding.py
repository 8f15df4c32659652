"""A frozen base model that FSDP2 shards over the processes, with trainable adapters in each whole.

Every pass of such a model gathers its weights from all processes, so that all make the same number
of passes in the same order: whoever has no batch left runs synthetic records and drops the result.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dpft.engine.attachment import Engine
from dpft.engine.record_gradients import RecordGradients
from dpft.errors import BrokenGuaranteeError, LostProcessError, UnsupportedError
from dpft.fingerprint import is_sharded_tensor
from dpft.performance import FrozenPrefix, Performance
from dpft.processes import Processes

if TYPE_CHECKING:
    from dpft.privacy import PrivacyPlan

__all__ = ["LockstepEngine", "is_sharded", "refuse_unfit_sharding"]

_Batch = Mapping[str, torch.Tensor]


class LockstepEngine(Engine):
    """An engine whose passes happen on all processes together.

    Args:
        engine: The engine of the model, after its preflight; its tables of operations are shared.
        processes: The processes.
        filler: Batches of synthetic records, one of each kind that a step may hold.

    Privacy:
        What synthetic records give is dropped. How many passes there were follows from the sample;
        it stays in memory, and shows in the time that a step takes, as it does in one process
        (`test_a_sharded_base_gives_the_weights_of_a_whole_one`).
    """

    def __init__(self, engine: Engine, processes: Processes, filler: list[_Batch]) -> None:
        """Run every kind of batch once, so that no process looks at one while others train."""
        vars(self).update(vars(engine))
        self._processes = processes
        self._filler = filler[0]
        for batch in filler:
            super().gradients(batch)

    def gradients(self, batch: _Batch) -> RecordGradients:
        """Return every record's gradient, in a pass that all processes make.

        Raises:
            BrokenGuaranteeError: As `Engine.gradients`, or if another process failed.
            UnsupportedError: As `Engine.gradients`, or if no synthetic batch was of this kind.
        """
        if not self.knows(batch):
            raise UnsupportedError(
                "Expected batches of the kinds that synthetic records had, with a sharded base. "
                "The engine would have to run another kind by itself, and the processes that hold "
                "the weights would not follow. Give synthetic rows like the task's."
            )
        with self._in_step():
            self._processes.another_pass(here=True)
            return super().gradients(batch)

    def catch_up(self) -> None:
        """Make the passes that other processes still need, and drop what they give.

        Raises:
            BrokenGuaranteeError: If another process failed.
        """
        with self._in_step():
            while self._processes.another_pass(here=False):
                super().gradients(self._filler)

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Take a process that is gone for one that failed: amid a pass it could not say so."""
        try:
            with self._processes.ending():  # nor do others amid a pass hear anything
                yield
        except LostProcessError as error:
            raise BrokenGuaranteeError(
                "Expected all processes to make every pass of the sharded base, but one is gone. "
                "Why is not known, and may depend on a record. Start a new run; it is a new "
                "release."
            ) from error


def is_sharded(model: nn.Module) -> bool:
    """Return whether any parameter of a model is spread over processes.

    Privacy:
        Nothing, no data touched.
    """
    return any(is_sharded_tensor(parameter) for parameter in model.parameters())


def refuse_unfit_sharding(
    processes: Processes, model: nn.Module, plan: "PrivacyPlan", performance: Performance
) -> None:
    """Raise unless a model is whole, or sharded in a way in which each process has its own records.

    Args:
        processes: The processes.
        model: The model.
        plan: The plan of the run.
        performance: How batches are cut.

    Raises:
        UnsupportedError: If the sharding is no FSDP2 over exactly these processes, the run is not
            private, or its frozen prefix is to be kept.

    Privacy:
        Fails closed: where processes share the work on one batch instead, every record would meet
        weights of other records' layers (`test_weights_sharded_otherwise_are_refused`).
    """
    if not is_sharded(model):
        return
    held: list[Any] = [p for p in model.parameters() if is_sharded_tensor(p)]
    meshes = {(p.device_mesh.ndim, p.device_mesh.size()) for p in held}
    managed = {id(p) for module in model.modules() if _is_fsdp(module) for p in module.parameters()}
    if meshes != {(1, processes.count)} or any(id(p) not in managed for p in held):
        raise UnsupportedError(
            f"Expected sharded weights to be FSDP2's over all {processes.count} processes, got "
            f"meshes {sorted(meshes)}. Each process computes on its own records, which other kinds "
            "of sharding do not expect. Use fully_shard with one mesh of all processes."
        )
    if not plan.is_private or performance.frozen_prefix is not FrozenPrefix.OFF:
        raise UnsupportedError(
            "Expected a private run and performance.frozen_prefix=off with a sharded base. The "
            "processes make all passes together, which others do not keep to. Load the base whole."
        )


def _is_fsdp(module: nn.Module) -> bool:
    return any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__)
