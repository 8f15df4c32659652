"""Registers the settings classes with Hydra.

Hydra wants enumerations by the names of their members and refuses to override frozen classes; the
command line takes their values and overrides everything. Hence each class is mirrored: same
fields, enumerations as text, not frozen. `restore` turns a composed node back into the class,
which validates it.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from dpft.optim import Optim
from dpft.performance import Performance
from dpft.privacy import Privacy
from dpft.recipes.config.adapter_settings import ADAPTER_CLASSES
from dpft.recipes.config.generation import Generation
from dpft.recipes.config.schema import Architecture, RunSettings
from dpft.recipes.tasks import settings_classes

__all__ = ["SECTION_CLASSES", "mirror", "register_schemas", "restore"]

SECTION_CLASSES: dict[str, type[Any]] = {
    "architecture": Architecture,
    "privacy": Privacy,
    "optim": Optim,
    "performance": Performance,
    "run": RunSettings,
    "generation": Generation,
}


def register_schemas() -> None:
    """Register every settings class as a structured config in the group `schema`.

    Privacy:
        Nothing, no data touched.
    """
    store = ConfigStore.instance()
    for section, declared in SECTION_CLASSES.items():
        store.store(group="schema", name=section, node=mirror(declared))
    for name, declared in ADAPTER_CLASSES.items():
        store.store(group="schema/adapter", name=name, node=mirror(declared))
    for name, declared in settings_classes().items():
        store.store(group="schema/task", name=name, node=mirror(declared))


def mirror(declared: type[Any]) -> type[Any]:
    """Return a dataclass with the same fields, enumerations as text, that is not frozen.

    Args:
        declared: A dataclass.

    Returns:
        The mirror, of the same name. A field without default is missing ("???") in it.

    Privacy:
        Nothing, no data touched.
    """
    hints = typing.get_type_hints(declared)
    fields = [
        (field.name, _plain_type(hints[field.name]), dataclasses.field(default=_default(field)))
        for field in dataclasses.fields(declared)
    ]
    return dataclasses.make_dataclass(declared.__name__, fields, kw_only=True)


def restore(declared: type[Any], values: Mapping[str, Any]) -> Any:
    """Make the settings of composed values.

    Args:
        declared: The settings class.
        values: Plain values by field name.

    Returns:
        The settings.

    Raises:
        ConfigurationError: If a value is not valid; all such values are named.

    Privacy:
        Nothing, no data touched.
    """
    return declared(**values)


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is dataclasses.MISSING:
        return MISSING
    return field.default.value if isinstance(field.default, Enum) else field.default


def _plain_type(hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return str
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        parts = [_plain_type(part) for part in typing.get_args(hint) if part is not type(None)]
        assert len(parts) == 1, f"only one type or None can be configured, not {hint}"
        return typing.Optional[parts[0]]  # noqa: UP045 - made at run time
    if typing.get_origin(hint) is tuple:
        # a callable form of tuple[...], whose parts are known at run time only
        return tuple.__class_getitem__(tuple(map(_plain_type, typing.get_args(hint))))
    return hint
