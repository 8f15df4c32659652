"""What an audit looks at: a model in its final form, a loss, synthetic records and a plan."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from dpft.engine.attachment import PerRecordLoss
from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus, NoiseKind, Privacy, PrivacyPlan
from dpft.records import Collate, Row

__all__ = ["AuditTarget", "refuse_without_audit", "untouched_afterwards"]

_DELTA = 1e-9  # of runs that are thrown away; below 1 / records of each of them
_FEWEST_ROWS = 2


@dataclasses.dataclass(frozen=True)
class AuditTarget:
    """A configuration, as it would train.

    Args:
        model: The model with its adapter; what has `requires_grad` is trained.
        loss: Callable (model, batch) -> losses [B].
        rows: Synthetic encoded records, at least two, of different lengths.
        collate: Makes tensors of rows.
        plan: The plan of the run; clip norm, clipping and noise multiplier are taken from it.

    Raises:
        ConfigurationError: If the plan is not private, or there are too few rows.

    Privacy:
        Nothing: rows are synthetic, and every run of the audit draws keys of its own. No noise or
        sample of a released run is ever seen.
    """

    model: nn.Module
    loss: PerRecordLoss
    rows: Sequence[Row]
    collate: Collate
    plan: PrivacyPlan

    def __post_init__(self) -> None:
        """Refuse what cannot be audited."""
        refuse_without_audit(self.plan)
        if len(self.rows) < _FEWEST_ROWS:
            raise ConfigurationError(
                f"Expected at least {_FEWEST_ROWS} synthetic rows, got {len(self.rows)}. Whether "
                "records disturb one another shows between two. Give rows of different lengths."
            )

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def clip_norm(self) -> float:
        """Bound on one contribution."""
        return self.plan.privacy.clip_norm

    def privacy(
        self, *, num_records: int, expected: int, steps: int, noise_multiplier: float | None = None
    ) -> Privacy:
        """Return the guarantee of a short run of the audit: the same noise, other numbers.

        Args:
            num_records: Stated number of records, or of users.
            expected: Expected batch, at most `num_records`.
            steps: Of the run.
            noise_multiplier: Unset: that of the plan.
        """
        return dataclasses.replace(
            self.plan.privacy,
            epsilon=None,
            noise_multiplier=noise_multiplier or self.plan.noise_multiplier,
            delta=_DELTA,
            num_records=num_records,
            expected_batch_size=expected,
            steps=steps,
            epochs=None,
            evaluation=EvaluationStatus.NONE,
            evaluation_epsilon=None,
            evaluation_records=None,
            evaluation_split=None,
            ledger=None,
        )


def refuse_without_audit(plan: PrivacyPlan) -> None:
    """Raise unless a plan promises something that the audit knows how to refute.

    Args:
        plan: The plan that is to be audited.

    Raises:
        ConfigurationError: If it is not private, or has integer noise.
    """
    if plan.privacy.noise is NoiseKind.DISCRETE_GAUSSIAN:
        raise ConfigurationError(
            "Expected noise=discrete_gaussian to be gaussian in an audit. Its checks look at sums "
            "under vanishing noise, which a grid would cut off, and at amplified costs. Audit the "
            "same settings with noise=gaussian."
        )
    if not plan.is_private:
        raise ConfigurationError(
            "Expected a private plan to audit, got mode=not_private. Without noise there is no "
            "guarantee to refute. Set a target epsilon."
        )


@contextmanager
def untouched_afterwards(model: nn.Module) -> Iterator[None]:
    """Put trained parameters, gradients and modes back as they were.

    Args:
        model: The model of an audit.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    values = [parameter.detach().clone() for parameter in trained]
    gradients = [parameter.grad for parameter in trained]
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value, gradient in zip(trained, values, gradients, strict=True):
                parameter.copy_(value)
                parameter.grad = gradient
        for module, mode in modes:
            module.training = mode
