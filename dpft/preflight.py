"""The preflight: is what will be clipped really each record's own gradient?

Runs before the first step, on synthetic records, against autograd without interception. Any
failure raises; a pass, with values and tolerances, goes into the report.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine, PerRecordLoss
from dpft.engine.grouping import Grouping
from dpft.engine.precision import full_precision
from dpft.engine.probe import untouched
from dpft.engine.record_gradients import RecordGradients, zero_sums
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.fingerprint import stored_parts
from dpft.privacy import Privacy
from dpft.records import Collate, Row, length_of

__all__ = ["Check", "PreflightReport", "SyntheticRecords", "agreement", "run_preflight"]

_Gradients = Mapping[str, torch.Tensor]
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
_OVERSTATED = 1.02  # a ghost norm is rounded up by a few thousandths at most
_LOW_PRECISION = 5e-2  # bf16 and fp16 have 8 and 11 bits
_DROPOUTS = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
    torch.dropout,
)
_DROPOUT_PLACE = 4  # of dropout_p among the arguments of scaled_dot_product_attention
_PERTURBATION = 0.02
_SEED = 20_260_101  # public: synthetic records and their dropout masks are no secret


@dataclasses.dataclass(frozen=True)
class Check:
    """One check of the preflight.

    Args:
        name: What was checked, in words.
        value: What was found.
        tolerance: Largest value that passes.

    Privacy:
        From synthetic records only; fit to publish.
    """

    name: str
    value: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the value is within the tolerance (never for NaN)."""
        return self.value <= self.tolerance


