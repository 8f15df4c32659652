"""dpft: differentially private, parameter-efficient fine-tuning of language models.

Names are loaded on first use: `import dpft` costs nothing and does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpft.engine.per_record import per_record_gradients
    from dpft.optim import Optim
    from dpft.performance import Performance
    from dpft.privacy import Privacy
    from dpft.private_step import PrivateStep
    from dpft.taskvectors.vector import TaskVector
    from dpft.training import FitResult, fit

__all__ = [
    "FitResult",
    "Optim",
    "Performance",
    "Privacy",
    "PrivateStep",
    "TaskVector",
    "fit",
    "per_record_gradients",
]

_HOMES = {
    "FitResult": "dpft.training",
    "Optim": "dpft.optim",
    "Performance": "dpft.performance",
    "Privacy": "dpft.privacy",
    "PrivateStep": "dpft.private_step",
    "TaskVector": "dpft.taskvectors.vector",
    "fit": "dpft.training",
    "per_record_gradients": "dpft.engine.per_record",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dpft' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
