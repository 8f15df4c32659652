"""The course of a run in several processes: the lead says which step is due, and on what weights.

    lead      charge step t | say t, send weights | sample own share | sum <- all | noise, optimiser
    others                  | hear t, get weights | sample own share | give sum   |

Weights travel before every step, so that a run that is resumed, on any number of processes, and one
whose weights somebody else moved between two steps, are the same on all of them.
"""

from collections.abc import Iterable, Iterator

import torch

from dpft.errors import LostProcessError
from dpft.processes import Processes

__all__ = ["Course", "add_gradients"]

_STEP, _END = 0, 1


class Course:
    """What the lead says between steps, and what the others hear.

    Args:
        processes: The processes.
        tensors: What the steps move; the others' are replaced by the lead's.

    Privacy:
        A step is charged before it is said, and sampled after it was heard
        (`test_a_step_is_charged_before_any_process_samples`).
    """

    def __init__(self, processes: Processes, tensors: Iterable[torch.Tensor]) -> None:
        """Keep what is needed; nothing is sent."""
        self._processes = processes
        self._tensors = list(tensors)
        self._has_ended = False
        self.steps_taken = 0

    def begin(self, step: int) -> None:
        """Say which step is due, to be called by the lead once that step is charged.

        Raises:
            LostProcessError: If another process is gone.
        """
        self._exchange(_STEP, step)

    def steps(self) -> Iterator[int]:
        """Yield the steps that the lead says are due, to be called by the others.

        Raises:
            LostProcessError: If another process is gone.
        """
        while True:
            kind, number = self._exchange(_STEP, 0)
            if kind == _END:
                self._has_ended, self.steps_taken = True, number
                return
            yield number

    def end(self, steps_taken: int) -> None:
        """Say, or hear, that no step follows.

        Args:
            steps_taken: Steps charged, as the lead knows.

        Raises:
            LostProcessError: If another process is gone, or this one ends before the lead does.
        """
        if not self._processes.are_several or self._has_ended:
            return
        self._has_ended = True
        kind, self.steps_taken = self._exchange(_END, steps_taken)
        if kind != _END:
            self._processes.abandon()
            raise LostProcessError(
                "Expected all processes to end their loops at the same step. The first one goes on "
                "without this one's records. Run the same loop in all of them; dpft.fit does."
            )

    def _exchange(self, kind: int, number: int) -> tuple[int, int]:
        if self._processes.are_several:
            kind, number = self._processes.numbers_from_lead([kind, number])
            self._processes.from_lead(self._tensors)
        return kind, number


def add_gradients(processes: Processes, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum ordinary gradients on the lead, for runs that are not private.

    Args:
        processes: The processes.
        parameters: Trained parameters; one that no process reached keeps no gradient.

    Raises:
        LostProcessError: If another process is gone.

    Privacy:
        NONE.
    """
    if not processes.are_several:
        return
    held = list(parameters)
    reached = torch.tensor([float(p.grad is not None) for p in held], device=processes.device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in held]
    processes.sum_on_lead([reached, *gradients])
    for parameter, gradient, count in zip(held, gradients, reached.tolist(), strict=True):
        parameter.grad = gradient if count else None
