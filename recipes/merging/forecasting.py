"""A merge without its tensors: every check that headers and certificates allow."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from dpft.adapters.algebra import Delta, Part
from dpft.recipes.merging.bases import is_told_by_run, labels_of_run
from dpft.recipes.merging.planning import SUMS, cut_of, options_of, plan
from dpft.recipes.merging.request import Request
from dpft.recipes.merging.summary import Summary
from dpft.taskvectors import MergeOptions, TaskVector, Uncertified
from dpft.taskvectors.bases import BaseIdentity, refuse_other_base
from dpft.taskvectors.certification import composed
from dpft.taskvectors.checks import refuse_unfit
from dpft.taskvectors.coefficients import exact
from dpft.taskvectors.leaf import Leaf
from dpft.taskvectors.materialising import materialised
from dpft.taskvectors.merging.coordinates import coordinates
from dpft.taskvectors.merging.denoising import refuse_undenoisable
from dpft.taskvectors.merging.merge import check_data
from dpft.taskvectors.merging.noise import noise_levels
from dpft.taskvectors.merging.noise_weighting import precision_weights
from dpft.taskvectors.merging.registry import find
from dpft.taskvectors.sketching import Hints, as_if_equal, sketch
from dpft.taskvectors.storing import refuse_existing, shapes_of
from dpft.taskvectors.terms import Term, collected

__all__ = ["forecast"]

_UNREAD = (
    "Not known before tensors are read: whether they are those of their certificates, whether runs "
    "share noise, whether starts of heads and prompts are equal, whether a folder given as base "
    "is that of a digest."
)
_BOUNDS = "Ranks and sizes are upper bounds: the tolerance decides when matrices are cut."


def forecast(request: Request, folder: Path) -> Summary:
    """Check everything that can be checked before a tensor is read.

    Args:
        request: What is to be merged.
        folder: Where the result would go.

    Returns:
        What would be written.

    Raises:
        ConfigurationError: If the request cannot be met exactly, or the folder exists.
        BrokenGuaranteeError: If a certificate is missing or damaged, or another one is named.

    Privacy:
        Nothing, no data touched: headers of released tensors and public numbers
        (`test_a_dry_run_reads_no_tensor`).
    """
    refuse_existing(folder)
    cut_of(request)
    options = options_of(request)
    check_data(find(request.method), None)
    leaves = _one_of_each([_leaf(request, name) for name in request.names])
    terms = _terms(request.method, leaves, options)
    with as_if_equal():
        _refuse_unfit(leaves)
        _check_method(request.method, leaves, options)
        shapes = shapes_of(_merged(request.method, terms))
    if request.base is not None:
        _refuse_base(request.base, leaves[0].base)
    certificate = composed(term.leaf.certificate for term in terms)
    assert certificate is not None, "a term is left"
    notes = (_UNREAD,) if request.tolerance is None else (_UNREAD, _BOUNDS)
    return plan(request, certificate, leaves[0].base, shapes).summary(notes=notes)


def _leaf(request: Request, name: str) -> Leaf:
    folder = request.folders[name]
    told = is_told_by_run(folder) and not request.without_heads
    hints = Hints(
        on_uncertified=Uncertified(request.on_uncertified.value),
        starts_known=told,
        labels=labels_of_run(folder) if told else None,
    )
    leaf = sketch(folder, hints)
    if not request.without_heads:
        return leaf
    parts = {p: part for p, part in leaf.delta.parts.items() if p not in leaf.delta.heads}
    delta = dataclasses.replace(leaf.delta, parts=parts, heads=frozenset())
    return dataclasses.replace(leaf, delta=delta)


def _one_of_each(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Return the first of equal leaves for each: tensors of copies are taken to be equal."""
    return [next(each for each in leaves if each == leaf) for leaf in leaves]


def _refuse_unfit(leaves: Sequence[Leaf]) -> None:
    for number, leaf in enumerate(leaves):
        if leaf not in leaves[:number]:
            refuse_unfit(leaves[:number], [leaf])


def _refuse_base(base: str, found: BaseIdentity) -> None:
    """Compare names; a digest is only known once the base model was read."""
    if found.digest is None or not Path(base).is_dir():
        refuse_other_base(BaseIdentity(base, None), found)


def _terms(method: str, leaves: Sequence[Leaf], options: MergeOptions) -> tuple[Term, ...]:
    """Return what stays behind the result: sums cancel, other methods look at every adapter."""
    if method not in SUMS:
        return tuple(Term(leaf, exact(1)) for leaf in leaves)
    weights = options.weights_of(len(leaves))
    scaling = exact(options.scaling_coef)
    pairs = zip(leaves, weights, strict=True)
    return collected(Term(leaf, scaling * exact(weight)) for leaf, weight in pairs)


def _check_method(method: str, leaves: Sequence[Leaf], options: MergeOptions) -> None:
    vectors = [TaskVector((Term(leaf, exact(1)),)) for leaf in leaves]
    if method == "noise_weighted":
        precision_weights(vectors, options)
    if method == "denoised":
        refuse_undenoisable(vectors, options)
        noise_levels(vectors, options)


def _merged(method: str, terms: Sequence[Term]) -> Delta:
    total = materialised(terms)
    if method in SUMS:
        return total
    parts = [term.leaf.delta.parts for term in terms]
    made: dict[str, Part] = {}
    for place in total.parts:
        here = coordinates([each.get(place) for each in parts])
        made[place] = here.rebuild(here.moved[0])
    return dataclasses.replace(total, parts=made)
