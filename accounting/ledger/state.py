"""What the entries of a ledger mean: the state after reading them in order.

Nothing but the entries is ever stored, so there is no state in the file that could disagree with
them. An entry that cannot stand where it stands is refused, on writing as on reading.
"""

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dpft.accounting.errors import DpftError, LedgerError
from dpft.accounting.ledger.budget import Budget, Plans
from dpft.accounting.ledger.chain import START, Entry, Head
from dpft.accounting.ledger.lease import Lease, Reservation, Use
from dpft.accounting.ledger.privacy_filter import FORMER_ORDERS
from dpft.accounting.mechanisms import mechanism_from_json
from dpft.accounting.overlap import maximal_cliques

__all__ = ["Commitment", "State", "fields_of"]


class _MisplacedError(Exception):
    """An entry says what cannot follow; the message is the rule it breaks."""


class Commitment(NamedTuple):
    """What the chain says of a set of digests that is kept beside it.

    Args:
        key_id: Public name of the key of the digests.
        salted_hash: SHA-256 of salt and digests.
    """

    key_id: str
    salted_hash: str


@dataclasses.dataclass
class State:
    """A ledger after some of its entries.

    Args:
        head: The last of them.
        ledger_id: Random name of the ledger.
        leases: Runs and releases, by name.
        budgets: Budgets, by data set.
        rules: Public rules that make two data sets disjoint.
        overlaps: Pairs of data sets that were found to share records.
        keys: Names of the keys under which the records of a data set were digested; None among
            them if some never were.
        commitments: What the chain says of digests, by entry and data set.
        versions: How often something changed that matters to the budget of a data set.
        begun: Entry with the first output on a data set, if there was any.
        fixed_since: Entry since which all plans on a data set are declared fixed.

    Privacy:
        Public numbers and names. That two data sets share records is in it, how many is not.
    """

    head: Head = START
    ledger_id: str = ""
    leases: dict[str, Lease] = dataclasses.field(default_factory=dict)
    budgets: dict[str, Budget] = dataclasses.field(default_factory=dict)
    rules: dict[frozenset[str], str] = dataclasses.field(default_factory=dict)
    overlaps: set[frozenset[str]] = dataclasses.field(default_factory=set)
    keys: dict[str, frozenset[str | None]] = dataclasses.field(default_factory=dict)
    commitments: dict[tuple[int, str], Commitment] = dataclasses.field(default_factory=dict)
    versions: Counter[str] = dataclasses.field(default_factory=Counter)
    begun: dict[str, int] = dataclasses.field(default_factory=dict)
    fixed_since: dict[str, int] = dataclasses.field(default_factory=dict)

    def copy(self) -> "State":
        """Return a state of its own, to see what an entry would do.

        Privacy:
            Nothing, no data touched.
        """
        return dataclasses.replace(
            self,
            **{
                field.name: copy.copy(getattr(self, field.name))
                for field in dataclasses.fields(self)
            },
        )

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets that were used or have a budget, sorted."""
        return sorted({*self.keys, *self.budgets})

    def apply(self, entry: Entry) -> None:
        """Take in the next entry.

        Args:
            entry: It must follow the head.

        Raises:
            LedgerError: If it does not, or what it says cannot follow; the state is then of no
                use any more.

        Privacy:
            Nothing, no data touched. An entry edited anywhere no longer follows
            (`tests/accounting/ledger/test_tampering.py`).
        """
        if not entry.follows(self.head):
            raise LedgerError(_broken(entry, "follow the one before, hash and all"))
        handle = _HANDLERS.get(entry.kind)
        if handle is None or (entry.kind == "ledger") != (entry.seq == 1):
            raise LedgerError(_broken(entry, "be known, with the ledger's own as the first"))
        try:
            handle(self, entry.fields)
        except _MisplacedError as error:
            raise LedgerError(_broken(entry, str(error))) from error
        except _UNREADABLE as error:
            reason = str(error) if isinstance(error, DpftError) else type(error).__name__
            raise LedgerError(_broken(entry, f"be whole ({reason})")) from error
        self.head = entry.head

    def lease(self, run_id: str) -> Lease:
        """Return a lease by the name of its run.

        Raises:
            LedgerError: If there is none.

        Privacy:
            Nothing, no data touched.
        """
        if run_id not in self.leases:
            raise LedgerError(
                f"Expected run={run_id} to be reserved in this ledger. What was never reserved "
                "may exceed the budget. Name the ledger that the run was started with."
            )
        return self.leases[run_id]

    def overlap(self, one: str, other: str) -> bool:
        """Return whether two data sets must be taken to share records.

        Args:
            one: Name of a data set.
            other: Name of a data set.

        Returns:
            True for one and the same, or if shared records were found, or if the records of one
            were never digested under the key of the other; False under a public rule.

        Privacy:
            Nothing, no data touched. What cannot be compared counts as shared
            (`test_data_sets_that_cannot_be_compared_share_a_budget`).
        """
        pair = frozenset((one, other))
        if one == other:
            return True
        if pair in self.rules:
            return False
        return pair in self.overlaps or not self._comparable(one, other)

    def neighbours(self, dataset: str) -> list[str]:
        """Return the used data sets that one overlaps with, itself included, sorted.

        Privacy:
            Nothing, no data touched.
        """
        return sorted(name for name in {*self.keys, dataset} if self.overlap(name, dataset))

    def cliques(self, dataset: str) -> list[tuple[str, ...]]:
        """Return the sets of data sets that one record of this one may lie in together.

        Privacy:
            Nothing, no data touched.
        """
        return list(maximal_cliques(self.neighbours(dataset), self.overlap))

    def are_fixed(self, datasets: Sequence[str]) -> bool:
        """Return whether all plans on some data sets were fixed before the first output on any.

        Args:
            datasets: Names of data sets that one record may lie in together.

        Privacy:
            Nothing, no data touched. A plan on one of them may follow from outputs on another
            (`test_plans_declared_after_an_output_count_as_adaptive`).
        """
        first = min((self.begun.get(name, math.inf) for name in datasets), default=math.inf)
        return all(self.fixed_since.get(name, math.inf) < first for name in datasets)

    def budget_among(self, dataset: str, datasets: Sequence[str]) -> Budget | None:
        """Return the budget of a data set, as it governs what is charged to several together.

        Args:
            dataset: Name of the data set.
            datasets: Names of data sets that one record may lie in together.

        Returns:
            Plans that were not all fixed before the first output count as adaptive; None without
            a budget.

        Privacy:
            As `are_fixed`.
        """
        budget = self.budgets.get(dataset)
        if budget is None or self.are_fixed(datasets):
            return budget
        return dataclasses.replace(budget, plans=Plans.ADAPTIVE)

    def leases_on(self, datasets: Iterable[str]) -> list[tuple[Lease, str]]:
        """Return the leases on some data sets, each with the data set it is on.

        Privacy:
            Nothing, no data touched.
        """
        wanted = set(datasets)
        return [
            (lease, dataset)
            for lease in self.leases.values()
            for dataset in lease.datasets
            if dataset in wanted
        ]

    def _comparable(self, one: str, other: str) -> bool:
        keys = self.keys.get(one, frozenset())
        return len(keys) == 1 and None not in keys and keys == self.keys.get(other)


def fields_of(reservation: Reservation) -> dict[str, Any]:
    """Return a reservation as JSON values, without its digests.

    Args:
        reservation: What is to be reserved.

    Returns:
        What an entry holds of it.

    Privacy:
        Public numbers and names.
    """
    return {
        "run_id": reservation.run_id,
        "steps": reservation.steps,
        "stop_rule": reservation.stop_rule,
        "uses": [
            {
                "dataset": use.dataset,
                "mechanism": None if use.mechanism is None else use.mechanism.to_json(),
                "key": None if use.records is None else use.records.key_id,
            }
            for use in reservation.uses
        ],
    }


def _ledger(state: State, fields: Mapping[str, Any]) -> None:
    state.ledger_id = str(fields["ledger_id"])


def _reserve(state: State, fields: Mapping[str, Any]) -> None:
    lease = _read_lease(fields)
    if lease.run_id in state.leases:
        raise _MisplacedError(f"be of a new run, not of {lease.run_id} again")
    state.leases[lease.run_id] = lease
    for use in fields["uses"]:
        key, name = use["key"], _name(use["dataset"])
        state.keys[name] = state.keys.get(name, frozenset()) | {key}
    for name, salted_hash in fields["commitments"].items():
        (key,) = (use["key"] for use in fields["uses"] if use["dataset"] == name)
        state.commitments[state.head.seq + 1, name] = Commitment(key, salted_hash)
    pairs = {frozenset(map(_name, pair)) for pair in fields["overlaps"]}
    state.overlaps |= pairs
    state.versions.update((*lease.datasets, *(name for pair in pairs for name in pair)))


def _release(state: State, fields: Mapping[str, Any]) -> None:
    """Take in what is over at once: charged in full, with nothing to give back."""
    _reserve(state, fields)
    lease = state.leases[fields["run_id"]]
    _note_output(state, lease)
    _put(state, dataclasses.replace(lease, intended=lease.steps, is_settled=True))


def _attach(state: State, fields: Mapping[str, Any]) -> None:
    lease = _open(state, fields)
    token = fields["token"]
    if token != lease.token + 1:
        raise _MisplacedError(f"carry token {lease.token + 1}, not {token}")
    _put(state, dataclasses.replace(lease, token=token))


def _intend(state: State, fields: Mapping[str, Any]) -> None:
    lease = _open(state, fields)
    _refuse_stale(lease, fields["token"])
    upto = fields["upto"]
    if not isinstance(upto, int) or not lease.intended < upto <= lease.steps:
        raise LedgerError(
            f"Expected upto={upto} of run={lease.run_id} to follow {lease.intended} of "
            f"{lease.steps} steps. Steps are charged once and in order. Start a new run."
        )
    _note_output(state, lease)
    _put(state, dataclasses.replace(lease, intended=upto))


def _settle(state: State, fields: Mapping[str, Any]) -> None:
    lease = _open(state, fields)
    if fields["token"] is not None:
        _refuse_stale(lease, fields["token"])
    if fields["intended"] != lease.intended:
        raise _MisplacedError(f"settle at {lease.intended} steps")
    reason = fields.get("cancelled")
    if reason is not None:
        _refuse_begun(lease, reason)
        lease = dataclasses.replace(lease, stop_rule=reason)
    _put(state, dataclasses.replace(lease, is_settled=True))
    state.versions.update(lease.datasets)


def _budget(state: State, fields: Mapping[str, Any]) -> None:
    values = {name: fields[name] for name in ("epsilon", "delta", "plans")}
    budget = Budget(**values, orders=tuple(fields.get("orders", FORMER_ORDERS)))
    name = _name(fields["dataset"])
    state.budgets[name] = budget
    if budget.plans is Plans.FIXED:
        state.fixed_since.setdefault(name, state.head.seq + 1)
    else:
        state.fixed_since.pop(name, None)
    state.versions.update((name,))


def _disjoint(state: State, fields: Mapping[str, Any]) -> None:
    one, other = map(_name, fields["datasets"])
    if one == other or not fields["rule"]:
        raise _MisplacedError("state a rule for two data sets")
    state.rules[frozenset((one, other))] = fields["rule"]
    state.versions.update((one, other))


# What a stranger's entry can raise on its way through the rules: all of it says "not whole".
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_HANDLERS: dict[str, Callable[[State, Mapping[str, Any]], None]] = {
    "attach": _attach,
    "budget": _budget,
    "disjoint": _disjoint,
    "intend": _intend,
    "ledger": _ledger,
    "release": _release,
    "reserve": _reserve,
    "settle": _settle,
}


def _read_lease(fields: Mapping[str, Any]) -> Lease:
    uses = tuple(
        Use(
            dataset=use["dataset"],
            mechanism=None if use["mechanism"] is None else mechanism_from_json(use["mechanism"]),
        )
        for use in fields["uses"]
    )
    checked = Reservation(
        run_id=fields["run_id"], uses=uses, steps=fields["steps"], stop_rule=fields["stop_rule"]
    )
    return Lease(run_id=checked.run_id, uses=uses, steps=checked.steps, stop_rule=checked.stop_rule)


def _put(state: State, lease: Lease) -> None:
    state.leases[lease.run_id] = lease


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise _MisplacedError("name data sets by texts")
    return value


def _note_output(state: State, lease: Lease) -> None:
    for name in lease.datasets:
        state.begun.setdefault(name, state.head.seq + 1)


def _open(state: State, fields: Mapping[str, Any]) -> Lease:
    lease = state.lease(fields["run_id"])
    if lease.is_settled:
        raise LedgerError(
            f"Expected run={lease.run_id} to be open in the ledger, but it is settled: what it "
            "never began was given back, and may be spent. Start a new run."
        )
    return lease


def _refuse_stale(lease: Lease, token: object) -> None:
    if token != lease.token or not lease.token:
        raise LedgerError(
            f"Expected token={token} of run={lease.run_id} to be {lease.token}. Another process "
            "continues the run, and both would spend its budget. End this one."
        )


def _refuse_begun(lease: Lease, reason: object) -> None:
    if lease.token or not isinstance(reason, str) or not reason.strip():
        raise LedgerError(
            f"Expected run={lease.run_id} to be cancelled for a stated reason before a process "
            "took it up. Afterwards what ends it may follow from records. Settle it instead."
        )


def _broken(entry: Entry, rule: str) -> str:
    return (
        f"Expected entry {entry.seq} ({entry.kind}) of the ledger to {rule}. What was charged is "
        "then not known. Restore the ledger from a copy, and run dpft ledger verify."
    )
