"""Memory and time of a run, from shapes alone: what `dpft plan --dry-run` says."""

import dataclasses
from typing import Any

from dpft.optim import Averaging, OptimizerName
from dpft.recipes.config.schema import DtypeName, QuantisationName, TrainSettings
from dpft.recipes.planning.trial import Costs, costs_of
from dpft.records import TOKEN_BUDGET

__all__ = ["Forecast", "Memory", "forecast", "physical_batch"]

_WIDTHS = {DtypeName.BFLOAT16: 2, DtypeName.FLOAT32: 4}
_SUM = 4  # the clipped sum is float32
_NOISE = 16  # float64, and the normals beside it
_NF4_BLOCK = 64
_MOMENTS = {OptimizerName.SGD: 0}  # all others have two


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of a run.

    Args:
        weights: Frozen weights, as they are stored.
        trained: Trained weights.
        optimiser: Its moments, and an average of iterates.
        clipped_sum: Over a logical batch.
        activations: Kept at the end of the forward pass of one physical batch.
        private_pass: Most that forward, backward and clipping hold beside all but the activations,
            which are a part of it.
        update: What noise and the optimiser hold at a time, after the passes.

    Privacy:
        Nothing, no data touched.
    """

    weights: float
    trained: float
    optimiser: float
    clipped_sum: float
    activations: float
    private_pass: float
    update: float

    @property
    def at_rest(self) -> float:
        """What is held through a whole step."""
        return self.weights + self.trained + self.optimiser + self.clipped_sum

    @property
    def peak(self) -> float:
        """The most that is held at a time."""
        return self.at_rest + max(self.private_pass, self.update)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will take.

    Args:
        frozen: Number of frozen weights.
        trained: Number of trained weights.
        records: Of a physical batch, all of the greatest length.
        tokens: Of a record.
        memory: Bytes.
        flops: Floating-point operations of the matrix products of one physical batch.
        expected_batch_size: Mean number of records of a step.
        flops_per_second: That the machine sustains; None if it is not known.
        in_proportion: Whether two short stacks were followed instead of the whole.

    Privacy:
        Nothing, no data touched.
    """

    frozen: int
    trained: int
    records: int
    tokens: int
    memory: Memory
    flops: float
    expected_batch_size: int
    flops_per_second: float | None = None
    in_proportion: bool = False

    @property
    def flops_per_step(self) -> float:
        """Of a step of the expected size."""
        return self.flops / self.records * self.expected_batch_size

    @property
    def seconds_per_step(self) -> float | None:
        """Time of a step's matrix products."""
        speed = self.flops_per_second
        return None if speed is None else self.flops_per_step / speed

    def records_that_fit(self, free: float) -> int:
        """Return about how many records of this length fit into a memory at a time.

        Args:
            free: All memory, in bytes.
        """
        return max(0, int((free - self.memory.at_rest) * self.records / self.memory.private_pass))


def forecast(
    settings: TrainSettings, config: Any, flops_per_second: float | None = None
) -> Forecast:
    """Foresee memory and time of a run, without weights, records or a network.

    Args:
        settings: Of the run, as for ``dpft train``.
        config: Configuration of the base model, of transformers.
        flops_per_second: That the machine sustains; unset: no time is foreseen.

    Returns:
        The forecast, for records of the greatest length.

    Raises:
        UnsupportedError: If the engine refuses the model.

    Privacy:
        Nothing, no data touched (`tests/recipes/planning/test_forecast.py`).
    """
    shape = (physical_batch(settings), settings.architecture.max_length)
    costs = costs_of(settings, config, shape)
    return Forecast(
        frozen=round(costs.frozen),
        trained=round(costs.trained),
        records=shape[0],
        tokens=shape[1],
        memory=_memory(settings, costs),
        flops=costs.flops,
        expected_batch_size=settings.privacy.expected_batch_size,
        flops_per_second=flops_per_second,
        in_proportion=costs.in_proportion,
    )


def physical_batch(settings: TrainSettings) -> int:
    """Return how many records of the greatest length are worked on at once.

    Args:
        settings: Of the run.

    Privacy:
        Nothing, no data touched.
    """
    performance = settings.performance
    tokens = performance.token_budget or TOKEN_BUDGET
    fit = max(1, tokens // settings.architecture.max_length)
    return min(fit, performance.max_physical_batch, settings.privacy.expected_batch_size)


def _memory(settings: TrainSettings, costs: Costs) -> Memory:
    width = _WIDTHS[settings.architecture.dtype]
    rounded = settings.architecture.quantisation is not QuantisationName.NONE
    moments = _MOMENTS.get(settings.optim.name, 2) + (settings.optim.averaging is Averaging.EMA)
    return Memory(
        weights=costs.frozen * width - (_saved(settings, costs) if rounded else 0),
        trained=costs.trained_bytes,
        optimiser=moments * costs.trained_bytes,
        clipped_sum=_SUM * costs.trained,
        activations=costs.activation_bytes,
        # a rounded weight is widened while it is used
        private_pass=costs.peak_bytes + (costs.largest * width if rounded else 0),
        update=costs.trained_bytes + _NOISE * costs.trained,
    )


def _saved(settings: TrainSettings, costs: Costs) -> float:
    """Return by how many bytes rounded weights are smaller, their scales included."""
    width = _WIDTHS[settings.architecture.dtype]
    if settings.architecture.quantisation is QuantisationName.INT8:
        return costs.linear * (width - 1) - costs.rows * width
    return costs.linear * (width - 0.5 - 4 / _NF4_BLOCK)
