"""Whether an adapter that a model already has may be trained as it stands.

Imports peft and torch only for a model that has one.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

from dpft.errors import ConfigurationError

__all__ = ["refuse_unfit"]


def refuse_unfit(model: "nn.Module", *, composed: Collection[str] = ()) -> None:
    """Raise if an adapter that a model already has must not be trained as it stands.

    Args:
        model: Any model.
        composed: Names of private source prompts whose price the caller counts.

    Raises:
        ConfigurationError: Naming the adapter and the remedy.

    Privacy:
        Nothing, no data touched. Merged and disabled adapters are refused by the engine.
    """
    configs = getattr(model, "peft_config", None)  # peft's models, and transformers' own
    if not configs:
        return
    from dpft.adapters.ffa_lora import refuse_thawed

    refuse_thawed(model)
    named = [name for c in configs.values() for name in getattr(c, "private_sources", None) or ()]
    private = [name for name in named if name not in composed]
    if private:
        raise ConfigurationError(
            f"Expected sources={', '.join(private)} to be public. What private records left in "
            "them would have to be composed with the new run. Name those in public_sources that no "
            "private record went into; a source with a certificate is never public: give dpft.fit "
            "its folder, and both are composed."
        )
