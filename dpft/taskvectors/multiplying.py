"""Products of deltas: one (IA)³ after another."""

import dataclasses

from dpft.adapters.algebra import Delta, Family, Offset, Part
from dpft.adapters.algebra.ia3 import composed
from dpft.errors import ConfigurationError

__all__ = ["product"]


def product(one: Delta, other: Delta, power: float) -> Delta:
    """Return one delta followed by a power of another.

    Args:
        one: Of (IA)³, without heads.
        other: Likewise.
        power: Exponent of the other's factors; -1 undoes it.

    Returns:
        The delta of the products.

    Raises:
        ConfigurationError: If the kind has no product, there are heads, or a factor is not
            positive.

    Privacy:
        Nothing, no data touched: released weights.
    """
    if one.family is not Family.SCALING or one.heads or other.heads:
        raise ConfigurationError(
            f"Expected family={one.family.value} to be scaling, without heads. Only factors have a "
            "product. Add the vectors with +, or leave the heads out by without_heads()."
        )
    places = sorted({*one.parts, *other.parts})
    parts: dict[str, Part] = {}
    for place in places:
        terms = [(1.0, one.parts.get(place)), (power, other.parts.get(place))]
        given = [(weight, part) for weight, part in terms if isinstance(part, Offset)]
        parts[place] = composed(given)
    return dataclasses.replace(one, parts=parts)
