"""Who computes weighted sums in the exactness table: this library, and peft's own merging.

Sums are made in the type that is stated; what was made then runs in float64, so that an error is
one of the arithmetic and not of the forward pass.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from benchmarks.taskvector_cases import FULL, Trained
from benchmarks.taskvector_models import Probe, outputs_of
from benchmarks.taskvector_references import Changes, changes_in
from dpft.taskvectors import Reading, TaskVector, Uncertified

__all__ = [
    "PEFT_SUMS",
    "Contender",
    "Made",
    "PeftSum",
    "ours",
    "peft_sums",
    "refusal",
    "vectors_of",
]

_ADAPTER = "default"
_ANY = "any"
_LONGEST = 90  # characters of a reason
_NOT_THERE = (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """A sum that somebody made.

    Args:
        outputs: On the probe, in float64.
        changes: What it adds to the weights; None where it is no change of weights.

    Privacy:
        Nothing, no data touched.
    """

    outputs: torch.Tensor
    changes: Changes | None


Contender = Callable[[Mapping[str, float]], Made | str]
"""From coefficients to the sum, or to why there is none."""


def vectors_of(made: Trained, dtype: torch.dtype) -> dict[str, TaskVector]:
    """Return a row's adapters as vectors.

    Args:
        made: The row's models.
        dtype: Of all tensors.

    Raises:
        ConfigurationError: If the kind is refused.

    Privacy:
        Nothing, no data touched: random adapters, marked as uncertified.
    """
    base = copy.deepcopy(made.base).to(dtype)
    vectors = {}
    for name, model in made.models.items():
        start = {key: rows.to(dtype) for key, rows in made.starts[name].items()}
        options = Reading(base=base, start=start, on_uncertified=Uncertified.MARK)
        cast = copy.deepcopy(model).to(dtype)
        if made.case.method == FULL:
            vectors[name] = TaskVector.from_models(base, cast, options=options)
        else:
            vectors[name] = TaskVector.from_peft(cast, options=options)
    return vectors


def ours(made: Trained, probe: Probe, dtype: torch.dtype, *, merged: bool = False) -> Contender:
    """Return this library's outputs.

    Args:
        made: The row's models.
        probe: The batch.
        dtype: Of adapters, base model and sums.
        merged: Whether the sum goes into the weights by `apply_to`, instead of an adapter.

    Raises:
        ConfigurationError: If the kind is refused.

    Privacy:
        Nothing, no data touched.
    """
    vectors = vectors_of(made, dtype)
    base = copy.deepcopy(made.base).to(dtype)

    def made_sum(weights: Mapping[str, float]) -> Made:
        total = sum(weight * vectors[name] for name, weight in weights.items())
        assert isinstance(total, TaskVector)
        whole = merged or made.case.method == FULL
        done = total.apply_to(base) if whole else total.to_peft(copy.deepcopy(base))
        return _seen(made, done.double(), probe)

    return made_sum


@dataclasses.dataclass(frozen=True)
class PeftSum:
    """How peft is asked to merge.

    Args:
        combination_type: Its name.
        whole_rank: Whether `svd_rank` is the sum of the ranks, instead of the default.
        density: Of those that drop entries, in (0, 1].

    Privacy:
        Nothing, no data touched.
    """

    combination_type: str
    _: dataclasses.KW_ONLY
    whole_rank: bool = False
    density: float | None = None

    @property
    def name(self) -> str:
        """As the table has it."""
        rank = ", rank = sum" if self.whole_rank else ""
        density = "" if self.density is None else f", density {self.density:g}"
        return f"{self.combination_type}{rank}{density}"


PEFT_SUMS = (
    PeftSum("cat"),
    PeftSum("svd", whole_rank=True),
    PeftSum("svd"),
    PeftSum("linear"),
)
"""What every row is tried with."""
_IA3 = PeftSum("sum of factors")  # the only one that peft has


def peft_sums(
    made: Trained,
    probe: Probe,
    operations: Mapping[str, Mapping[str, float]],
    ways: Sequence[PeftSum] = PEFT_SUMS,
) -> dict[str, dict[str, Made | str]]:
    """Return what peft's `add_weighted_adapter` makes of a row's adapters.

    Args:
        made: The row's models.
        probe: The batch.
        operations: Coefficients by name.
        ways: How it is asked.

    Returns:
        By way and operation.

    Privacy:
        Nothing, no data touched.
    """
    model = _together(made)
    if not isinstance(model, str) and not hasattr(model, "add_weighted_adapter"):
        model = "no add_weighted_adapter"
    if isinstance(model, str):
        return {_ANY: dict.fromkeys(operations, model)}
    tried = (_IA3,) if made.case.method == "ia3" else tuple(ways)
    merged = {
        (way.name, operation): _merge(model, way, weights, f"{number}_{index}")
        for number, way in enumerate(tried)
        for index, (operation, weights) in enumerate(operations.items())
    }
    model.double().eval()
    found: dict[str, dict[str, Made | str]] = {way.name: {} for way in tried}
    for (way_name, operation), done in merged.items():
        found[way_name][operation] = (
            _seen(made, model, probe, done.name) if isinstance(done, _Merged) else done
        )
    return found


def refusal(error: Exception) -> str:
    """Return the first sentence of an error, as the table has it.

    Args:
        error: What was raised.

    Privacy:
        Nothing, no data touched.
    """
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.partition('. ')[0][:_LONGEST]}"


@dataclasses.dataclass(frozen=True)
class _Merged:
    """Name of an adapter that peft made."""

    name: str


def _together(made: Trained) -> Any:
    """Return one model with all adapters, as peft holds several, or why there is none."""
    if made.case.method == FULL:
        return "no adapter"
    model: Any = None
    try:
        for name, single in made.models.items():
            config = copy.deepcopy(single.peft_config[_ADAPTER])
            if model is None:
                model = get_peft_model(copy.deepcopy(made.base), config, adapter_name=name)
            else:
                model.add_adapter(name, config)
            tensors = get_peft_model_state_dict(
                single, state_dict=single.state_dict(), save_embedding_layers=False
            )
            set_peft_model_state_dict(model, dict(tensors), adapter_name=name)
    except _NOT_THERE as error:
        return refusal(error)
    return model


def _merge(model: Any, way: PeftSum, weights: Mapping[str, float], name: str) -> _Merged | str:
    names, values = list(weights), list(weights.values())
    options: dict[str, Any] = {}
    if way is not _IA3:
        options["combination_type"] = way.combination_type
        if way.density is not None:
            options["density"] = way.density
        if way.whole_rank:
            options["svd_rank"] = sum(_largest_rank(model, each) for each in names)
    try:
        model.add_weighted_adapter(names, values, adapter_name=name, **options)
    except _NOT_THERE as error:
        return refusal(error)
    return _Merged(name)


def _largest_rank(model: Any, name: str) -> int:
    config = model.peft_config[name]
    return int(max([config.r, *(config.rank_pattern or {}).values()]))


def _seen(made: Trained, model: Any, probe: Probe, adapter: str = _ADAPTER) -> Made:
    if adapter != _ADAPTER:
        model.set_adapter(adapter)
    with torch.no_grad():
        outputs = outputs_of(model(**probe))
    beside = made.case.method in {"bottleneck", "compacter", "prompt", "prefix"}
    return Made(outputs, None if beside else changes_in(made.base, model, adapter))
