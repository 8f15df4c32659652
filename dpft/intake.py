"""Records as a run takes them in: whose they are, how many units there are, what a ledger digests.

No torch in here.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dpft.accounting import Unit
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.privacy import Privacy
from dpft.users import Users, charged_rows, first_of_each, owners_in

__all__ = ["Intake", "refuse_loaders", "taken_in", "users_of"]

_Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Intake:
    """Records that a run will use.

    Args:
        rows: The records, owners included; where a user has a largest number of them, no more.
        owners: Name of the owner of each, None where the unit is a record.
        count: Number of what is sampled: records, or users where these are sampled whole.
        charged: What a ledger digests.

    Privacy:
        Raw records. `count` is used only where nobody stated a number, and is then public.
    """

    rows: Sequence[_Row] = dataclasses.field(repr=False)
    owners: Sequence[str] | None = dataclasses.field(repr=False)
    count: int
    charged: Sequence[_Row] = dataclasses.field(repr=False)


def taken_in(records: Sequence[_Row], privacy: Privacy, user_field: str | None) -> Intake:
    """Find whose the records are, and leave out those beyond a user's largest number.

    Args:
        records: Records as mappings.
        privacy: Its `unit` says whether owners matter, its `records_per_user` how many of a user's
            records are kept.
        user_field: Field that names the owner; given exactly with unit=user.

    Returns:
        What the run uses.

    Raises:
        ConfigurationError: If the field is missing or superfluous, a record names nobody, or the
            records come in batches or one after the other.

    Privacy:
        Which of a user's records are kept depends on that user's records alone
        (`tests/dpft/test_users.py::test_what_is_kept_of_a_user_depends_on_nobody_else`).
    """
    refuse_loaders(records)
    if (user_field is None) != (privacy.covers is Unit.RECORD):
        raise ConfigurationError(
            f"Expected a column that names owners exactly with unit=user, got unit="
            f"{privacy.covers.value} and column={user_field}. A guarantee for users needs to know "
            "whose the records are, and one for records would mislead whoever names owners. Set "
            "both, or neither."
        )
    if user_field is None:
        return Intake(records, None, len(records), records)
    rows, owners = records, owners_in(records, user_field)
    if privacy.records_per_user is not None:
        kept = first_of_each(rows, owners, privacy.records_per_user)
        rows, owners = [rows[index] for index in kept], [owners[index] for index in kept]
    count = len(Users(owners)) if privacy.samples_users else len(rows)
    return Intake(rows, owners, count, charged_rows(rows, user_field))


def refuse_loaders(records: object) -> None:
    """Raise unless records can be counted and asked for by their number.

    Args:
        records: What was given as records.

    Raises:
        ConfigurationError: If it is a loader of batches, or an iterator.

    Privacy:
        Nothing, no data touched. A loader's own sampler, weighted or in a fixed order, has another
        epsilon than the Poisson sample that is accounted
        (`test_s4_s5_a_loader_with_its_own_sampler_is_refused`).
    """
    if hasattr(records, "__len__") and hasattr(records, "__getitem__"):
        return
    raise ConfigurationError(
        f"Expected records={type(records).__name__} to be a list or a data set with a length. "
        "Epsilon holds for Poisson samples drawn here: the sampler, order and batch size of a "
        "loader would be ignored. Give the data set itself."
    )


def users_of(
    privacy: Privacy, records: Sequence[_Row], owners: Sequence[str] | None
) -> Users | None:
    """Return whose the records are, None where the unit is a record.

    Args:
        privacy: Says whether owners matter, and how many records one of them may have.
        records: The records.
        owners: Owner of each, if they matter.

    Raises:
        ConfigurationError: If owners are missing, or given where nobody asks for them.
        BrokenGuaranteeError: If a user has more records than the guarantee counts with.

    Privacy:
        A record that belongs to nobody, or to a user of too many, is covered by no guarantee
        (`tests/dpft/test_user_step.py`).
    """
    if (owners is None) != (privacy.covers is Unit.RECORD):
        raise ConfigurationError(
            f"Expected owners of the records exactly with unit=user, got unit="
            f"{privacy.covers.value} {'without' if owners is None else 'with'} them. A guarantee "
            "for users needs to know whose the records are. Name their owners "
            "(EncodingSettings.user_field, task.group_by), or set unit=record."
        )
    if owners is None:
        return None
    names = owners_in([{"owner": owner} for owner in owners], "owner")
    if len(names) != len(records):
        raise ConfigurationError(
            "Expected one owner for each record. A record that belongs to nobody is covered by no "
            "guarantee. Give as many owners as records."
        )
    users = Users(names)
    most = privacy.records_per_user
    if most is not None and any(len(users.records_of(each)) > most for each in range(len(users))):
        raise BrokenGuaranteeError(
            f"Expected no user to have more than records_per_user={most} records. The noise covers "
            "so many of them. Keep the positions that dpft.users.first_of_each returns."
        )
    return users
