"""What two neighbouring data sets differ in: the relation, and the unit it speaks of."""

from enum import Enum

__all__ = ["Adjacency", "Unit"]


class Adjacency(str, Enum):
    """Which pairs of data sets are neighbours, for one unit (a record, or a user).

    `add_or_remove`: one unit is there or not. `zero_out`: one unit's contribution is replaced by
    zero, the number of units is public. `replace_one`: one unit is exchanged for any other.
    """

    ADD_OR_REMOVE = "add_or_remove"
    ZERO_OUT = "zero_out"
    REPLACE_ONE = "replace_one"


class Unit(str, Enum):
    """Whose data a guarantee covers: one `record`, or everything one `user` contributed."""

    RECORD = "record"
    USER = "user"
