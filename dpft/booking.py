"""A run in a ledger: reserved before anything is loaded, charged step by step, settled at the end.

`dpft.accounting.ledger` knows leases and budgets, `dpft.charges` the run folder; here they are
joined. Per step the line in the run folder comes first and the ledger's entry second, both durable,
and then the sample. No torch in here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger import (
    Budget,
    Head,
    Lease,
    Ledger,
    Reservation,
    Use,
)
from dpft.accounting.run_record import LedgerReference
from dpft.charges import Origin, origin_of
from dpft.errors import BrokenGuaranteeError, ConfigurationError, DpftError
from dpft.held_out import held_out_name
from dpft.ledger_place import ledger_place
from dpft.privacy import PrivacyPlan
from dpft.reservations import (
    Beside,
    digests_of,
    kept_open,
    release_beside,
    reservation_of,
    use_of,
)
from dpft.run_folder import RunFolder

__all__ = ["Booking", "book", "book_beside", "book_with"]

_OF_THE_MACHINE = (MemoryError, RuntimeError)  # torch says the latter where memory ends
_Records = Iterable[Mapping[str, Any]]


class Booking:
    """The lease of one run, in an open ledger.

    Args:
        ledger: The ledger; closed with the booking.
        run_id: Name under which the run is reserved.
        is_new: Whether this process reserved it: should it fail before its first step is charged,
            it gives everything back that may be given back.

    Privacy:
        Nothing is sampled that is not charged (`tests/dpft/test_booking.py`).
    """

    def __init__(self, ledger: Ledger, run_id: str, *, is_new: bool) -> None:
        """Keep what is needed; the run is reserved already."""
        self._ledger = ledger
        self._token: int | None = None
        self._may_be_given_back = is_new
        self._public_failure: tuple[BaseException, str] | None = None
        self.is_new = is_new
        self.run_id = run_id
        self.head: Head = ledger.head

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        if error is not None and self._may_be_given_back:
            public, reason = self._public_failure or (None, "")
            with suppress(LedgerError):  # then it stays charged, which is safe
                if error is public:
                    self._ledger.cancel(self.run_id, reason)
                else:  # a public failure that somebody caught is not what ended the run
                    self._ledger.settle(self.run_id)
        self.close()

    @contextmanager
    def public_part(self, reason: str) -> Iterator[None]:
        """Hold what follows from public settings alone, such as loading the model.

        Args:
            reason: Why the run does not take place, should this fail, in public words.

        Privacy:
            If it fails before the run began, the run is given back under fixed plans as well:
            nothing was released, and no record decided that
            (`test_a_run_whose_model_is_refused_is_given_back_under_fixed_plans`). What fails
            elsewhere may follow from records, as may a lack of memory, which they take up too, and
            what somebody interrupts from earlier outputs: that stays charged under fixed plans
            (`test_a_failure_that_records_may_decide_is_not_given_back_under_fixed_plans`).
        """
        try:
            yield
        except _OF_THE_MACHINE:
            raise
        except Exception as error:
            if not isinstance(error.__cause__, _OF_THE_MACHINE):  # told by another name
                self._public_failure = error, reason
            raise

    @property
    def path(self) -> Path:
        """File of the ledger."""
        return self._ledger.path

    @property
    def origin(self) -> Origin:
        """What the run folder notes of it."""
        return Origin(self.run_id, self._ledger.state.ledger_id)

    @property
    def lease(self) -> Lease:
        """The lease as it stands."""
        return self._ledger.state.lease(self.run_id)

    @property
    def reference(self) -> LedgerReference:
        """Where the run stood in the ledger once it was reserved, for its certificate."""
        return LedgerReference(self.head.hash, self.head.seq)

    @property
    def is_event(self) -> bool:
        """Whether everything was charged at once, before this process began (`book_event`)."""
        lease = self.lease
        return lease.is_settled and not lease.token and lease.intended == lease.steps

    @property
    def budgets(self) -> dict[str, Budget | None]:
        """Budgets of the run's data sets, None where none is set."""
        state = self._ledger.state
        return {name: state.budgets.get(name) for name in self.lease.datasets}

    @property
    def statement(self) -> str:
        """What a report says of it: in which budgets the run was charged."""
        said = (
            f"none is set for {name}: the run is charged in a ledger, and none is refused"
            if budget is None
            else f"epsilon = {budget.epsilon:g} at delta = {budget.delta:g} for all runs on {name}"
            f" with {budget.plans.value} plans; the whole run was charged before its first step"
            for name, budget in self.budgets.items()
        )
        return "; ".join(said)

    def close(self) -> None:
        """Let the ledger go."""
        self._ledger.close()

    def attach(self, charged: int, noise: str = "fresh noise of this process") -> None:
        """Take the run over in this process.

        Args:
            charged: Steps that the run folder says were charged.
            noise: Public name of the source of the noise.

        Raises:
            BrokenGuaranteeError: If the ledger knows of more steps: the folder was put back.
            LedgerError: If the run is settled although steps are left, or cannot be written.

        Privacy:
            Steps that the folder charged and a crash kept from the ledger are charged here.
            Processes that held the run before may not go on (`tests/dpft/test_booking.py`).
        """
        self.refuse_put_back(charged)
        self._may_be_given_back = False
        lease = self.lease
        if lease.is_settled and charged == lease.steps == lease.intended:
            return  # all steps are taken, what is left is to write the artefacts
        self._token = self._ledger.attach(self.run_id, noise)
        if charged > lease.intended:
            self.intend(charged)

    def refuse_put_back(self, charged: int) -> None:
        """Raise if the run folder knows of fewer steps than the ledger.

        Args:
            charged: Steps that the run folder says were charged.

        Raises:
            BrokenGuaranteeError: If it does.

        Privacy:
            A folder that was put back from a copy would sample steps again.
        """
        if self.lease.intended > charged:
            raise BrokenGuaranteeError(
                f"Expected the run folder to have charged {self.lease.intended} steps as its "
                f"ledger says, not {charged}. It was put back from a copy, and steps would be "
                "sampled again. Start a new run; it is a new release."
            )

    def refuse_ended(self, charged: int) -> None:
        """Raise if the run cannot be resumed, before anything is loaded for it.

        Args:
            charged: Steps that the run folder says were charged, at most.

        Raises:
            BrokenGuaranteeError: If the folder was put back.
            LedgerError: If the run was settled although steps are left.

        Privacy:
            `attach` checks again, when the folder is held.
        """
        self.refuse_put_back(charged)
        if self.lease.is_settled and self.lease.intended < self.lease.steps:
            raise LedgerError(
                f"Expected run={self.run_id} to be open in the ledger, but it is settled: what it "
                "never began was given back, and may be spent. Start a new run."
            )

    def intend(self, upto: int) -> None:
        """Charge steps up to a number, durably.

        Args:
            upto: Steps charged from now on, counted from the first.

        Raises:
            LedgerError: If another process took the run over, or the entry cannot be written.

        Privacy:
            Once this returns, a crash loses nothing.
        """
        if self._token is None:
            raise LedgerError(
                f"Expected run={self.run_id} to be attached before step {upto} is charged. Only "
                "the process that holds a run may sample. Resume the run, or start a new one."
            )
        self._ledger.intend(self.run_id, self._token, upto)

    def settle(self) -> None:
        """Close the run: no step follows. What was charged stays charged.

        Raises:
            LedgerError: If another process took the run over, or the entry cannot be written.

        Privacy:
            Steps never begun are given back where plans are adaptive
            (`tests/accounting/ledger/test_charging.py`).
        """
        if not self.lease.is_settled:
            self._ledger.settle(self.run_id, self._token)

    def charge_release(self, release: Beside) -> Head:
        """Charge one release beside the run, such as a noisy metric, before it happens.

        Args:
            release: What will be released, of which records.

        Returns:
            The ledger's head with the charge in it, which the reference quotes from now on.

        Raises:
            BudgetError: If a budget would be exceeded; then nothing may be released.
            LedgerError: If the ledger cannot be read, trusted or written.

        Privacy:
            Charged in full and for good (`tests/dpft/test_booking.py`).
        """
        self._ledger.release(release_beside(self._ledger, self.lease.datasets, release))
        self.head = self._ledger.head
        return self.head

    def refuse_another(
        self,
        plan: PrivacyPlan,
        records: Sequence[Mapping[str, Any]] | None = None,
        *,
        secret: bool = True,
    ) -> None:
        """Raise unless the booking is for this run.

        Args:
            plan: The plan of the run.
            records: The training records of a run that is resumed, as when it was reserved.
            secret: Whether its randomness is secret; pinned randomness leaves no privacy.

        Raises:
            ConfigurationError: If it is for another data set or another mechanism.
            BrokenGuaranteeError: If a record was not there when the run was reserved.

        Privacy:
            A run is charged as what it is, to the records it was reserved for
            (`tests/dpft/test_booking.py`).
        """
        name = plan.privacy.dataset_id
        if self.is_event:
            self._refuse_beyond_event(use_of(plan, secret=secret))
        elif self.lease.uses != (use_of(plan, secret=secret),):
            raise ConfigurationError(
                f"Expected the booking of run={self.run_id} to be for data set {name} and the "
                f"run's own mechanism, got {self.lease.uses}. It would be charged as another one. "
                "Book this run."
            )
        if records is not None and not self._ledger.knows(name, digests_of(self.path, records)):
            raise BrokenGuaranteeError(
                f"Expected the records of data set {name} to be those the run started with. Its "
                "ledger knows nothing of the others, nor of any under another key. Resume with "
                "the same records and DPFT_PRIVATE, or start a new run."
            )

    def _refuse_beyond_event(self, use: Use) -> None:
        charged = {each.dataset: each.mechanism for each in self.lease.uses}
        unbounded = use.mechanism is None and charged.get(use.dataset) is not None
        if use.dataset not in charged or unbounded:
            raise ConfigurationError(
                f"Expected the event={self.run_id} to cover a run on data set {use.dataset}"
                f"{' without privacy' * unbounded}, got one on {' and '.join(charged)}. What it "
                "does not cover would be charged to nobody. Book this run for itself."
            )


