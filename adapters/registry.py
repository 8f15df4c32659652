"""Which adapter methods exist, and how one is configured or built by name.

A method is one module with a `configure` function, registered here. What a method needs to know
of a model stands in `dpft.adapters.targets`. Imports torch and peft only when a method is used.
"""

import difflib
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from dpft.errors import ConfigurationError

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = [
    "AdapterMethod",
    "AdapterName",
    "add",
    "build",
    "config",
    "is_in_peft",
    "register",
    "register_with_peft",
]


class AdapterName(str, Enum):
    """The adapter methods of the library."""

    ATTEMPT = "attempt"
    BITFIT = "bitfit"
    BOTTLENECK = "bottleneck"
    COMPACTER = "compacter"
    FFA_LORA = "ffa_lora"
    IA3 = "ia3"
    LORA = "lora"
    PREFIX = "prefix"
    PROMPT = "prompt"


class AdapterMethod(Protocol):
    """Makes peft's configuration of one method for one architecture."""

    def __call__(self, model_type: str, task_type: str | None, **options: Any) -> "PeftConfig":
        """Return the configuration with target modules and the saved head filled in."""
        ...


# Name of the method -> module that registers it when imported.
_MODULES: dict[str, str] = {name.value: f"dpft.adapters.{name.value}" for name in AdapterName}
_OURS = (AdapterName.ATTEMPT, AdapterName.BOTTLENECK, AdapterName.COMPACTER)  # not in peft
_METHODS: dict[str, AdapterMethod] = {}


def register(name: str, method: AdapterMethod) -> None:
    """Make a method available under a name.

    Args:
        name: Name of the method, new.
        method: Makes peft's configuration.

    Raises:
        ConfigurationError: If the name is taken.

    Privacy:
        Nothing, no data touched.
    """
    if name in _METHODS:
        raise ConfigurationError(
            f"Expected adapter={name} to be new. A second registration would change what a name "
            "means. Choose another name."
        )
    _METHODS[name] = method


def config(
    name: AdapterName | str,
    model_config: "PretrainedConfig | str",
    task_type: str | None,
    **options: Any,
) -> "PeftConfig":
    """Configure an adapter for an architecture.

    Args:
        name: Method, a member of `AdapterName` or its value.
        model_config: Configuration of the model, or its model type, as in "bert".
        task_type: peft's task type, as in "SEQ_CLS" or "TOKEN_CLS"; None for a bare model.
        **options: Options of the method under peft's own names, as in `r=8`. They win over what
            would be filled in.

    Returns:
        peft's configuration: target modules of the architecture, and the head of the task type
        made trainable and saved.

    Raises:
        ConfigurationError: If the method is unknown, or the architecture is unknown and no target
            modules are given.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> sorted(config("lora", "bert", "SEQ_CLS", r=4).target_modules)
        ['query', 'value']
    """
    model_type = model_config if isinstance(model_config, str) else model_config.model_type
    return _method(name)(model_type, task_type, **options)


def add(model: "PreTrainedModel", adapter: "PeftConfig") -> "PeftModel":
    """Add a configured adapter to a model.

    Args:
        model: A model of transformers; it is changed in place.
        adapter: peft's configuration.

    Returns:
        The model with the adapter.

    Raises:
        ConfigurationError: If the adapter finds nothing to adapt in the model.

    Privacy:
        Nothing, no data touched.
    """
    from peft import PeftModel, get_peft_model
    from peft.utils.error import NoMatchingPeftModuleError

    try:
        made = get_peft_model(model, adapter)
    except NoMatchingPeftModuleError as error:
        raise ConfigurationError(_without_target(adapter)) from error
    assert isinstance(made, PeftModel)
    if not any(
        parameter.requires_grad and "modules_to_save" not in name
        for name, parameter in made.named_parameters()
    ):
        raise ConfigurationError(_without_target(adapter))
    return made


def build(name: AdapterName | str, model: "PreTrainedModel", **options: Any) -> "PeftModel":
    """Add an adapter to a model, with its head made trainable and saved.

    Args:
        name: Method, a member of `AdapterName` or its value.
        model: A model of transformers; it is changed in place. peft's task type is inferred from
            its class.
        **options: Options of the method under peft's own names; none is needed.

    Returns:
        The model with the adapter.

    Raises:
        ConfigurationError: As for `config` and `add`.

    Privacy:
        Nothing, no data touched.
    """
    from dpft.adapters.targets import task_type_of

    return add(model, config(name, model.config, task_type_of(model), **options))


def is_in_peft(name: AdapterName | str) -> bool:
    """Return whether peft loads what the method saves without this library.

    Privacy:
        Nothing, no data touched.
    """
    return AdapterName(name) not in _OURS


def register_with_peft() -> None:
    """Make peft know the methods that it does not have, by importing them.

    Privacy:
        Nothing, no data touched.
    """
    for name in _OURS:
        import_module(_MODULES[name.value])


def _method(name: AdapterName | str) -> AdapterMethod:
    key = name.value if isinstance(name, AdapterName) else name
    if key in _MODULES:
        import_module(_MODULES[key])
    if key not in _METHODS:
        raise ConfigurationError(_unknown(key))
    return _METHODS[key]


def _unknown(key: str) -> str:
    known = sorted({*_MODULES, *_METHODS})
    nearest = difflib.get_close_matches(key, known, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Choose one of {', '.join(known)}."
    return f"Expected adapter={key} to be registered. Unknown methods are never guessed. {hint}"


def _without_target(adapter: "PeftConfig") -> str:
    targets = getattr(adapter, "target_modules", None)
    return (
        f"Expected target_modules={targets} to find layers to train in the model. Nothing but the "
        "head would be trained. Give adapter.target_modules=[NAME,...], the ends of the names of "
        "layers, as model.named_modules() shows them."
    )
