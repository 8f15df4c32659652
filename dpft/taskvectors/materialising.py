"""From a linear form to the delta that it stands for, one place at a time."""

from collections.abc import Iterator, Mapping, Sequence

from dpft.adapters.algebra import Delta, Part, combine
from dpft.errors import ConfigurationError
from dpft.taskvectors.coefficients import rounded
from dpft.taskvectors.terms import Term

__all__ = ["materialised"]


def materialised(terms: Sequence[Term]) -> Delta:
    """Return the weighted sum of deltas.

    Args:
        terms: At least one, checked to have a common sum.

    Returns:
        The delta; its parts are computed when they are asked for. A single term of coefficient 1
        is the leaf's own delta, bit for bit.

    Raises:
        ConfigurationError: If there is no term: the empty vector has no kind.

    Privacy:
        Nothing, no data touched: released weights.
    """
    if not terms:
        raise ConfigurationError(
            "Expected at least one term. The empty vector changes nothing and has no kind. Use the "
            "base model as it is."
        )
    deltas = [term.leaf.delta for term in terms]
    if len(terms) == 1 and terms[0].coefficient == 1:
        return deltas[0]
    tasks = {delta.task_type for delta in deltas}
    seeds = {delta.frozen_seed for delta in deltas}
    return Delta(
        family=deltas[0].family,
        parts=_Sums(terms),
        heads=frozenset().union(*(delta.heads for delta in deltas)),
        settings=deltas[0].settings,
        labels=next((delta.labels for delta in deltas if delta.heads), deltas[0].labels),
        task_type=tasks.pop() if len(tasks) == 1 else None,
        frozen_seed=seeds.pop() if len(seeds) == 1 else None,
    )


class _Sums(Mapping[str, Part]):
    """Parts of a sum, computed one at a time and not kept."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = [(rounded(term.coefficient), term.leaf.delta.parts) for term in terms]
        self._places = sorted({place for term in terms for place in term.leaf.delta.parts})

    def __getitem__(self, place: str) -> Part:
        return combine(
            [(coefficient, parts[place]) for coefficient, parts in self._terms if place in parts]
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
