"""Integer Gaussian noise on sums that are rounded to a grid, without amplification by sampling."""

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

from dpft.accounting.mechanisms.adjacency import Adjacency, Unit
from dpft.accounting.mechanisms.fields import fields_as_json, settle
from dpft.accounting.rules import count_problems, name_problems, positive_problems

if TYPE_CHECKING:
    from dp_accounting import DpEvent

__all__ = ["DiscreteGaussian"]

# What two sums may move apart in one entry, in steps of the grid: each is rounded to the nearest
# (1/2), after a division that is off by 2**-53 of a quotient of at most 2**50 (1/8).
_ROUNDING = 1.25
_LARGEST = 2**53  # beyond it not every integer is a float


@dataclasses.dataclass(frozen=True)
class DiscreteGaussian:
    r"""A sum of clipped records, rounded to a grid, under integer Gaussian noise, repeated.

    Each release is :math:`\mathrm{round}(\sum_b g_b / \gamma) + N_Z(0, s^2)^d`, where
    :math:`|g_b| \le C`, the noise is the discrete Gaussian with parameter s = `grid_std`, and
    :math:`\gamma = z C / s` for the noise multiplier z. Whichever records enter a sum: nothing is
    gained from sampling them, because no amplification is proved for this noise.

    Args:
        noise_multiplier: Noise std divided by the clip norm C, > 0 and finite, no unit.
        steps: Number of releases, an integer >= 1.
        grid_std: Noise std in steps of the grid, an integer in [1, 2**53].
        dimension: Largest number d of entries of the sum, an integer in [1, 2**53].
        unit: What is clipped: a record, or a user with all of that user's records. By keyword
            alone.
        adjacency: The neighbouring relation.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        One record moves each sum by at most C before rounding (by 2C under replace-one). Rounding
        moves two sums apart by at most 1.25 steps in each of d entries, hence by 1.25 sqrt(d) steps
        in l2 norm; `rounded_sensitivity` is the sum of both. Each release is then
        (`rounded_sensitivity` / z)^2 / 2 - zCDP (`test_rounding_never_moves_sums_further_apart`,
        `test_the_bound_holds_for_the_exact_divergence_of_the_discrete_gaussian`).

    References:
        Canonne, Kamath and Steinke 2020 (2004.00010), definition 1, proposition 5, theorem 14.

    Example:
        >>> round(DiscreteGaussian(1.0, 10).rounded_sensitivity, 6)
        1.000305
    """

    kind: ClassVar[str] = "discrete_gaussian"

    noise_multiplier: float
    steps: int = 1
    grid_std: int = 2**24
    dimension: int = 2**24
    unit: Unit = dataclasses.field(default=Unit.RECORD, kw_only=True)
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        settle(
            self,
            positive_problems("noise_multiplier", self.noise_multiplier),
            count_problems("steps", self.steps),
            _size_problems("grid_std", self.grid_std),
            _size_problems("dimension", self.dimension),
            name_problems("unit", self.unit, [member.value for member in Unit]),
        )
        object.__setattr__(self, "unit", Unit(self.unit))

    @property
    def granularity(self) -> float:
        """One step of the grid, in clip norms."""
        return self.noise_multiplier / self.grid_std

    @property
    def rounded_sensitivity(self) -> float:
        """How far one unit of privacy moves a rounded sum in l2 norm, in clip norms."""
        distance = 2.0 if self.adjacency is Adjacency.REPLACE_ONE else 1.0
        return distance + _ROUNDING * math.sqrt(self.dimension) * self.granularity

    @property
    def rho(self) -> float:
        """What all releases cost together in zero-concentrated differential privacy."""
        distance = self.rounded_sensitivity / self.noise_multiplier
        return self.steps * distance * distance / 2  # a square that is too large becomes infinite

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Zero-concentrated differential privacy, which its RDP accountant composes.

        Privacy:
            Nothing, no data touched.
        """
        from dp_accounting import ZCDpEvent

        return ZCDpEvent(self.rho)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)


def _size_problems(field: str, value: int) -> list[str]:
    problems = count_problems(field, value)
    if problems or value <= _LARGEST:
        return problems
    message = (
        f"Expected {field}={value} <= 2**53. The sensitivity is computed from it in floating "
        f"point. Lower {field}."
    )
    return [message]
