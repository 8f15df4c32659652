"""What is to be merged, however it was asked for."""

import dataclasses
import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from enum import Enum
from fractions import Fraction
from pathlib import Path

from dpft.errors import ConfigurationError
from dpft.recipes.merging.formula import linear_form

__all__ = ["OutputType", "Request", "Uncertain", "published_names", "request_of_expression"]


class OutputType(str, Enum):
    """Type that tensors are rounded to."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Uncertain(str, Enum):
    """What to do with an adapter that has no certificate."""

    REFUSE = "refuse"
    MARK = "mark"
    """Take it; epsilon of the result is infinite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be merged.

    Args:
        folders: Folders of adapters or runs by the names that the result gives them.
        coefficients: One for each, as exact as they were written.
        method: A registered method.
        density: Share of entries kept by methods that drop some, in (0, 1].
        scaling: What to multiply the result with.
        normalize: Whether to divide coefficients by their sum.
        seed: Public seed of methods that drop at random.
        noise_std: Level of the noise in each adapter, in the order of names; empty: from the
            certificates.
        rank: Rank of every matrix of the result; None: exact.
        tolerance: Instead of it, the relative error allowed for each matrix.
        dtype: What tensors are rounded to; None: as they are.
        base: Name or folder of the base model, to compare with that of the adapters.
        on_uncertified: What to do with adapters without certificate.
        without_heads: Whether to leave heads out.

    Privacy:
        Nothing, no data touched. Numbers chosen by looking at private records are a release of
        their own.
    """

    folders: Mapping[str, Path]
    coefficients: Mapping[str, Fraction]
    method: str = "linear"
    density: float = 1.0
    scaling: float = 1.0
    normalize: bool = False
    seed: int = 0
    noise_std: Sequence[float] = ()
    rank: int | None = None
    tolerance: float | None = None
    dtype: OutputType | None = None
    base: str | None = None
    on_uncertified: Uncertain = Uncertain.REFUSE
    without_heads: bool = False

    def __post_init__(self) -> None:
        """Refuse what cancelled as a whole."""
        if self.scaling == 0 or not any(self.coefficients.values()):
            raise ConfigurationError(
                "Expected at least one adapter to be left. Everything cancelled, and the empty "
                "vector changes nothing. Use the base model as it is."
            )

    @property
    def names(self) -> list[str]:
        """Adapters that are left after cancelling; the others are not even opened."""
        return [name for name, number in self.coefficients.items() if number]


def request_of_expression(text: str, given: Sequence[str]) -> Request:
    """Return the request of an expression on the command line.

    Args:
        text: Such as `a + b - 0.5*c`.
        given: `NAME=DIR` for each name in it.

    Returns:
        The request, with everything else at its default.

    Raises:
        ConfigurationError: If the expression is none, or names and folders do not match.

    Privacy:
        Nothing, no data touched.
    """
    coefficients = linear_form(text)
    named = _named(given)
    unused = sorted(set(named) - set(coefficients))
    if unused:
        raise ConfigurationError(
            f"Expected {unused[0]}={named[unused[0]]} to be in the expression. What is given and "
            "not used may be a slip. Leave it out, or add it."
        )
    paths = {name: named.get(name, Path(name)) for name in coefficients}
    for name in coefficients:
        if name not in named and name.isidentifier() and not Path(name).is_dir():
            raise ConfigurationError(
                f"Expected {name} to be given. The expression names it, and there is no folder of "
                f"that name. Add --with {name}=DIR."
            )
    titles = published_names(
        [name if name in named else Path(name).as_posix() for name in coefficients]
    )
    pairs = list(zip(titles, coefficients.items(), strict=True))
    return Request(
        folders={title: paths[name] for title, (name, _) in pairs},
        coefficients={title: number for title, (_, number) in pairs},
    )


def published_names(paths: Sequence[str]) -> list[str]:
    """Return what may be published of paths: the last part of each, told apart by numbers.

    Args:
        paths: Names or paths of adapters.

    Returns:
        One name for each, no two alike.

    Privacy:
        Nothing, no data touched. No folder above the last one is named.

    Example:
        >>> published_names(["runs/a", "other/a", "b"])
        ['a', 'a (2)', 'b']
    """
    found: list[str] = []
    for path in paths:
        last = Path(path).name or "adapter"
        numbered = (f"{last} ({number})" for number in itertools.count(2))
        found.append(next(each for each in itertools.chain([last], numbered) if each not in found))
    return found


def _named(given: Sequence[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for each in given:
        written, equals, folder = each.partition("=")
        name = unicodedata.normalize("NFKC", written)  # as the expression is read
        if not equals or not name.isidentifier() or not folder or name in named:
            raise ConfigurationError(
                f"Expected {each} to be NAME=DIR, with each name once. A name stands for one "
                "adapter in the expression. Write --with a=runs/a."
            )
        named[name] = Path(folder).expanduser()
    return named
