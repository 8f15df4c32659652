"""From overrides to validated settings, with errors that a user can act on.

Hydra composes; everything that is wrong becomes a `ConfigurationError` before any data or model is
touched. No torch in here.
"""

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpft.errors import ConfigurationError
from dpft.plain_yaml import plain_yaml
from dpft.recipes.config.adapter_settings import ADAPTER_CLASSES
from dpft.recipes.config.schema import TrainSettings
from dpft.recipes.config.store import SECTION_CLASSES, register_schemas, restore
from dpft.recipes.tasks import settings_classes

__all__ = [
    "CONFIG_MODULE",
    "CONFIG_NAME",
    "compose_config",
    "compose_settings",
    "explained",
    "settings_from",
    "settings_from_yaml",
    "yaml_of",
]

CONFIG_MODULE = "dpft.recipes.config.conf"
CONFIG_NAME = "train"
_EXPERIMENT = "experiment"
_GROUPS = ("task", "adapter", *(name for name in SECTION_CLASSES if name != "generation"))
_MOST_LISTED = 30


def compose_settings(overrides: Sequence[str]) -> TrainSettings:
    """Compose and validate the settings of a training run.

    Args:
        overrides: Hydra overrides, as in "task=sst2" or "privacy.epsilon=3".

    Returns:
        The settings.

    Raises:
        ConfigurationError: If a key is unknown or missing, or a value is not valid.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> compose_settings(["privacy.epsilon=3"]).privacy.epsilon
        3.0
    """
    with explained(overrides):
        return settings_from(compose_config(overrides))


def settings_from(config: DictConfig) -> TrainSettings:
    """Validate a composed configuration.

    Args:
        config: The configuration; a node `hydra` is not looked at.

    Returns:
        The settings.

    Raises:
        ConfigurationError: If a key is missing or a value is not valid; all are named.

    Privacy:
        Nothing, no data touched.
    """
    missing = sorted(key for key in OmegaConf.missing_keys(config) if not key.startswith("hydra."))
    if missing:
        raise ConfigurationError([_missing(key) for key in missing])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return _settings(plain)


def settings_from_yaml(text: str) -> TrainSettings:
    """Read the settings back that `yaml_of` wrote.

    Args:
        text: Content of a run folder's config.yaml, which may come from somebody else.

    Returns:
        The settings.

    Raises:
        ConfigurationError: If the text is no such configuration.

    Privacy:
        Nothing, no data touched.
    """
    plain = plain_yaml("config.yaml", text)
    if absent := _absent(plain if isinstance(plain, dict) else {}):
        raise ConfigurationError(
            f"Expected config.yaml to hold the settings of a run, with {', '.join(absent)}. Other "
            "files cannot be read. Name a folder written by dpft train."
        )
    return settings_from(OmegaConf.create(plain))


def _absent(groups: dict[str, Any]) -> list[str]:
    """Return what settings that were read lack, or hold in another shape."""
    absent = [name for name in _GROUPS if not isinstance(groups.get(name), dict)]
    named = ("task", "adapter")
    absent += [name for name in named if name not in absent and "name" not in groups[name]]
    return absent if isinstance(groups.get("model"), str | None) else [*absent, "a name as model"]


def yaml_of(config: DictConfig) -> str:
    """Return the resolved configuration as YAML, without Hydra's own node.

    Privacy:
        Nothing, no data touched: settings are public.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain.pop("hydra", None)
    return OmegaConf.to_yaml(OmegaConf.create(plain))


@contextlib.contextmanager
def explained(overrides: Sequence[str]) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into a `ConfigurationError` with the nearest key.

    Args:
        overrides: The overrides that are being composed.

    Raises:
        ConfigurationError: Instead of any error of Hydra or OmegaConf.

    Privacy:
        Nothing, no data touched.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(_explanation(error, overrides)) from None


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose without validating.

    Args:
        overrides: Hydra overrides.

    Returns:
        The configuration, interpolations not yet resolved.

    Raises:
        HydraException: If the overrides do not compose.

    Privacy:
        Nothing, no data touched.
    """
    register_schemas()
    with initialize_config_module(config_module=CONFIG_MODULE, version_base="1.3"):
        return compose(CONFIG_NAME, overrides=list(overrides))


