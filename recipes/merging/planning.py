"""What a merge will write, worked out from shapes and certificates alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dpft.accounting import Certificate
from dpft.adapters.algebra import Delta
from dpft.adapters.algebra.names import EMBEDDING_NAMES, LINEAR_NAMES
from dpft.errors import ConfigurationError
from dpft.recipes.merging.request import Request
from dpft.recipes.merging.summary import Summary
from dpft.taskvectors import MergeOptions
from dpft.taskvectors.bases import BaseIdentity
from dpft.taskvectors.cutting import Cut, CutParts, cut_shapes
from dpft.taskvectors.writing_groups import announced

__all__ = ["SUMS", "Plan", "cut_of", "dtype_of", "options_of", "plan"]

SUMS = ("linear", "noise_weighted")
"""Methods whose result is a weighted sum; the others make tensors of their own."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """What will be written.

    Args:
        request: What was asked for.
        certificate: The union of the runs.
        base: The model that the result belongs to.
        shapes: The result without content; ranks are upper bounds if a tolerance decides them.
        config: peft's configuration of it.
        ranks: Of its matrices.
        tensor_bytes: Bytes of its tensors.

    Privacy:
        Nothing, no data touched.
    """

    request: Request
    certificate: Certificate
    base: BaseIdentity
    shapes: Delta
    config: Any
    ranks: Sequence[int]
    tensor_bytes: int

    def summary(self, cuts: CutParts | None = None, notes: tuple[str, ...] = ()) -> Summary:
        """Return the plan in public words and numbers.

        Args:
            cuts: The matrices, after they were cut; None before, or if none are.
            notes: What is left to say.

        Privacy:
            Nothing, no data touched.
        """
        at = min(run.delta for run in self.certificate.runs)
        spent, binding = self.certificate.binding(at)
        ranks = self.ranks if cuts is None else list(cuts.ranks.values())
        base = self.base.published()
        return Summary(
            expression={n: str(self.request.coefficients[n]) for n in self.request.names},
            method=self.request.method,
            parameters=_parameters(self.request),
            family=self.shapes.family.value,
            base=base.name,
            base_digest=base.digest,
            epsilon=spent,
            delta=at,
            unit=self.certificate.unit.value,
            runs=tuple(run.run_id for run in self.certificate.runs),
            binding=tuple(run.run_id for run in binding),
            exact=self.request.method == "linear" and cut_of(self.request) is None,
            ranks=(min(ranks), max(ranks)) if ranks else None,
            modules=len(self.shapes.parts),
            tensor_bytes=self.tensor_bytes,
            error=None if cuts is None else cuts.error,
            errors={} if cuts is None else dict(sorted(cuts.errors.items())),
            notes=notes,
        )


def plan(request: Request, certificate: Certificate, base: BaseIdentity, shapes: Delta) -> Plan:
    """Work out what will be written.

    Args:
        request: What was asked for.
        certificate: The union of the runs.
        base: The model that the result belongs to.
        shapes: The merged delta without content, not cut yet.

    Returns:
        The plan.

    Raises:
        ConfigurationError: If the rank is larger than the exact one, or no adapter of peft holds
            the result.

    Privacy:
        Nothing, no data touched.
    """
    cut = cut_of(request)
    final = shapes if cut is None else cut_shapes(shapes, cut)
    what = announced(final)
    dtype = dtype_of(request)
    sizes = [each.numel() * _rounded_size(each, dtype) for each in what.shapes.values()]
    return Plan(
        request=request,
        certificate=certificate,
        base=base,
        shapes=final,
        config=what.config,
        ranks=[len(each) for name, each in what.shapes.items() if _holds_rank(name)],
        tensor_bytes=sum(sizes),
    )


def cut_of(request: Request) -> Cut | None:
    """Return how far the result is cut; None if not at all.

    Args:
        request: What was asked for.

    Raises:
        ConfigurationError: If rank and tolerance are both given, or one is out of range.

    Privacy:
        Nothing, no data touched.
    """
    if request.rank is None and request.tolerance is None:
        return None
    return Cut(request.rank, request.tolerance)


def options_of(request: Request) -> MergeOptions:
    """Return the options of the merge method.

    Args:
        request: What was asked for.

    Raises:
        ConfigurationError: If one is out of range.

    Privacy:
        Nothing, no data touched.
    """
    weights = [request.coefficients[name] for name in request.names]
    if request.noise_std and len(request.coefficients) != len(weights):
        raise ConfigurationError(
            "Expected no adapter to cancel where noise_std is stated. Which level belongs to which "
            "would not be known. Leave out what cancels."
        )
    return MergeOptions(
        # Fractions in a sum, so that a third is a third; others compute in floats.
        weights=tuple(weights if request.method == "linear" else map(float, weights)),  # type: ignore[arg-type]  # a fraction is a number
        density=request.density,
        scaling_coef=request.scaling,
        seed=request.seed,
        noise_std=tuple(request.noise_std) or None,
        normalize=request.normalize,
    )


def dtype_of(request: Request) -> torch.dtype | None:
    """Return the type that tensors are rounded to; None if they stay as they are.

    Args:
        request: What was asked for.

    Privacy:
        Nothing, no data touched.
    """
    found: torch.dtype | None = (
        None if request.dtype is None else getattr(torch, request.dtype.value)
    )
    return found


def _holds_rank(name: str) -> bool:
    return name.endswith((LINEAR_NAMES[0], EMBEDDING_NAMES[0]))


def _parameters(request: Request) -> Mapping[str, object]:
    fields = {
        "density": request.density,
        "lambda": request.scaling,
        "normalize": request.normalize,
        "seed": request.seed,
        "noise_std": list(request.noise_std),
    }
    read: Mapping[str, tuple[str, ...]] = {
        "linear": ("lambda", "normalize"),
        "noise_weighted": ("lambda", "normalize", "noise_std"),
    }
    kept = {name: fields[name] for name in read.get(request.method, tuple(fields))}
    after = {"rank": request.rank, "tolerance": request.tolerance}
    dtype = {"dtype": None if request.dtype is None else request.dtype.value}
    return kept | {name: each for name, each in (after | dtype).items() if each is not None}


def _rounded_size(shape: torch.Tensor, dtype: torch.dtype | None) -> int:
    rounds = dtype is not None and shape.is_floating_point()
    return dtype.itemsize if rounds and dtype is not None else shape.element_size()
