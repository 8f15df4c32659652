"""What a step hands to the optimiser, seen from the optimiser's side.

An audit looks at nothing else of the engine: whatever is wrong inside has to show here, because
this is all that is ever released.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from dpft.accounting import Unit
from dpft.auditing.target import AuditTarget
from dpft.engine.attachment import PerRecordLoss
from dpft.performance import Performance
from dpft.privacy import Privacy
from dpft.private_step import PrivateStep, StepSettings
from dpft.records import Collate, Row

__all__ = ["Observer", "Released", "Setting", "observed"]

_KEPT = 4096  # entries of each parameter; norms are of all
_LEADING = 16  # of them its first ones, which are compared between parameters


@dataclasses.dataclass(frozen=True)
class Released:
    """A noisy sum of one step: what the optimiser got, times the public divisor.

    Args:
        entries: By parameter, float64: all of them, or of a large one the first 16 and others that
            are spread evenly to its end.
        norm: l2 norm over all entries.

    Privacy:
        Of synthetic records.
    """

    entries: Mapping[str, np.ndarray]
    norm: float

    def vector(self) -> np.ndarray:
        """Return the kept entries of all parameters, one after the other."""
        return np.concatenate(list(self.entries.values()))


class Observer(torch.optim.SGD):
    """Gradient descent that remembers what it was given.

    Args:
        parameters: What is trained, by name.
        divisor: What a released mean is multiplied with: the public expected batch.
        learning_rate: 0 leaves the model where it is.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], divisor: float, learning_rate: float
    ) -> None:
        """Start without anything seen."""
        super().__init__(list(parameters.values()), lr=learning_rate)
        self._named = dict(parameters)
        self._divisor = divisor
        self._moves = learning_rate > 0
        self.seen: list[Released] = []

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # one of torch's overloads
        """Keep the gradients, then descend."""
        self.seen.append(self._released())
        if not self._moves:  # 0 times what is not a number would poison the model for what follows
            return None
        result: float | None = super().step(closure)
        return result

    def _released(self) -> Released:
        entries, squares = {}, 0.0
        for name, parameter in self._named.items():
            grad = parameter.grad
            if grad is None:  # nothing was released: an entry without noise
                grad = torch.zeros_like(parameter)
            flat = grad.detach().double().flatten() * self._divisor
            entries[name] = _kept(flat).cpu().numpy()
            squares += float(flat.square().sum())
        return Released(entries, squares**0.5)


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a short run differs from the plan.

    Args:
        privacy: Its guarantee.
        loss: Unset: that of the target.
        collate: Unset: that of the target.
        synthetic: Rows of the preflight; unset: those of the target.
        performance: How batches are cut.
        learning_rate: Of gradient descent.
        charges: Where steps are booked.
        begun: Called between the preflight and the first step.
        taken: Called after every step.
    """

    privacy: Privacy
    loss: PerRecordLoss | None = None
    collate: Collate | None = None
    synthetic: Sequence[Row] | None = None
    performance: Performance = dataclasses.field(default_factory=Performance)
    learning_rate: float = 0.0
    charges: Any = None
    begun: Callable[[], None] = lambda: None
    taken: Callable[[], None] = lambda: None


def observed(target: AuditTarget, rows: Sequence[Row], setting: Setting) -> list[Released]:
    """Run the engine over some rows and return what was released, step by step.

    Args:
        target: The configuration.
        rows: The records; where the unit is a user, each row is a user of its own.
        setting: How the run differs from the plan.

    Returns:
        One noisy sum for each step.

    Raises:
        BrokenGuaranteeError: If the preflight fails.

    Privacy:
        Synthetic records, secret keys of its own, as in a run that is released.
    """
    privacy = setting.privacy
    optimizer = Observer(target.trained, privacy.expected_batch_size, setting.learning_rate)
    settings = StepSettings(
        performance=setting.performance,
        synthetic=target.rows if setting.synthetic is None else setting.synthetic,
        charges=setting.charges,
    )
    step = PrivateStep(target.model, optimizer, privacy, setting.loss or target.loss, settings)
    owners = [str(index) for index in range(len(rows))]
    owned = owners if privacy.covers is Unit.USER else None
    batches = step.batches(rows, setting.collate or target.collate, owned)
    setting.begun()
    for batch in batches:
        step(batch)
        setting.taken()
    return optimizer.seen


def _kept(flat: torch.Tensor) -> torch.Tensor:
    """Return entries from everywhere in a parameter: noise may lack at its end alone."""
    apart = max(1, math.ceil((flat.numel() - _LEADING) / (_KEPT - _LEADING)))
    return torch.cat([flat[:_LEADING], flat[_LEADING::apart]])
