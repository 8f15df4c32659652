"""Settings that merge methods share; each reads those that it has a use for."""

import dataclasses
import math

from dpft.errors import ConfigurationError
from dpft.taskvectors.coefficients import exact

__all__ = ["MergeOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """How vectors are merged.

    Args:
        weights: One for each vector; None: 1 for each. A negative weight means negation.
        density: Share of entries kept by methods that drop some, in (0, 1].
        scaling_coef: What to multiply the result with.
        seed: Public seed of methods that drop at random.
        noise_std: Standard deviation of the noise in one coordinate of each vector, >= 0, as public
            as the mechanism; None: from the certificates, up to a common factor.
        normalize: Whether to divide the weights by their sum.

    Raises:
        ConfigurationError: If a value is out of range.

    Privacy:
        Nothing, no data touched. Values chosen by looking at private records are a mechanism of
        their own on those.
    """

    weights: tuple[float, ...] | None = None
    density: float = 1.0
    scaling_coef: float = 1.0
    seed: int = 0
    noise_std: tuple[float, ...] | None = None
    normalize: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        for number in (*(self.weights or ()), self.scaling_coef):
            exact(number)  # refuses what is not finite
        if not 0 < self.density <= 1:
            raise ConfigurationError(
                f"Expected density={self.density} in (0, 1]. With none of the entries kept, "
                "nothing is merged. Choose a share such as 0.2."
            )
        levels = self.noise_std or ()
        if not all(math.isfinite(level) and level >= 0 for level in levels):
            raise ConfigurationError(
                f"Expected noise_std={levels} >= 0 and finite. They are standard deviations. State "
                "those of the mechanisms."
            )
        if self.normalize and self.weights is not None and sum(self.weights) <= 0:
            raise ConfigurationError(
                f"Expected sum of weights={sum(self.weights)} > 0 with normalize=True. Dividing by "
                "it would turn a negation around. Leave normalize out."
            )

    def weights_of(self, count: int) -> tuple[float, ...]:
        """Return one weight for each vector.

        Args:
            count: Number of vectors, >= 1.

        Raises:
            ConfigurationError: If there are more or fewer weights.

        Privacy:
            Nothing, no data touched.
        """
        given = (1.0,) * count if self.weights is None else self.weights
        if len(given) != count:
            raise ConfigurationError(
                f"Expected weights={given} to be {count}, one for each vector. None is left out or "
                "repeated. State all of them."
            )
        return tuple(weight / sum(given) for weight in given) if self.normalize else given
