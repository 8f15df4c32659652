"""Adapters: the parameter-efficient methods, their targets and the algebra of their deltas.

Imported as ``dpft.adapters``, although the folder stands at the top of the repository. torch and
peft are imported when an adapter is configured or built, never by importing this package. Once both
peft and this package have been imported, in either order, peft loads our methods as its own.
"""

if __name__ == "adapters":  # the root of a checkout on sys.path shadows a foreign distribution
    raise ImportError(
        "Expected import=dpft.adapters instead of adapters. The bare name belongs to another "
        "distribution. Write 'import dpft.adapters'."
    )

from dpft.adapters.fitness import refuse_unfit
from dpft.adapters.import_order import import_peft_first
from dpft.adapters.registration import when_peft_is_imported
from dpft.adapters.registry import (
    AdapterName,
    add,
    build,
    config,
    is_in_peft,
    register,
    register_with_peft,
)

__all__ = ["AdapterName", "add", "build", "config", "is_in_peft", "refuse_unfit", "register"]

when_peft_is_imported(register_with_peft)
import_peft_first("dpft.adapters", light=["options", "phm", "targets"])
