"""Mechanisms: frozen values that say which noise a run adds, and to which sample of the records.

What a mechanism costs is computed in `dpft.accounting.accountants`; nothing is stored here that
could disagree with it. dp-accounting is imported only when an event is asked for.
"""

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from dpft.accounting.errors import ConfigurationError
from dpft.accounting.rules import (
    count_problems,
    name_problems,
    positive_problems,
    rate_problems,
    require,
)

if TYPE_CHECKING:
    from dp_accounting import DpEvent

__all__ = [
    "Adjacency",
    "PoissonGaussian",
    "mechanism_from_json",
]


class Adjacency(str, Enum):
    """Which pairs of data sets are neighbours, for a unit of one record.

    `add_or_remove`: one record is there or not. `zero_out`: one record's contribution is replaced
    by zero, the number of records is public. `replace_one`: one record is exchanged for any other.
    """

    ADD_OR_REMOVE = "add_or_remove"
    ZERO_OUT = "zero_out"
    REPLACE_ONE = "replace_one"


@dataclasses.dataclass(frozen=True)
class PoissonGaussian:
    r"""A sum of clipped records under Gaussian noise, repeated on independent Poisson samples.

    Each step releases :math:`\sum_{b \in S} g_b + N(0, \sigma^2 C^2 I)`, where every record is in
    S with probability q, independently, and :math:`|g_b| \le C`.

    Args:
        noise_multiplier: Noise std divided by the clip norm C, > 0 and finite, no unit. The same
            ratio under every adjacency; the accountant knows that replace-one moves the sum by 2C.
        sample_rate: Probability q with which one record enters one step, in (0, 1].
        steps: Number of steps, an integer >= 1.
        adjacency: The neighbouring relation, a member of `Adjacency` or its value.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        One record moves the clipped sum of a step by at most C (by 2C under replace-one). Every
        step's noisy sum is released. Assumed are Poisson sampling and exact real-valued Gaussian
        noise (`test_one_step_agrees_with_the_closed_form_of_the_sampled_gaussian`,
        `test_replace_one_without_sampling_equals_half_the_noise`).

    References:
        Abadi et al. 2016 (1607.00133), algorithm 1.

    Example:
        >>> PoissonGaussian(0.6, 1024 / 67_349, 660).adjacency.value
        'add_or_remove'
    """

    kind: ClassVar[str] = "poisson_gaussian"

    noise_multiplier: float
    sample_rate: float
    steps: int
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field, then store floats, so that equal values are written alike."""
        require(
            positive_problems("noise_multiplier", self.noise_multiplier),
            rate_problems("sample_rate", self.sample_rate),
            count_problems("steps", self.steps),
            name_problems("adjacency", self.adjacency, [member.value for member in Adjacency]),
        )
        object.__setattr__(self, "noise_multiplier", float(self.noise_multiplier))
        object.__setattr__(self, "sample_rate", float(self.sample_rate))
        object.__setattr__(self, "adjacency", Adjacency(self.adjacency))

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Self-composition of a Poisson-sampled Gaussian; of the plain Gaussian if every record
            takes part, because that one has a closed form.

        Privacy:
            Nothing, no data touched.
        """
        import dp_accounting

        once = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        if self.sample_rate < 1.0:
            once = dp_accounting.PoissonSampledDpEvent(self.sample_rate, once)
        return dp_accounting.SelfComposedDpEvent(once, self.steps)

    def to_json(self) -> dict[str, str | int | float]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return {
            "kind": self.kind,
            "noise_multiplier": self.noise_multiplier,
            "sample_rate": self.sample_rate,
            "steps": self.steps,
            "adjacency": self.adjacency.value,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "PoissonGaussian":
        """Read what `to_json` wrote.

        Args:
            fields: Exactly the keys that `to_json` writes.

        Returns:
            A mechanism equal to the one written.

        Raises:
            ConfigurationError: If a key is unknown or missing, or a value is out of range.

        Privacy:
            Nothing, no data touched.

        Example:
            >>> mechanism = PoissonGaussian(1.0, 0.1, 3)
            >>> PoissonGaussian.from_json(mechanism.to_json()) == mechanism
            True
        """
        expected = {"kind", *(field.name for field in dataclasses.fields(cls))}
        if set(fields) != expected or fields["kind"] != cls.kind:
            raise ConfigurationError(
                f"Expected mechanism={sorted(fields)} of kind {fields.get('kind')!r} to have the "
                f"fields {sorted(expected)} and kind {cls.kind!r}. A field that is not understood "
                "may change the guarantee. Read it with the version that wrote it."
            )
        values = {name: value for name, value in fields.items() if name != "kind"}
        return cls(**values)  # type: ignore[arg-type]  # every field is checked on construction


_KINDS = {PoissonGaussian.kind: PoissonGaussian}


def mechanism_from_json(fields: object) -> PoissonGaussian:
    """Read any mechanism of the allow-list.

    Args:
        fields: A mapping written by `to_json` of one of the known mechanisms.

    Returns:
        The mechanism.

    Raises:
        ConfigurationError: If it is no mapping, or its kind is not known.

    Privacy:
        Nothing, no data touched. No class is looked up by a name from the file.
    """
    if not isinstance(fields, Mapping):
        raise ConfigurationError(
            f"Expected mechanism={fields!r} to be a mapping of fields. Epsilon is computed from "
            "mechanisms alone. Read it with the version that wrote it."
        )
    require(name_problems("kind", fields.get("kind"), _KINDS))
    return _KINDS[fields["kind"]].from_json(fields)
