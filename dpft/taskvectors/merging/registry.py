"""Which merge methods exist, and which data each looks at. What is not registered is refused."""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from enum import Enum
from importlib import import_module

from dpft.accounting import Mechanism
from dpft.errors import ConfigurationError
from dpft.taskvectors.merging.data import Data, Private
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.vector import TaskVector

__all__ = ["DataAccess", "MergeMethod", "PrivateForm", "find", "merge_method", "merge_method_names"]


class DataAccess(str, Enum):
    """What a method looks at beside the vectors and public numbers."""

    NONE = "none"
    STATISTICS = "statistics"
    """Activations, Gram matrices, accuracies on records."""
    GRADIENTS = "gradients"
    """Gradients or Fisher information on records."""


_Rule = Callable[[Sequence[TaskVector], MergeOptions, Data | None], TaskVector]


@dataclasses.dataclass(frozen=True)
class PrivateForm:
    """How a method looks at private records: stated before it sees any.

    Args:
        mechanism: Says what will be released, from the vectors, the options, and the epsilon and
            delta of the data; it must not read their records.
        bound: What bounds the influence of one record, in words.
        generator: Where the noise comes from, in words; it must be secret.
    """

    mechanism: "Callable[[Sequence[TaskVector], MergeOptions, Private], Mechanism]"
    bound: str
    generator: str


@dataclasses.dataclass(frozen=True)
class MergeMethod:
    """One way to merge.

    Args:
        name: Its name.
        data_access: What it looks at.
        rule: Makes one vector of several, options and data; data is None without access.
        private_form: How it looks at private records; None: it cannot.
    """

    name: str
    data_access: DataAccess
    rule: _Rule
    private_form: PrivateForm | None = None


_MODULES = ("dare", "denoising", "linear", "noise_weighting", "svd_aligned", "ties")
_METHODS: dict[str, MergeMethod] = {}


def merge_method(
    name: str, data_access: DataAccess | str, *, private_form: PrivateForm | None = None
) -> Callable[[_Rule], _Rule]:
    """Register a function as a merge method.

    Args:
        name: A new name.
        data_access: What it looks at; decides what it may be given.
        private_form: How it looks at private records; unset: it is refused them.

    Returns:
        A decorator that leaves the function as it is.

    Raises:
        ConfigurationError: If the name is taken.

    Privacy:
        Nothing, no data touched.
    """

    def registered(rule: _Rule) -> _Rule:
        if name in _METHODS:
            raise ConfigurationError(
                f"Expected method={name} to be new. A second registration would change what a name "
                "means. Choose another name."
            )
        access = DataAccess(data_access)
        _METHODS[name] = MergeMethod(name, access, rule, private_form)
        return rule

    return registered


def merge_method_names() -> list[str]:
    """Return the names of all methods.

    Privacy:
        Nothing, no data touched.
    """
    for module in _MODULES:
        import_module(f"dpft.taskvectors.merging.{module}")
    return sorted(_METHODS)


def find(name: str) -> MergeMethod:
    """Return a method.

    Args:
        name: Its name.

    Raises:
        ConfigurationError: If there is none of the name.

    Privacy:
        Nothing, no data touched.
    """
    known = merge_method_names()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"Choose one of {', '.join(known)}."
        raise ConfigurationError(
            f"Expected method={name} to be registered. What it looks at would not be known. {hint}"
        )
    return _METHODS[name]
