"""Merges vectors by a registered method, and holds it to what it was registered to look at."""

from collections.abc import Sequence

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.taskvectors.checks import refuse_unaddable
from dpft.taskvectors.merging.charging import merged_privately
from dpft.taskvectors.merging.data import Data, Private, Public
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import DataAccess, MergeMethod, find
from dpft.taskvectors.vector import TaskVector

__all__ = ["check_data", "merge"]

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
        BrokenGuaranteeError: If the method has no private form, or would spend more than allowed.
        BudgetError: If the budget of private data would be exceeded; then no record is looked at.

    Privacy:
        Without data: post-processing, so the union of the runs of all vectors. With public data the
        same. With private data one run more, charged in the ledger before the method sees them
        (`tests/dpft/taskvectors/merging/test_charging.py`).
    """
    found = find(method)
    check_data(found, data)
    _check_vectors(vectors)
    if isinstance(data, Private):
        return merged_privately(found, vectors, options, data)
    return found.rule(vectors, options, data)


def check_data(method: MergeMethod, data: object) -> None:
    """Refuse data that a method was not registered to look at, and their absence.

    Args:
        method: The method.
        data: `Public(...)`, `Private(...)` or None.

    Raises:
        TypeError: If they are not declared public or private.
        ConfigurationError: If they are missing, or not asked for.
        BrokenGuaranteeError: If the method has no private form.

    Privacy:
        Nothing, no data touched.
    """
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
    if isinstance(data, Private) and method.private_form is None:
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
