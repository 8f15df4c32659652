"""The membership game: coins decide which canaries are in, scores say what an attacker believes."""

import dataclasses
from typing import TYPE_CHECKING

from dpft.accounting.rules import require

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Game", "Played"]


@dataclasses.dataclass(frozen=True)
class Game:
    """What is public of a game before it is played.

    Args:
        canaries: Their number, >= 2.
        seed: Of the coins; unset: from the operating system.

    Raises:
        ConfigurationError: If there are fewer than two canaries.

    Privacy:
        Nothing, no data touched.
    """

    canaries: int
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the number."""
        problem = (
            f"Expected canaries={self.canaries} >= 2. One guess refutes nothing. Give about a "
            "thousand."
        )
        require([] if self.canaries >= 2 else [problem])

    def coins(self) -> "np.ndarray":
        """Toss one fair coin for each canary, booleans [canaries]."""
        import numpy as np

        return np.random.default_rng(self.seed).random(self.canaries) < 0.5


@dataclasses.dataclass(frozen=True)
class Played:
    """A game that was played.

    Args:
        scores: What the attacker believes of each canary, floats [canaries]: high means in.
        included: The coins, booleans [canaries].

    Raises:
        ConfigurationError: If the two differ in length, or a score is not a number.

    Privacy:
        The caller's: scores come from released values, coins from the audit itself.
    """

    scores: "np.ndarray"
    included: "np.ndarray"

    def __post_init__(self) -> None:
        """Check the shapes."""
        import numpy as np

        problems = []
        if self.scores.ndim != 1 or self.scores.shape != self.included.shape:
            problems.append(
                f"Expected scores of shape {self.scores.shape} to be one for each coin, of which "
                f"there are {self.included.shape}. Pass both as vectors of one length."
            )
        elif np.isnan(self.scores).any():
            problems.append(
                "Expected scores without NaN. They have no order, and an attacker who sees NaN "
                "knows more than a score can say. Find out where they come from."
            )
        require(problems)

    @property
    def canaries(self) -> int:
        """Number of canaries."""
        return len(self.scores)

    def right(self, guesses: int) -> int:
        """Return how many of the highest scores are in, plus how many of the lowest are out.

        Args:
            guesses: Number guessed on either side, at most half of the canaries.
        """
        import numpy as np

        order = np.argsort(self.scores, kind="stable")
        return int(self.included[order[-guesses:]].sum() + (~self.included[order[:guesses]]).sum())

    def shares_above(self, threshold: float) -> tuple[int, int]:
        """Return how many of those in, and of those out, score above a threshold."""
        above = self.scores > threshold
        return int(above[self.included].sum()), int(above[~self.included].sum())
