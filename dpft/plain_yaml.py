"""YAML that somebody else may have written: values alone, nothing that is looked up or made.

Refused are tags, which name what is to be made of a value; aliases, by which a page of text becomes
gigabytes; and interpolations, which read the environment of whoever opens the file.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from dpft.errors import ConfigurationError

__all__ = ["LONGEST_YAML", "plain_yaml"]

LONGEST_YAML = 128 << 10
"""Most characters that are read; a settings file has some thousands."""
_DEEPEST = 20
_MOST_BRACKETS = 100  # open at once, those in quoted text counted as well
# What constructors of YAML raise beside their own errors: 0b_ looks like a number and is none.
_UNREADABLE = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_PREFIX = "tag:yaml.org,2002:"
# As OmegaConf, which writes the files: 1e-5 is a number, in YAML 1.1 it would be text.
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |\.[0-9_]+(?:[eE][-+][0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


def plain_yaml(what: str, text: str) -> Any:
    """Read values from YAML.

    Args:
        what: Name of the file, for messages.
        text: One document of at most `LONGEST_YAML` characters, at most 20 levels deep.

    Returns:
        A mapping or a list of texts, numbers, booleans, None; an empty mapping for an empty text.

    Raises:
        ConfigurationError: If the text is no such document, or a key stands in it twice.

    Privacy:
        Nothing, no data touched. No class is made and no variable is read, whatever the file asks
        for (`test_yaml_makes_nothing_but_values`).

    Example:
        >>> plain_yaml("settings", "run: {seed: 3, note: }")
        {'run': {'seed': 3, 'note': None}}
    """
    try:
        _refuse_unfit(text)
        value = yaml.load(text, Loader=_Values)  # noqa: S506 - a safe loader, of fewer values
        if not isinstance(value, dict | list | None):
            raise TypeError("a single value")
    except _UNREADABLE as error:
        found = (str(error).splitlines() or [""])[0]
        raise ConfigurationError(
            f"Expected {what} to be YAML of values without repeated keys ({found}). Whatever is "
            "more than values could run code or read variables where it is opened. Correct it."
        ) from error
    return {} if value is None else value


class _Values(yaml.SafeLoader):
    """Makes mappings by texts, lists, texts, numbers, booleans and None; dates stay texts."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # theirs
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise ValueError("an anchor or an alias")
        if event.tag is not None:
            raise ValueError("a tag")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - as overridden
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if not all(isinstance(key, str) for key in keys):
            raise TypeError("a key that is no text")
        if len(set(keys)) < len(keys):
            raise ValueError("a key twice")
        return super().construct_mapping(node, deep=deep)


_Values.yaml_implicit_resolvers = {
    sign: [pair for pair in pairs if pair[0].removeprefix(_PREFIX) in {"bool", "int", "null"}]
    for sign, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Values.add_implicit_resolver(f"{_PREFIX}float", _FLOAT, list("-+0123456789."))


def _refuse_unfit(text: str) -> None:
    """Refuse what is slow to scan, and what reads variables."""
    if len(text) > LONGEST_YAML:
        raise ValueError(f"more than {LONGEST_YAML} characters")
    if "${" in text:
        raise ValueError("an interpolation, ${...}")
    opened = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        opened = max(0, opened + (1 if bracket in "[{" else -1))
        if opened > _MOST_BRACKETS:
            raise ValueError("brackets in brackets")
