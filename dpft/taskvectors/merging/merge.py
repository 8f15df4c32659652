"""Merges vectors by a registered method, and holds it to what it was registered to look at."""

from collections.abc import Sequence

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.taskvectors.checks import refuse_unaddable
from dpft.taskvectors.merging.data import Data, Private, Public
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import DataAccess, MergeMethod, find
from dpft.taskvectors.vector import TaskVector

__all__ = ["merge"]

_AS_USUAL = MergeOptions()


def merge(
    vectors: Sequence[TaskVector],
    method: str = "linear",
    options: MergeOptions = _AS_USUAL,
    *,
    data: Data | None = None,
) -> TaskVector:
    """Make one vector of several.

    Args:
        vectors: At least one, none of them empty.
        method: Name of a method.
        options: Weights, density and the like.
        data: `Public(...)` or `Private(...)` for a method that looks at records, else None.

    Returns:
        The merged vector. Of one vector with weight 1 and default options, that vector.

    Raises:
        ConfigurationError: If the vectors have no common sum, the method is unknown, or data is
            missing, not asked for, or not declared public or private.
        BrokenGuaranteeError: If the method has no private form, or did not add its run.

    Privacy:
        Without data: post-processing, so the union of the runs of all vectors. With public data the
        same. With private data, one run more (`tests/dpft/taskvectors/merging/test_merge.py`).
    """
    found = find(method)
    _check_data(found, data)
    _check_vectors(vectors)
    merged = found.rule(vectors, options, data)
    _check_runs(vectors, merged, data)
    return merged


def _check_data(method: MergeMethod, data: object) -> None:
    needs = method.data_access is not DataAccess.NONE
    if not isinstance(data, Public | Private | None):
        raise TypeError(
            f"Expected data={type(data).__name__} to be Public(...) or Private(...). Whose records "
            "a method looks at decides what it costs. Say which."
        )
    if needs is (data is None):
        rule = "Public(...) or Private(...)" if needs else "None"
        raise ConfigurationError(
            f"Expected data to be {rule} for method={method.name}, whose access to data is "
            f"{method.data_access.value}. What it looks at decides the certificate. Correct it."
        )
    if isinstance(data, Private) and not method.has_private_form:
        raise BrokenGuaranteeError(
            f"Expected method={method.name} to have a private form. What it computes of private "
            "records would be released without noise. Give public records, or choose a method "
            "without access to data."
        )


def _check_vectors(vectors: Sequence[TaskVector]) -> None:
    if not vectors or any(vector.is_empty for vector in vectors):
        raise ConfigurationError(
            "Expected at least one vector, and none of them empty. There is nothing to merge. "
            "Leave empty vectors out."
        )
    seen = list(vectors[0].leaves)
    for vector in vectors[1:]:
        fresh = [leaf for leaf in vector.leaves if leaf not in seen]
        refuse_unaddable(seen, fresh)
        seen += fresh


def _check_runs(vectors: Sequence[TaskVector], merged: TaskVector, data: Data | None) -> None:
    """Check that a method that saw private records added a run of its own."""
    before = {run.run_id for vector in vectors for run in vector.runs}
    after = {run.run_id for run in merged.runs}
    if isinstance(data, Private) and not after - before:
        raise BrokenGuaranteeError(
            "Expected a run of the merge method itself in the certificate. It looked at private "
            "records. Return the vector with that release added."
        )
