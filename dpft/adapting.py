"""From a base model to what is trained: its adapter, and whether the head is a part of it."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dpft import adapters
from dpft.errors import ConfigurationError

if TYPE_CHECKING:
    from peft import PeftConfig

__all__ = ["adapted", "padding_of"]


def adapted(
    model: nn.Module, adapter: "PeftConfig | str | None", *, seed: int, train_head: bool
) -> nn.Module:
    """Return a model with its adapter, of which exactly what is trained has `requires_grad`.

    Args:
        model: The base model, or one that has its adapter.
        adapter: Name of a method, a configuration of peft, or None for a model as it is.
        seed: Public seed of the adapter's initialisation.
        train_head: Whether what the adapter saves beside itself is trained too.

    Raises:
        ConfigurationError: If the adapter does not fit the model, or there is no head to freeze.

    Privacy:
        Nothing, no data touched.
    """
    built = model if adapter is None else _built(model, adapter, seed)
    if not train_head:
        _freeze_saved_modules(built)
    return built


def padding_of(tokenizer: Any, model: nn.Module) -> int:
    """Return the padding token: the tokenizer's, else the model's, else 0 (it is masked).

    Args:
        tokenizer: A Hugging Face tokenizer, or None.
        model: The model.

    Privacy:
        Nothing, no data touched.
    """
    for source in (tokenizer, getattr(model, "config", None)):
        token = getattr(source, "pad_token_id", None)
        if token is not None:
            return int(token)
    return 0


def _freeze_saved_modules(model: nn.Module) -> None:
    saved = [p for name, p in model.named_parameters() if ".modules_to_save." in name]
    if not saved:
        raise ConfigurationError(
            "Expected train_head=False with an adapter that saves a head beside itself. Nothing "
            "was found to freeze. Leave it out, or freeze the head by requires_grad."
        )
    for parameter in saved:
        parameter.requires_grad = False


def _built(model: nn.Module, adapter: "PeftConfig | str", seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if isinstance(adapter, str):
            built: nn.Module = adapters.build(adapter, model)  # type: ignore[arg-type]  # transformers'
        else:
            built = adapters.add(model, adapter)  # type: ignore[arg-type]  # transformers'
    return built