@dataclasses.dataclass(frozen=True)
class PreflightReport:
    """All checks of one preflight.

    Args:
        checks: The checks, in order.

    Privacy:
        From synthetic records only; fit to publish.
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


@dataclasses.dataclass(frozen=True)
class SyntheticRecords:
    """Public records and how they become tensors.

    Args:
        rows: At least two records of different lengths.
        collate: Makes tensors of rows.
    """

    rows: Sequence[Row]
    collate: Collate

    def __post_init__(self) -> None:
        """Refuse rows that would make the checks empty."""
        lengths = {length_of(row) for row in self.rows}
        padded = any("input_ids" in row for row in self.rows)
        equal = all(row == self.rows[0] for row in self.rows[1:])
        if len(self.rows) < 2 or equal or (padded and len(lengths) < 2):
            raise ConfigurationError(
                "Expected synthetic records that differ from each other, and in length where they "
                "have input_ids; at least two. Equal ones would not show coupling. Give other rows."
            )

    def batch(self) -> Mapping[str, torch.Tensor]:
        """Return all records as one batch."""
        return self.collate(self.rows)

    def singles(self) -> list[Mapping[str, torch.Tensor]]:
        """Return each record as a batch of its own, without the padding of its batch-mates."""
        return [self.collate([row]) for row in self.rows]


def run_preflight(engine: Engine, records: SyntheticRecords, privacy: Privacy) -> PreflightReport:
    """Check the engine on a model, before any private record is touched.

    Args:
        engine: The engine of the model that will train.
        records: Synthetic records.
        privacy: Clip norm and style of the run.

    Returns:
        The report; the model is left as it was, bit for bit.

    Raises:
        BrokenGuaranteeError: If a check fails.

    Privacy:
        Synthetic records only; the verdict is public. Turns a mis-attributed, coupled or missing
        gradient into an error before step 1 (`tests/dpft/test_preflight.py`).
    """
    sums = _sums(engine.model)
    with untouched(engine.model), _perturbed(engine):
        weighted = _weighted_sum_error(engine, records.batch())
        with _without_randomness(engine, records.batch()):
            gradients = engine.gradients(records.batch())
            singles = [_reference(engine, one) for one in records.singles()]
    raw = gradients.instantiated()
    full, used = RecordGradients.of(raw).raw_norms(), gradients.raw_norms()
    tolerance = _tolerance(engine)  # known only now: autocast is switched on by the loss
    unreached = _unreached(engine, singles)
    checks = (
        Check("weighted sum of gradients equals autograd", weighted, tolerance),
        Check("records equal a loop over single ones", _loop_error(raw, singles), tolerance),
        Check("trainable parameters without a gradient", float(len(unreached)), 0.0),
        Check("norm / norm by the form used", _largest_ratio(full, used), 1 + tolerance),
        Check("norm by the form used / norm", _largest_ratio(used, full), _OVERSTATED),
        Check("frozen parameters that changed", float(_sums(engine.model) != sums), 0.0),
        Check("largest contribution / clip norm", _largest(engine, raw, privacy), 1.0),
        *_checks_of_users(gradients, singles, tolerance if privacy.samples_users else None),
    )
    report = PreflightReport(checks)
    failed = [check for check in checks if not check.passed]
    if failed:
        raise BrokenGuaranteeError(
            f"Expected every preflight check to pass, failed: "
            f"{[(check.name, check.value, check.tolerance) for check in failed]}; parameters "
            f"without a gradient: {unreached[:5]}. What would be clipped is not each record's own "
            "gradient, or noise would be spent on a parameter that never learns. Make records "
            "independent of each other, and freeze parameters that the loss does not use."
        )
    return report


def agreement(
    engine: Engine, batch: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]
) -> Check:
    """Compare losses and gradients of the same synthetic records, given in two ways.

    Args:
        engine: The engine of the model that will train.
        batch: The records as the loss takes them.
        other: The same ones, as the steps will hand them over.

    Returns:
        The check; the model is left as it was.

    Privacy:
        Nothing, no data touched: the records are synthetic.
    """
    weights_B = 0.5 + torch.rand(
        len(next(iter(batch.values()))), generator=torch.Generator().manual_seed(_SEED)
    )
    found: list[dict[str, torch.Tensor]] = []
    with untouched(engine.model), _perturbed(engine):
        for way in (batch, other):
            with _same_dropout(), torch.no_grad():
                losses = engine.loss(engine.model, way)
            with _same_dropout():
                found.append({**_reference(engine, way, weights_B), "losses": losses})
    name = "the same losses and gradients with and without kept states"
    return Check(name, _error(found[1:], found[:1]), _tolerance(engine))


@contextmanager
def _perturbed(engine: Engine) -> Iterator[None]:
    """Move parameters away from exact zeros (LoRA's B), where gradients of others vanish."""
    kept = {name: p.detach().clone() for name, p in engine.parameters.items()}
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in engine.parameters.values():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(_PERTURBATION * noise)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in engine.parameters.items():
                parameter.copy_(kept[name])


@contextmanager
def _without_randomness(engine: Engine, batch: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Switch dropout off, and nothing else of train mode where that is enough."""
    training = {module: module.training for module in engine.model.modules()}
    try:
        if _recomputes(engine.model):  # torch leaves the mode below during a backward pass
            engine.model.eval()
        with _NoDropout():
            if not _is_deterministic(engine, batch):
                engine.model.eval()
            yield
    finally:
        for module, was_training in training.items():
            module.training = was_training


def _recomputes(model: torch.nn.Module) -> bool:
    """Return whether transformers' activation checkpointing is on; in eval mode it rests."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


class _NoDropout(TorchFunctionMode):
    """Makes every dropout the identity, wherever it is written."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in _DROPOUTS:
            return args[0] if args else options["input"]
        if func is functional.scaled_dot_product_attention:
            if len(args) > _DROPOUT_PLACE:
                args = (*args[:_DROPOUT_PLACE], 0.0, *args[_DROPOUT_PLACE + 1 :])
            else:
                options["dropout_p"] = 0.0
        return func(*args, **options)


@torch.no_grad()
def _is_deterministic(engine: Engine, batch: Mapping[str, torch.Tensor]) -> bool:
    losses = []
    for seed in (_SEED, _SEED + 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            losses.append(engine.loss(engine.model, batch))
    return torch.equal(losses[0], losses[1])


@contextmanager
def _same_dropout() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        yield


def _weighted_sum_error(engine: Engine, batch: Mapping[str, torch.Tensor]) -> float:
    """Compare with autograd what clipping will add up, in the form that it will use."""
    size = len(next(iter(batch.values())))
    weights_B = 0.5 + torch.rand(size, generator=torch.Generator().manual_seed(_SEED))
    with _same_dropout():
        gradients = engine.gradients(batch)
    with _same_dropout():
        reference = _reference(engine, batch, weights_B)
    sums = zero_sums(engine.parameters)
    with torch.no_grad(), full_precision(sums.values()):
        gradients.add_weighted(weights_B, sums)
    return _error([sums], [reference])


def _reference(
    engine: Engine, batch: Mapping[str, torch.Tensor], weights: torch.Tensor | None = None
) -> _Gradients:
    """Return autograd's own gradient of the (weighted) sum of losses, without interception."""
    loss: PerRecordLoss = engine.loss
    with torch.enable_grad():
        losses = loss(engine.model, batch)
        total = losses.sum() if weights is None else (losses * weights.to(losses)).sum()
        torch.autograd.backward(total)  # not `grad`, which reentrant checkpoints do not support
    found = {}
    for name, parameter in engine.parameters.items():
        found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = None
    return found


def _loop_error(raw: _Gradients, singles: Sequence[_Gradients]) -> float:
    rows = [{name: grads[b] for name, grads in raw.items()} for b in range(len(singles))]
    return _error(rows, singles)


def _error(got: Sequence[_Gradients], expected: Sequence[_Gradients]) -> float:
    """Return max |G - ref| / max(|ref|, 1e-3 |whole ref|) over parameters and records."""
    worst = 0.0
    for one, ref in zip(got, expected, strict=True):
        whole = torch.stack([grad.double().norm() for grad in ref.values()]).norm()
        for name, grad in ref.items():
            gap = (one.get(name, torch.zeros_like(grad)).double() - grad.double()).norm()
            error = gap / torch.maximum(grad.double().norm(), 1e-3 * whole)
            worst = max(worst, float(error)) if torch.isfinite(error) else float("nan")
            if worst != worst:  # noqa: PLR0124 - NaN: no comparison may pass from here on
                return worst
    return worst


def _checks_of_users(
    gradients: RecordGradients, singles: Sequence[_Gradients], tolerance: float | None
) -> list[Check]:
    """Check the joint gradient of all records as one user; nothing without a tolerance."""
    if tolerance is None:
        return []
    device = next(iter(singles[0].values())).device
    joint = gradients.joined(Grouping.of([len(singles)], device))
    sums = {name: sum(one[name] for one in singles) for name in singles[0]}
    got = {name: grads[0] for name, grads in joint.instantiated().items()}
    expected: _Gradients = {name: torch.as_tensor(total) for name, total in sums.items()}
    norm = torch.stack([total.double().norm() for total in expected.values()]).norm().unsqueeze(0)
    used = joint.raw_norms()
    return [
        Check("a user's joint gradient equals a loop", _error([got], [expected]), tolerance),
        Check("norm of a user / norm by the form used", _largest_ratio(norm, used), 1 + tolerance),
        Check("norm of a user by the form used / norm", _largest_ratio(used, norm), _OVERSTATED),
    ]


def _unreached(engine: Engine, singles: Sequence[_Gradients]) -> list[str]:
    return [name for name in engine.parameters if all(not bool(one[name].any()) for one in singles)]


def _largest(engine: Engine, raw: _Gradients, privacy: Privacy) -> float:
    largest = 0.0
    for scale in (1.0, 1e6):
        for record in range(len(next(iter(raw.values())))):
            total = ClippedSum(engine.parameters, privacy.clipping, privacy.clip_norm)
            one = {name: scale * grads[record : record + 1] for name, grads in raw.items()}
            total.add(RecordGradients.of(one))
            norms = [part.double().norm() for part in total.raw_sums.values()]
            largest = max(largest, float(torch.stack(norms).norm()) / privacy.clip_norm)
    return largest


def _largest_ratio(one: torch.Tensor | None, other: torch.Tensor | None) -> float:
    """Return the largest ratio of two norms [B] over the records; equal ones count as one."""
    if one is None or other is None:
        return math.inf  # nothing was reached
    return float(torch.where(one == other, 1.0, one.double() / other.double()).max())


def _sums(model: torch.nn.Module) -> dict[str, float]:
    """Return a sum of every frozen parameter: writes past autograd's count of them show there."""
    return {
        name: sum(_sum(part.detach()) for part in stored_parts(parameter))
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad
    }


def _sum(values: torch.Tensor) -> float:
    if values.is_complex():
        values = torch.view_as_real(values)
    if values.itemsize == 1:  # also of eight-bit floats, which torch cannot add up
        values = values.view(torch.uint8)
    return float(values.nan_to_num().sum(dtype=torch.float64))


def _tolerance(engine: Engine) -> float:
    return max(_TOLERANCE.get(dtype, _LOW_PRECISION) for dtype in engine.precisions)
