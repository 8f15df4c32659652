"""What must agree before two deltas are added: base model, family, settings, labels, noise."""

from collections.abc import Sequence

from dpft.accounting.canonical_json import misfit
from dpft.adapters.algebra import Offset
from dpft.adapters.algebra.offset import refuse_other_starts
from dpft.errors import ConfigurationError
from dpft.taskvectors.bases import refuse_other_base
from dpft.taskvectors.certification import composed
from dpft.taskvectors.correlation import refuse_shared_noise
from dpft.taskvectors.leaf import Leaf

__all__ = ["refuse_unaddable", "refuse_unfit"]


def refuse_unaddable(these: Sequence[Leaf], those: Sequence[Leaf]) -> None:
    """Refuse leaves that have no common sum.

    Args:
        these: Leaves that were checked among each other.
        those: Others that were.

    Raises:
        ConfigurationError: If base, family, settings, labels, units or relations differ.
        BrokenGuaranteeError: If two runs may share their noise.

    Privacy:
        Nothing, no data touched: released weights and public numbers.
    """
    refuse_unfit(these, those)
    refuse_shared_noise(these, those)


def refuse_unfit(these: Sequence[Leaf], those: Sequence[Leaf]) -> None:
    """Refuse what can be refused before a tensor is read.

    Args:
        these: Leaves that were checked among each other.
        those: Others that were.

    Raises:
        ConfigurationError: If base, family, settings, labels, units or relations differ.

    Privacy:
        Nothing, no data touched.
    """
    if not these or not those:
        return
    one, other = these[0], those[0]
    refuse_other_base(one.base, other.base)
    _refuse_other_meaning(one, other)
    _refuse_other_heads([*these, *those])
    composed(leaf.certificate for leaf in (*these, *those))


def _refuse_other_meaning(one: Leaf, other: Leaf) -> None:
    first, second = one.delta, other.delta
    if first.family is not second.family:
        raise ConfigurationError(
            f"Expected family={first.family.value} and {second.family.value} to be one. There is "
            "no exact sum of these kinds of adapters, and none is guessed. Apply them one after "
            "the other."
        )
    for name in sorted({*first.settings, *second.settings}):
        value, rule = second.settings.get(name), first.settings.get(name)
        if value != rule:
            raise ConfigurationError(misfit(name, value, f"{rule}, as in the other delta"))


def _refuse_other_heads(leaves: Sequence[Leaf]) -> None:
    headed = [leaf for leaf in leaves if leaf.delta.heads]
    if len(headed) < 2:
        return
    labels = {leaf.delta.labels for leaf in headed}
    if len(labels) > 1 or None in labels:
        raise ConfigurationError(
            "Expected labels of all heads to be the same, by name and order. A sum of heads of "
            "different labels means nothing. Name the labels in config.id2label if they are the "
            "same, or leave the heads out by without_heads()."
        )
    for place in sorted(set.intersection(*(set(leaf.delta.heads) for leaf in headed))):
        parts = [leaf.delta.parts[place] for leaf in headed]
        moved = [part for part in parts if isinstance(part, Offset)]
        if moved:
            refuse_other_starts(moved)