def book(
    plan: PrivacyPlan,
    records: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    origin: Origin | None = None,
    secret: bool = True,
) -> Booking:
    """Reserve a run in a ledger, or find the reservation of one that is resumed.

    Args:
        plan: The plan; all its steps are reserved.
        records: The training records, as texts: data sets are compared by them.
        path: File of the ledger; made if absent.
        origin: Name of the run and its ledger, if it is resumed; whether it is the same run is
            then checked by `Booking.refuse_another`.
        secret: Whether randomness is secret; pinned randomness leaves no privacy.

    Returns:
        The booking, to be used as a context.

    Raises:
        BudgetError: If a budget would be exceeded; the message says what would fit.
        LedgerError: If the ledger cannot be read, trusted or written, or does not hold the run.

    Privacy:
        Nothing is sampled. Records are read for keyed digests, which stay in the ledger
        (`tests/accounting/ledger/test_record_digests.py`).
    """
    if origin is not None:
        return _found(path, origin)
    return _reserved(path, reservation_of(plan, digests_of(path, records), secret=secret))


def book_with(
    plan: PrivacyPlan, records: Sequence[Mapping[str, Any]], path: Path, release: Beside
) -> Booking:
    """Reserve a new run together with a release that happens once: both are charged, or neither.

    Args:
        plan: The plan; all its steps are reserved.
        records: The training records.
        path: File of the ledger; made if absent.
        release: What is released with the run; charged in full and for good.

    Returns:
        The booking, to be used as a context; its reference covers both.

    Raises:
        BudgetError: If a budget would be exceeded by either.
        LedgerError: If the ledger cannot be read, trusted or written.

    Privacy:
        As `book`. A release that is refused leaves no run behind, which fixed plans would keep
        (`test_a_run_is_charged_with_its_metric_or_not_at_all`).
    """
    reservation = reservation_of(plan, digests_of(path, records), secret=True)
    with kept_open(path) as ledger:
        once = release_beside(ledger, (plan.privacy.dataset_id,), release)
        ledger.reserve(reservation, beside=once)
        return Booking(ledger, reservation.run_id, is_new=True)


