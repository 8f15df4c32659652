"""Merges, and writes the result: one place of the model is held at a time."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from dpft.accounting.publication import Publication
from dpft.recipes.merging.bases import base_of_run, is_told_by_run
from dpft.recipes.merging.card import card
from dpft.recipes.merging.planning import Plan, cut_of, dtype_of, options_of, plan
from dpft.recipes.merging.request import Request
from dpft.recipes.merging.summary import Summary
from dpft.taskvectors import Reading, TaskVector, Uncertified, merge
from dpft.taskvectors.bases import BaseIdentity, refuse_other_base
from dpft.taskvectors.cutting import CutParts
from dpft.taskvectors.storing import Draft, refuse_existing, shapes_of, store_draft
from dpft.taskvectors.streaming import identity_of_folder

__all__ = ["carry_out"]


def carry_out(request: Request, folder: Path) -> Summary:
    """Merge, and write the result into a new folder.

    Args:
        request: What is to be merged.
        folder: A new folder.

    Returns:
        What was written.

    Raises:
        ConfigurationError: If the request cannot be met exactly, or the folder exists.
        BrokenGuaranteeError: If a certificate is missing or of other tensors, or runs share noise.

    Privacy:
        Released weights and public numbers; the certificate is the union of the runs
        (`test_the_certificate_of_a_merge_is_the_union`).
    """
    refuse_existing(folder)
    cut, options = cut_of(request), options_of(request)
    merged = merge([_loaded(request, name) for name in request.names], request.method, options)
    delta = merged.delta
    assert merged.certificate is not None, "the empty vector has no delta"
    assert merged.base is not None, "nor a base"
    if request.base is not None:
        refuse_other_base(_base(request.base, merged.base), merged.base)
    planned = plan(request, merged.certificate, merged.base, shapes_of(delta))
    cuts = None if cut is None else CutParts(delta, cut)
    if cuts is not None:
        delta = dataclasses.replace(delta, parts=cuts, frozen_seed=None)
    work = _Work(planned, cuts)
    store_draft(
        Draft(
            terms=merged.terms,
            delta=delta,
            shapes=planned.shapes,
            certificate=merged.certificate,
            dtype=dtype_of(request),
            made_by=work.made_by,
            readme=work.readme,
        ),
        folder,
    )
    return work.summary


class _Work:
    """What is told of a merge while it is written: errors are known once matrices were cut."""

    def __init__(self, planned: Plan, cuts: CutParts | None) -> None:
        self._planned, self._cuts = planned, cuts
        self.summary = planned.summary()

    def made_by(self) -> Mapping[str, object]:
        """Return method, parameters and errors, after the tensors were written."""
        self.summary = self._planned.summary(self._cuts)
        kept = ("expression", "method", "parameters", "exact", "error", "errors")
        return {name: getattr(self.summary, name) for name in kept}

    def readme(self, publication: Publication) -> str:
        """Return the text of the model card."""
        return card(self.summary, publication, self._planned.config)


def _loaded(request: Request, name: str) -> TaskVector:
    folder = request.folders[name]
    told = is_told_by_run(folder) and not request.without_heads
    options = Reading(
        on_uncertified=Uncertified(request.on_uncertified.value),
        base=base_of_run(folder) if told else None,
    )
    vector = TaskVector.load(folder, options=options)
    return vector.without_heads() if request.without_heads else vector


def _base(name: str, found: BaseIdentity) -> BaseIdentity:
    """Return what identifies the base model that was named; a folder is read for its digest."""
    if found.digest is not None and Path(name).is_dir():
        return identity_of_folder(name)
    return BaseIdentity(name, None)