def _settings(plain: dict[str, Any]) -> TrainSettings:
    sections: dict[str, Any] = {"model": plain.get("model")}
    problems: list[str] = []

    def attempt(section: str, find: Callable[[], type[Any]]) -> None:
        try:
            # runs that were written before there was generation have no settings of it
            values = plain.get(section, {}) if section == "generation" else plain[section]
            sections[section] = restore(find(), values)
        except ConfigurationError as error:
            problems.extend(_qualified(message, section) for message in error.messages)

    attempt("task", lambda: _named("task", plain, settings_classes()))
    attempt("adapter", lambda: _named("adapter", plain, ADAPTER_CLASSES))
    for section, declared in SECTION_CLASSES.items():
        attempt(section, lambda declared=declared: declared)  # type: ignore[misc]  # bound now
    if problems:
        raise ConfigurationError(problems)
    return TrainSettings(**sections)


def _qualified(message: str, section: str) -> str:
    """Name a field as the command line does: epsilon becomes privacy.epsilon."""
    found = re.match(r"Expected ([\w.]+)=", message)
    if found is None:
        return message
    field, known = found[1], re.escape(found[1])
    return re.sub(rf"^(Expected ){known}=|( Change ){known}\.$", _qualify(section, field), message)


def _qualify(section: str, field: str) -> Callable[["re.Match[str]"], str]:
    def replacement(match: "re.Match[str]") -> str:
        name = f"{section}.{field}"
        return f"Expected {name}=" if match[1] else f" Change {name}."

    return replacement


def _named(section: str, plain: dict[str, Any], known: dict[str, type[Any]]) -> type[Any]:
    name = str(plain[section]["name"])
    if name not in known:
        raise ConfigurationError(
            f"Expected {section}.name={name} to be one of {', '.join(sorted(known))}. The name "
            f"belongs to the choice of {section}. Set {section}=NAME instead."
        )
    return known[name]


def _missing(key: str) -> str:
    return f"Expected {key} to be given. It has no default. Set {key}=VALUE."


def _explanation(error: Exception, overrides: Sequence[str]) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _unknown_choice(error.missing_cfg_file, error.options)
    for override in overrides:
        key = override.split("=")[0].lstrip("+~").split("@")[0]
        if key and (f"'{key}'" in str(error) or f"{key}\n" in f"{error}\n"):
            return _unknown_key(key, overrides) or _short(error)
    return _short(error)


def _unknown_choice(file: str, options: Sequence[str]) -> str:
    """Name the nearest choice; those in folders of a group are choices of the group."""
    group, _, name = file.partition("/")
    if "/" in name or group == _EXPERIMENT:  # Hydra knows the folder alone
        options = _all_choices(group) or options
    nearest = _nearest_choice(name, options)
    hint = f" Did you mean {group}={nearest}?" if nearest else ""
    among = ", ".join(options) if len(options) <= _MOST_LISTED else "those in docs/recipes.md"
    return f"Expected {group}={name} to be one of {among}.{hint}"


def _all_choices(group: str) -> list[str]:
    folder = Path(str(resources.files(CONFIG_MODULE))) / group
    files = sorted(folder.rglob("*.yaml"))
    return [file.relative_to(folder).with_suffix("").as_posix() for file in files]


def _nearest_choice(name: str, options: Sequence[str]) -> str | None:
    """Return the option nearest to a name, or to a name without its folder."""
    nearest = difflib.get_close_matches(name, options, n=1)
    if nearest:
        return nearest[0]
    bare = {option.rpartition("/")[2]: option for option in options}
    found = difflib.get_close_matches(name.rpartition("/")[2], bare, n=1)
    return bare[found[0]] if found else None


def _unknown_key(key: str, overrides: Sequence[str]) -> str | None:
    known = _known_keys(overrides)
    if key in known:
        return None
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]}?" if nearest else "Run dpft train --cfg job to see all keys."
    return f"Expected {key} to be a known setting. Unknown keys are never ignored. {hint}"


def _known_keys(overrides: Sequence[str]) -> list[str]:
    groups = [text for text in overrides if text.split("=")[0] in {"task", "adapter"}]
    try:
        config = compose_config(groups)
    except (HydraException, OmegaConfBaseException):
        config = compose_config([])
    return sorted({"experiment", "debug", *_flat(config)})


def _flat(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        yield f"{prefix}{key}"
        child = config._get_node(key)  # noqa: SLF001 - the public access raises on missing values
        if isinstance(child, DictConfig) and not child._is_none():  # noqa: SLF001 - as above
            yield from _flat(child, f"{prefix}{key}.")


def _short(error: Exception) -> str:
    text = str(error)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OmegaConfBaseException) and str(cause) not in text:
        text = f"{text}: {cause}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("full_key:", "object_type="))]
    return "Expected the configuration to compose. " + " ".join(kept)
