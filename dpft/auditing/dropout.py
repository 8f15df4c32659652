"""Is dropout drawn afresh? Masks that repeat are known to whoever reads the code."""

import numpy as np
from torch import nn

from dpft.auditing.observing import Setting, observed
from dpft.auditing.target import AuditTarget
from dpft.auditing.verdict import AuditCheck

__all__ = ["dropout_check"]

_NOISE = 1e-9
_STEPS = 3


def dropout_check(target: AuditTarget) -> AuditCheck | None:
    """Compare the gradient of one record over steps and attachments in training mode.

    Args:
        target: The configuration.

    Returns:
        The check; None if the model has no dropout that reaches a trained parameter.

    Privacy:
        Synthetic records. The guarantee holds for masks that nobody can know beforehand; this
        sees the seed that is used again (`tests/dpft/auditing/test_conformance.py`).
    """
    target.model.train()
    if not any(_drops(module) for module in target.model.modules()):
        return None
    privacy = target.privacy(num_records=2, expected=2, steps=_STEPS, noise_multiplier=_NOISE)
    runs = [observed(target, target.rows[:1], Setting(privacy=privacy)) for _ in range(2)]
    sums = np.stack([step.vector() for run in runs for step in run])
    distances = np.linalg.norm(sums[:, None] - sums[None], axis=-1)
    nearest = float(distances[np.triu_indices(len(sums), k=1)].min()) / target.clip_norm
    expected = "no two masks alike: gradients of one record differ"
    return AuditCheck("dropout: drawn afresh at every step", nearest, expected, nearest > 1e-6)


def _drops(module: nn.Module) -> bool:
    return "Dropout" in type(module).__name__ and getattr(module, "p", 0.0) > 0
