"""Whether an adapter that a model already has may be trained as it stands.

Imports peft and torch only for a model that has one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["refuse_unfit"]


def refuse_unfit(model: "nn.Module") -> None:
    """Raise if an adapter that a model already has must not be trained as it stands.

    Args:
        model: Any model.

    Raises:
        ConfigurationError: Naming the adapter and the remedy.

    Privacy:
        Nothing, no data touched. Merged and disabled adapters are refused by the engine.
    """
    if hasattr(model, "peft_config"):
        from dpft.adapters.ffa_lora import refuse_thawed

        refuse_thawed(model)
