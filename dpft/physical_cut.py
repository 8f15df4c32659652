"""How logical batches are cut for the rest of a run: what fits, and less once memory ran out.

The largest budget is looked for before the first step, on synthetic records. What
`dpft.logical_gradients` learns later, it learns from private records, and keeps to itself.
"""

import dataclasses
import gc
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch

from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine
from dpft.engine.memory import ran_out_of_memory
from dpft.engine.probe import untouched
from dpft.errors import ConfigurationError
from dpft.performance import Performance
from dpft.preflight import SyntheticRecords
from dpft.privacy import Privacy
from dpft.records import TOKEN_BUDGET, Row, length_of
from dpft.synthetic import synthetic_rows

__all__ = ["PhysicalCut", "Trial", "freed", "largest_that_fits"]

_MOST_TOKENS = 2**20  # of one physical batch; more never was faster
_SHORT = 16  # tokens of a short record: many of them hold more gradients than few long ones
_LONGEST = 512
_POSITIONS = ("max_position_embeddings", "n_positions")
# A launch costs an accelerator as much as thousands of tokens. Not measured.
_OVERHEAD_OF_ACCELERATORS = 4096
_Result = TypeVar("_Result")


class PhysicalCut:
    """The cut in force, of one `PrivateStep`.

    Args:
        performance: What the user asked for.

    Privacy:
        Any cut gives the same update. The one in force after a back-off depends on the lengths of
        sampled records: it is neither shown nor written
        (`tests/dpft/test_logical_gradients.py::test_backing_off_is_silent`).
    """

    def __init__(self, performance: Performance) -> None:
        """Take what is asked for."""
        self._raw_performance = performance
        self._is_fixed = False

    def __repr__(self) -> str:
        """Show nothing of it."""
        return "PhysicalCut()"

    @property
    def raw_performance(self) -> Performance:
        """How to cut the next logical batch."""
        return self._raw_performance

    def settle(self, trial: "Trial") -> None:
        """Fill in what the user left unset, from synthetic records.

        Args:
            trial: What to try it on.

        Privacy:
            Synthetic records only; draws nothing of the run's randomness and leaves the model as
            it was (`tests/dpft/test_physical_cut.py`).
        """
        asked = self._raw_performance
        on_cpu = trial.device.type == "cpu"
        if asked.batch_overhead is None and not on_cpu:
            asked = dataclasses.replace(asked, batch_overhead=_OVERHEAD_OF_ACCELERATORS)
        if asked.token_budget is None and not on_cpu:  # of a CPU memory is virtual: all would fit
            most = min(_MOST_TOKENS, asked.max_physical_batch * trial.longest) // trial.longest
            records = largest_that_fits(trial.fits, max(1, most))
            asked = dataclasses.replace(asked, token_budget=records * trial.longest)
        self._raw_performance = asked

    def fix(self) -> None:
        """Never cut finer: where processes share the weights, none may begin anew by itself."""
        self._is_fixed = True

    def halve(self, raw_longest: int) -> bool:
        """Halve the budget, if physical batches hold more than one record yet.

        Args:
            raw_longest: Length of the longest record of the logical batch that did not fit.

        Returns:
            False if every record stood alone already, or the cut is fixed.
        """
        if self._is_fixed:
            return False
        cut = self._raw_performance
        budget = cut.token_budget or TOKEN_BUDGET
        in_force = min(budget, cut.max_physical_batch * max(1, raw_longest))
        self._raw_performance = dataclasses.replace(cut, token_budget=max(1, in_force // 2))
        return in_force > 1


@dataclasses.dataclass(frozen=True)
class Trial:
    """Takes physical batches of synthetic records through the model, to see whether they fit.

    Args:
        engine: The engine of the model that will train.
        synthetic: Public records; lengthened where the ranges of their fields are known.
        privacy: Clip norm and style.
        longest: Length in tokens of the longest ones that are tried, >= 1.

    Privacy:
        No private record is touched; nothing of the result depends on one.
    """

    engine: Engine
    synthetic: SyntheticRecords
    privacy: Privacy
    longest: int

    @classmethod
    def of(cls, engine: Engine, synthetic: SyntheticRecords, privacy: Privacy) -> "Trial":
        """Return the trial for records as long as the model's positions allow, 512 at most.

        A quarter of the positions is left to soft prompts and the like.

        Args:
            engine: The engine of the model that will train.
            synthetic: Public records.
            privacy: Clip norm and style.

        Privacy:
            Nothing, no data touched.
        """
        if "input_ids" not in synthetic.rows[0]:
            return cls(engine, synthetic, privacy, 1)
        positions = [getattr(_config(engine), name, None) for name in _POSITIONS]
        known = [3 * each // 4 for each in positions if isinstance(each, int) and each > 1]
        return cls(engine, synthetic, privacy, min([_LONGEST, *known]))

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(iter(self.engine.parameters.values())).device

    def fits(self, records: int) -> bool:
        """Tell whether so many of the longest records fit, and as many tokens of short ones.

        Args:
            records: Number of records of the largest length, >= 1.
        """
        tokens, lengths = records * self.longest, {self.longest, min(_SHORT, self.longest)}
        return all(freed(partial(self._carried, tokens, each)) for each in sorted(lengths))

    def _carried(self, tokens: int, length: int) -> bool:
        row = self._row(length)
        batch = self.synthetic.collate([row] * max(1, tokens // length_of(row)))
        with untouched(self.engine.model):
            total = ClippedSum(
                self.engine.parameters, self.privacy.clipping, self.privacy.clip_norm
            )
            total.add(self.engine.gradients(batch))
        return True

    def _row(self, length: int) -> Row:
        try:
            rows = synthetic_rows(self.synthetic.rows[0], _config(self.engine), lengths=(length,))
        except ConfigurationError:  # fields whose range only the user knows, who gave these rows
            return max(self.synthetic.rows, key=length_of)
        return rows[0]


def _config(engine: Engine) -> Any:
    return getattr(engine.model, "config", None)


def largest_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest power of two up to `most` that fits, found by doubling.

    The next one did not fit, so that on average a third of the memory stays free.

    Args:
        fits: Tells whether so many fit; at least one is asked for.
        most: Largest number, >= 1.

    Raises:
        ConfigurationError: If not even one fits.

    Privacy:
        Nothing, no data touched.
    """
    found = 0
    while (records := max(1, 2 * found)) <= most and fits(records):
        found = records
    if not found:
        raise ConfigurationError(
            "Expected a record of the largest length to fit into memory with the model. Shorten "
            "records (architecture.max_length), or take a smaller model or number format."
        )
    return found


def freed(work: Callable[[], _Result]) -> _Result | None:
    """Return what work returns; None, with all that it held let go, if memory ran out.

    Args:
        work: Does something and returns something else than None.

    Privacy:
        The error is dropped: its traceback holds raw tensors.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
