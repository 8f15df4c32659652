"""What makes a run safe to interrupt: its charges and its checkpoints, joined to what moves.

`dpft.charges` knows what was spent, `dpft.checkpoint` what was reached; where they differ, steps
were lost: charged, without an update. The run then ends with fewer updates, never with more steps.
"""

import dataclasses
import warnings

import torch
from torch import nn

from dpft.charges import RunCharges, RunHistory
from dpft.checkpoint import Checkpoint, Checkpoints
from dpft.optimisation import Optimisation
from dpft.run_folder import RunFolder

__all__ = ["Continuity", "Iterate"]


@dataclasses.dataclass(frozen=True)
class Iterate:
    """What a step moves.

    Args:
        model: The model with its adapter.
        optimisation: Optimiser, schedule and average.
        is_private: Without privacy, buffers such as running means move as well.

    Privacy:
        Private steps move trainable parameters alone; the engine refuses a changed buffer.
    """

    model: nn.Module
    optimisation: Optimisation
    is_private: bool

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors that move, by name; the model's own, no copies."""
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        buffers = {} if self.is_private else dict(self.model.named_buffers())
        return {**named, **buffers}

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in place, bit for bit."""
        for name, tensor in self.tensors().items():
            tensor.copy_(checkpoint.weights[name])
        self.optimisation.load_state_dict(dict(checkpoint.optimisation))

    def pass_over(self, steps: int) -> None:
        """Let the schedule go on as if so many steps had moved nothing."""
        with warnings.catch_warnings():
            # torch takes a schedule that moves before the optimiser for a mistake.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler", UserWarning)
            for _ in range(steps):
                self.optimisation.advance()


class Continuity:
    """Charges and checkpoints of one run in one process.

    Args:
        folder: The run folder.
        charges: Its charges, held by this process.
        iterate: What the steps move.
        steps: Planned steps.
        every: Steps between two checkpoints, >= 1; unset: about ten in a run.

    Privacy:
        Saves iterates after noise and public numbers (`dpft.checkpoint`).
    """

    def __init__(
        self,
        folder: RunFolder,
        charges: RunCharges,
        iterate: Iterate,
        steps: int,
        every: int | None = None,
    ) -> None:
        """Keep what is needed; nothing is read or written yet."""
        self.charges = charges
        self._checkpoints = Checkpoints(folder.checkpoints)
        self._iterate = iterate
        self._steps = steps
        self._every = every or -(-steps // 10)
        self._updates = 0
        self._saved = 0

    @property
    def run_id(self) -> str:
        """Random name under which this process's certificate stands.

        It is new in every process: should a run folder be copied and both be resumed, two runs
        are composed that share their first steps, which counts too much and never too little.
        """
        return self.charges.names[-1]

    @property
    def history(self) -> RunHistory:
        """What became of the steps so far."""
        return RunHistory(len(self.charges.names), self.charges.intended, self._updates)

    def begin(self) -> None:
        """Note that the process starts, and go to where the run stands.

        Raises:
            BrokenGuaranteeError: If charges and checkpoints contradict each other.
        """
        found = self._checkpoints.newest(self.charges.names, self.charges.intended)
        self.charges.attach()
        self._checkpoints.remove_drafts()
        reached = 0
        if found is not None:
            self._iterate.restore(found)
            self._updates, reached = found.updates, found.intended
            self._saved = reached
        self._iterate.pass_over(self.charges.intended - reached)

    def after_step(self) -> None:
        """Count an update, and write a checkpoint when one is due."""
        self._updates += 1
        intended = self.charges.intended
        if intended % self._every == 0 or intended == self._steps:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of the present iterate, unless there is one."""
        intended = self.charges.intended
        if intended == self._saved:
            return
        self._saved = intended
        checkpoint = Checkpoint(
            intended=intended,
            updates=self._updates,
            weights=self._iterate.tensors(),
            optimisation=self._iterate.optimisation.state_dict(),
        )
        self._checkpoints.save(checkpoint, self.run_id)