def book_beside(
    plan: PrivacyPlan,
    records: Sequence[Mapping[str, Any]],
    folder: RunFolder | None,
    *,
    secret: bool = True,
) -> Booking | None:
    """Reserve a run where its ledger lies, or find the reservation of one that is resumed.

    Args:
        plan: The plan, whose `Privacy` may name a ledger.
        records: The training records.
        folder: The run folder, if there is one; it is removed again if it is empty and the run is
            refused.
        secret: Whether randomness is secret.

    Returns:
        The booking; None without a ledger: no folder, no setting, no `$DPFT_LEDGER`.

    Raises:
        BudgetError: As `book`.
        LedgerError: As `book`.

    Privacy:
        As `book`.
    """
    path = ledger_place(plan.privacy, None if folder is None else folder.path)
    if path is None:
        return None
    origin = None if folder is None else origin_of(folder.charges)
    metric = _metric_of(plan, records) if secret and origin is None else None
    try:
        if metric is not None:
            return book_with(plan, records, path, metric)
        return book(plan, records, path, origin=origin, secret=secret)
    except DpftError:
        if folder is not None:
            with suppress(OSError):  # it holds something: then it stays
                folder.path.rmdir()
        raise


def _reserved(path: Path, reservation: Reservation) -> Booking:
    with kept_open(path) as ledger:
        ledger.reserve(reservation)
        return Booking(ledger, reservation.run_id, is_new=True)


def _metric_of(plan: PrivacyPlan, records: Sequence[Mapping[str, Any]]) -> Beside | None:
    """Return the noisy metric that the certificate of a run will hold, None if there is none.

    Its records are not known here: they count as training records, or, where a public rule keeps
    the two apart, as overlapping with every other data set.
    """
    mechanism = plan.privacy.metric(plan.length.adjacency)
    if mechanism is None:
        return None
    rule = plan.privacy.evaluation_split
    return Beside(
        mechanism=mechanism,
        dataset_id=held_out_name(plan.privacy),
        records=records if rule is None else None,
        disjoint_rule=rule,
    )


def _found(path: Path, origin: Origin) -> Booking:
    if origin.ledger is None or not path.exists():
        raise LedgerError(_not_here(path, origin))
    with kept_open(path) as ledger:
        if ledger.state.ledger_id != origin.ledger:
            raise LedgerError(_not_here(path, origin))
        ledger.state.lease(origin.run_id)
        return Booking(ledger, origin.run_id, is_new=False)


def _not_here(path: Path, origin: Origin) -> str:
    return (
        f"Expected ledger={path} to be the one that run={origin.run_id} was reserved in "
        f"({origin.ledger}). Elsewhere its steps would be charged to nobody. Name its ledger by "
        "privacy.ledger or DPFT_LEDGER, or start a new run."
    )
