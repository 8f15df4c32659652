"""The ledger: what runs reserve, intend and settle on data sets with budgets.

    reserve   all steps of a run are charged, if no budget is exceeded
    attach    a process takes the run over; processes before it may not go on
    intend    some steps may be sampled from now on; durable before they are
    settle    no step follows; those never intended are given back where that is allowed

Epsilon is computed outside the lock of the file; if anything that matters changed meanwhile, it is
computed again. A run that crashed stays charged in full until somebody settles it.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from dpft.accounting.errors import ConfigurationError, LedgerError
from dpft.accounting.ledger.budget import Budget
from dpft.accounting.ledger.chain import START, Entry, Head
from dpft.accounting.ledger.lease import Lease, Reservation, Use
from dpft.accounting.ledger.privacy_filter import FilterOrder, orders_for
from dpft.accounting.ledger.record_digests import RecordDigests
from dpft.accounting.ledger.refusal import (
    refuse_late_plans,
    refuse_over_budget,
    refuse_shared_within,
)
from dpft.accounting.ledger.state import State, fields_of
from dpft.accounting.ledger.store import Store, StoredDigests

__all__ = ["Ledger"]

_SALT_BYTES = 32
_ATTEMPTS = 1000
_Pairs = list[list[str]]
_Charge = tuple[str, Reservation]


class Ledger:
    """An open ledger.

    Args:
        store: Its file.

    Raises:
        LedgerError: If the file holds anything that cannot be: every entry is checked on opening.

    Privacy:
        For every data set the composition of what is charged is never below that of what may have
        been sampled, also if processes race or are killed (`tests/accounting/ledger/test_races.py`,
        `tests/accounting/ledger/test_kills.py`). Not covered: a file that is copied back from a
        backup or deleted, unless its head is compared with that of a certificate; records that
        come in other words or another encoding.

    Example:
        >>> import tempfile
        >>> from dpft.accounting import PoissonGaussian
        >>> from dpft.accounting.ledger import Budget, Reservation
        >>> folder = tempfile.TemporaryDirectory()
        >>> ledger = Ledger.open(Path(folder.name) / "dpft-ledger.sqlite")
        >>> ledger.set_budget("mail", Budget(epsilon=8, delta=1e-5))
        >>> plan = PoissonGaussian(1.0, 0.01, 100)
        >>> lease = ledger.reserve(Reservation.of("a run", "mail", plan))
        >>> token = ledger.attach(lease.run_id)
        >>> ledger.intend(lease.run_id, token, upto=1)
        >>> ledger.settle(lease.run_id)
        >>> ledger.state.lease("a run").charged("mail", adaptive=True)[0].steps
        1
        >>> ledger.close()
        >>> folder.cleanup()
    """

    def __init__(self, store: Store) -> None:
        """Read and check every entry."""
        self._store = store
        self._state: State | None = None
        try:
            self._catch_up()
        except BaseException:
            store.close()
            raise

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Open a ledger to write in; it is made if absent.

        Args:
            path: The file, on a local disk.

        Raises:
            LedgerError: If it cannot be opened, made, or trusted.

        Privacy:
            Nothing, no data touched.
        """
        first: dict[str, object] = {"ledger_id": secrets.token_hex(16), "time": _now()}
        return cls(Store.create(path, ("ledger", first)))

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """Open an existing ledger to look at.

        Args:
            path: The file.

        Raises:
            LedgerError: If it cannot be opened or trusted.

        Privacy:
            Nothing, no data touched.
        """
        return cls(Store(path, read_only=True))

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def state(self) -> State:
        """What the entries read so far mean; not to be changed."""
        return self._catch_up()

    @property
    def head(self) -> Head:
        """The last entry, as a certificate quotes it."""
        return self._catch_up().head

    def close(self) -> None:
        """Let the file go."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def entries(self) -> list[Entry]:
        """Return all entries.

        Privacy:
            Public numbers and names; no digest of a record.
        """
        return self._store.entries(START)

    def reserve(self, reservation: Reservation, *, beside: Reservation | None = None) -> Lease:
        """Charge all steps of a run on every data set it samples, or none at all.

        Args:
            reservation: What the run will do.
            beside: What is released once with it, such as a metric: charged with the run, as by
                `release`, or neither is.

        Returns:
            The lease, unless a budget would be exceeded.

        Raises:
            BudgetError: If it would; the message says what is left, and what would fit.
            ConfigurationError: If data sets of one run share records, or may.
            LedgerError: If the ledger cannot be read, trusted or written.

        Privacy:
            Budgets of all data sets that may share records are respected
            (`tests/accounting/ledger/test_sharing.py`).
        """
        once = [] if beside is None else [("release", beside)]
        self._charge([("reserve", reservation), *once])
        return self.state.lease(reservation.run_id)

    def release(self, reservation: Reservation) -> Lease:
        """Charge what happens once, in full and for good, before it happens.

        Args:
            reservation: What is about to be released.

        Returns:
            The lease, already settled.

        Raises:
            BudgetError: As `reserve`.
            ConfigurationError: As `reserve`.
            LedgerError: As `reserve`.

        Privacy:
            As `reserve`.
        """
        self._charge([("release", reservation)])
        return self.state.lease(reservation.run_id)

    def attach(self, run_id: str, noise: str = "unnamed") -> int:
        """Take a run over: processes that had attached before may not go on.

        Args:
            run_id: Name of the run.
            noise: Public name of the source of this process's noise, which is fresh; no key.

        Returns:
            The token of this process.

        Raises:
            LedgerError: If the run is not reserved or is settled.

        Privacy:
            Nothing, no data touched (`tests/accounting/ledger/test_fencing.py`).
        """

        def fields(state: State) -> dict[str, Any]:
            token = state.lease(run_id).token + 1
            return {"run_id": run_id, "token": token, "noise": noise}

        self._append("attach", fields)
        return self._known().lease(run_id).token

    def intend(self, run_id: str, token: int, upto: int) -> None:
        """Note durably that steps up to a number may be sampled.

        Args:
            run_id: Name of the run.
            token: What `attach` returned.
            upto: Steps that may have been sampled from now on, counted from the first.

        Raises:
            LedgerError: If another process attached, the run is settled, the steps were intended
                before or are not reserved, or the entry could not be written: then nothing may be
                sampled.

        Privacy:
            Once this returns, a crash loses nothing
            (`tests/accounting/ledger/test_kills.py`).
        """
        self._append("intend", lambda _: {"run_id": run_id, "token": token, "upto": upto})

    def settle(self, run_id: str, token: int | None = None) -> None:
        """Close a run: no step follows.

        Args:
            run_id: Name of the run.
            token: What `attach` returned; unset: whoever holds the run may not go on.

        Raises:
            LedgerError: If the run is not reserved, settled already, or held by another process.

        Privacy:
            What was intended stays charged. The rest is given back under a filter or a public stop
            rule only (`tests/accounting/ledger/test_charging.py`).
        """

        def fields(state: State) -> dict[str, Any]:
            return {"run_id": run_id, "token": token, "intended": state.lease(run_id).intended}

        self._append("settle", fields)

    def cancel(self, run_id: str, reason: str) -> None:
        """Close a run that no process took up, and give it back also under fixed plans.

        Args:
            run_id: Name of the run.
            reason: Why it does not take place, in public words. It must not follow from records:
                a model that is not supported, not a record that could not be read.

        Raises:
            LedgerError: If the run is not reserved, settled, or a process attached; or no reason.

        Privacy:
            Nothing was released. A fixed set of plans without one that was given up for a public
            reason is another fixed set (`test_a_cancelled_run_is_given_back_under_fixed_plans`).
        """
        fields = {"run_id": run_id, "token": None, "intended": 0, "cancelled": reason}
        self._append("settle", lambda _: fields)

    def set_budget(self, dataset: str, budget: Budget) -> None:
        """Set or change the budget of a data set.

        Args:
            dataset: Name of the data set.
            budget: What may be spent. One below what is spent blocks further runs.

        Raises:
            ConfigurationError: If the name is empty, or plans are declared fixed after an output.
            LedgerError: If the entry cannot be written.

        Privacy:
            Nothing, no data touched. Every change stays on record, with its time. After an output
            the orders of the filter stay what they were, and those of a new epsilon or delta follow
            from these alone, whatever is asked for (`test_orders_do_not_change_after_an_output`,
            `test_orders_are_not_chosen_after_an_output`).
        """
        if not dataset.strip():
            raise ConfigurationError(
                f"Expected dataset={dataset!r} to be a name. Budgets are kept by name. Name the "
                "privacy.dataset_id of the runs."
            )

        def fields(state: State) -> dict[str, Any]:
            refuse_late_plans(state, dataset, budget, self.path)
            return {
                "dataset": dataset,
                "epsilon": budget.epsilon,
                "delta": budget.delta,
                "plans": budget.plans.value,
                "orders": [list(each) for each in _orders(state, dataset, budget)],
                "time": _now(),
            }

        self._append("budget", fields)

    def declare_disjoint(self, one: str, other: str, rule: str) -> None:
        """Record a public rule by which no record is in both data sets.

        Args:
            one: Name of a data set.
            other: Name of another.
            rule: The rule, in words.

        Raises:
            ConfigurationError: If the names are one, or the rule is empty.
            LedgerError: If the entry cannot be written.

        Privacy:
            The rule must be public: chosen without looking at the records. From then on the two
            do not share a budget; whether it is true is not checked.
        """
        if one == other or not one.strip() or not other.strip() or not rule.strip():
            raise ConfigurationError(
                f"Expected two data sets and a rule, got {one!r}, {other!r} and {rule!r}. A rule "
                "says why no record is in both. State it, as in 'customers by country'."
            )
        fields = {"datasets": sorted((one, other)), "rule": rule, "time": _now()}
        self._append("disjoint", lambda _: fields)

    def knows(self, dataset: str, records: RecordDigests) -> bool:
        """Return whether all these records were digested for a data set before.

        Args:
            dataset: Name of the data set.
            records: Digests of records.

        Privacy:
            Compares keyed digests; only the answer leaves the ledger.
        """
        return records.digests <= self._digests(records.key_id).get(dataset, frozenset())

    def stored_digests(self) -> list[StoredDigests]:
        """Return the digests as they stand in the file, to be verified.

        Privacy:
            Keyed digests of records, which must not leave the ledger.
        """
        return self._store.digests()

    def schema(self) -> set[str]:
        """Return the statements that made tables and triggers.

        Privacy:
            Nothing, no data touched.
        """
        return self._store.schema()

    def _charge(self, charges: Sequence[_Charge]) -> None:
        for _ in range(_ATTEMPTS):
            if self._tried(charges):
                return
        raise LedgerError(
            f"Expected ledger={self.path} to hold still for one reservation. Other processes "
            "change the same data sets all the time. Try again."
        )

    def _tried(self, charges: Sequence[_Charge]) -> bool:
        """Decide without the lock, and write if nothing that matters changed meanwhile."""
        known = self._catch_up()
        preview = known.copy()
        uses = [use for _, reservation in charges for use in reservation.uses]
        planned: list[tuple[Entry, list[StoredDigests]]] = []
        for kind, reservation in charges:
            new, pairs = self._compared(reservation, uses)
            fields = fields_of(reservation) | {"overlaps": pairs, "time": _now()}
            commitments = {row.dataset: _commitment(row) for row in new}
            entry = Entry.after(preview.head, kind, fields | {"commitments": commitments})
            preview.apply(entry)
            refuse_shared_within(preview, reservation, self.path)
            refuse_over_budget(preview, reservation, self.path)
            planned.append((entry, new))
        concerned = _concerned(known, preview, uses)
        decided = _versions(known, concerned)
        with self._writing():
            now = self._catch_up()
            if _versions(now, concerned) != decided:
                return False
            for planned_entry, new in planned:
                entry = Entry.after(self._known().head, planned_entry.kind, planned_entry.fields)
                self._write(entry, [row._replace(seq=entry.seq) for row in new])
        return True

    def _compared(
        self, reservation: Reservation, together: Sequence[Use]
    ) -> tuple[list[StoredDigests], _Pairs]:
        """Return the digests that are new, and the pairs of data sets that share records."""
        new: list[StoredDigests] = []
        pairs: set[tuple[str, ...]] = set()
        for use in reservation.uses:
            if use.records is None:
                continue
            stored = self._digests(use.records.key_id)
            beside = [
                (other.dataset, other.records.digests)
                for other in together
                if other.records is not None and other.records.key_id == use.records.key_id
            ]
            for name, digests in [*stored.items(), *beside]:
                if name != use.dataset and not digests.isdisjoint(use.records.digests):
                    pairs.add(tuple(sorted((name, use.dataset))))
            added = use.records.digests - stored.get(use.dataset, frozenset())
            if added:
                salt = secrets.token_bytes(_SALT_BYTES)
                added_bytes = RecordDigests(use.records.key_id, added).to_bytes()
                row = StoredDigests(0, use.dataset, use.records.key_id, salt, added_bytes)
                new.append(row)
        return new, [list(pair) for pair in sorted(pairs)]

    def _digests(self, key_id: str) -> dict[str, frozenset[bytes]]:
        """Return the digests under a key, by data set."""
        found: dict[str, frozenset[bytes]] = {}
        for row in self._store.digests():
            if row.key_id == key_id:
                digests = RecordDigests.from_bytes(key_id, row.digests).digests
                found[row.dataset] = found.get(row.dataset, frozenset()) | digests
        return found

    def _append(self, kind: str, fields: Callable[[State], Mapping[str, Any]]) -> None:
        with self._writing():
            state = self._catch_up()
            self._write(Entry.after(state.head, kind, fields(state)), [])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the right to write; what is not kept is not believed either."""
        try:
            with self._store.writing():
                yield
        except BaseException:
            self._state = None
            raise

    def _write(self, entry: Entry, digests: Sequence[StoredDigests]) -> None:
        self._known().apply(entry)
        self._store.append(entry, digests)

    def _catch_up(self) -> State:
        state = State() if self._state is None else self._state
        self._state = None  # should an entry be refused, nothing half read is kept
        for entry in self._store.entries(state.head):
            state.apply(entry)
        self._state = state
        return state

    def _known(self) -> State:
        assert self._state is not None, "read before it is written"
        return self._state


def _orders(state: State, dataset: str, budget: Budget) -> tuple[FilterOrder, ...]:
    """Return the orders that a budget gets: none that somebody could choose by outputs."""
    if not any(name in state.begun for name in state.neighbours(dataset)):
        return budget.orders
    former = state.budgets.get(dataset)
    if former is not None and (former.epsilon, former.delta) == (budget.epsilon, budget.delta):
        return former.orders
    return orders_for(budget.epsilon, budget.delta)


def _concerned(known: State, preview: State, uses: Sequence[Use]) -> set[str]:
    """Return the data sets whose leases and budgets a decision rests on."""
    return {
        name for use in uses for state in (known, preview) for name in state.neighbours(use.dataset)
    }


def _versions(state: State, datasets: set[str]) -> tuple[int, int, dict[str, int]]:
    """Return what must not change meanwhile; a new data set or new digests may be neighbours."""
    versions = {name: state.versions[name] for name in datasets}
    return len(state.commitments), len(state.keys), versions


def _commitment(row: StoredDigests) -> str:
    return hashlib.sha256(row.salt + row.digests).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
