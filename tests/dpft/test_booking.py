"""A run and its ledger: what is charged when, and what is refused."""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dpft
from dpft.accounting import DiscreteLaplace, PoissonGaussian, RepeatAndSelect
from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger import Budget, Head, Ledger, Plans, verify
from dpft.accounting.ledger.quotation import charged as run_charged
from dpft.booked_events import book_event
from dpft.booking import Booking, book, book_with
from dpft.charges import ChargesFile
from dpft.errors import BrokenGuaranteeError, BudgetError, ConfigurationError
from dpft.privacy import EvaluationStatus, PrivacyMode
from dpft.private_step import StepSettings
from dpft.progress import Progress
from dpft.randomness import PinnedRandomness
from dpft.reservations import Beside
from dpft.sampling import PoissonSampler
from dpft.training import FitOptions

RECORDS, STEPS = 40, 6
PRIVACY = dpft.Privacy(
    noise_multiplier=2.0, delta=1e-3, expected_batch_size=4, steps=STEPS, dataset_id="mail"
)
NOT_PRIVATE = dataclasses.replace(PRIVACY, noise_multiplier=None, mode=PrivacyMode.NOT_PRIVATE)
SMALL = Budget(epsilon=0.01, delta=1e-3)


def row(index: int) -> dict[str, Any]:
    ids = [1 + index] * (1 + index % 3)
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2}


def records(count: int = RECORDS) -> list[dict[str, Any]]:
    return [row(index) for index in range(count)]


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    outputs: torch.Tensor = model(batch["input_ids"].float()[:, :1])
    return (outputs.squeeze(1) - batch["labels"]).square() / 1000


def fit(out: Path | None, **arguments: Any) -> dpft.FitResult:
    synthetic = StepSettings(synthetic=records(3))
    options = {"resume": out is not None, "step": synthetic, **arguments.pop("options", {})}
    settings = {"loss": loss, "privacy": PRIVACY, "options": FitOptions(**options), **arguments}
    return dpft.fit(
        nn.Linear(1, 1), settings.pop("records", None) or records(), out=out, **settings
    )


PINNED = StepSettings(randomness=PinnedRandomness(3), synthetic=records(3))


def stop_after(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def interrupted(out: Path, last: int = 2) -> Path:
    with pytest.raises(KeyboardInterrupt):
        fit(out, on_step=stop_after(last))
    return out


def beside(out: Path) -> Path:
    return out.parent.parent / "dpft-ledger.sqlite"


def charged(path: Path) -> list[tuple[int, int, bool]]:
    """Return (token, intended, settled) of every lease."""
    with Ledger.read(path) as ledger:
        leases = ledger.state.leases.values()
        return [(lease.token, lease.intended, lease.is_settled) for lease in leases]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "run"


@pytest.fixture(autouse=True)
def _no_artefacts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Artefacts have their own tests, and need peft."""
    monkeypatch.setattr("dpft.training.save_artefacts", lambda *_: None)


def test_a_run_with_a_folder_is_charged_beside_it(out: Path) -> None:
    result = fit(out)
    assert charged(beside(out)) == [(1, STEPS, True)]
    with Ledger.read(beside(out)) as ledger:
        verify(ledger)
        (lease,) = ledger.state.leases.values()
        (use,) = lease.uses
        assert (use.dataset, use.mechanism) == ("mail", result.plan.mechanism())
        header = json.loads((out / "charges.jsonl").read_text().splitlines()[0])
        assert (header["run_id"], header["ledger"]) == (lease.run_id, ledger.state.ledger_id)


def test_the_certificate_quotes_the_head_after_the_reservation(out: Path) -> None:
    reference = fit(out).run.ledger
    assert reference is not None
    with Ledger.read(beside(out)) as ledger:
        quoted = Head(reference.head, reference.entry)
        assert verify(ledger, quoted).quoted
        assert ledger.entries()[reference.entry - 1].kind == "reserve"


def test_every_step_is_in_both_before_it_is_sampled(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def draw(self: PoissonSampler, step: int, original: Any = PoissonSampler.draw) -> Any:
        (lease,) = charged(beside(out))
        lines = (out / "charges.jsonl").read_text().splitlines()
        seen.append((step + 1, lease[1], json.loads(lines[-1])["intend"]))
        return original(self, step)

    monkeypatch.setattr(PoissonSampler, "draw", draw)
    fit(out)
    assert seen == [(step, step, step) for step in range(1, STEPS + 1)]


def test_the_folder_is_charged_first_and_the_ledger_catches_up(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Booking.intend

    def die(self: Booking, upto: int) -> None:
        if upto == 3:
            raise KeyboardInterrupt
        original(self, upto)

    with monkeypatch.context() as patch:
        patch.setattr(Booking, "intend", die)
        with pytest.raises(KeyboardInterrupt):
            fit(out)
    assert charged(beside(out)) == [(1, 2, False)]
    result = fit(out, on_step=None)
    assert charged(beside(out)) == [(2, STEPS, True)]
    assert result.history.lost == 1  # charged by the folder alone, and never sampled


def test_an_interrupted_run_stays_open_and_goes_on(out: Path) -> None:
    interrupted(out)
    assert charged(beside(out)) == [(1, 2, False)]
    fit(out)
    assert charged(beside(out)) == [(2, STEPS, True)]


def test_a_failed_step_settles_the_run_where_it_stands(out: Path) -> None:
    def failing(model: nn.Module, batch: Any) -> torch.Tensor:
        if len(batch["labels"]) and batch["input_ids"].max() > 4:  # only ever a private batch
            raise MemoryError
        return loss(model, batch)

    with pytest.raises(torch.OutOfMemoryError):
        fit(out, loss=failing)
    ((token, intended, settled),) = charged(beside(out))
    assert (token, settled) == (1, True)
    assert 1 <= intended <= STEPS


def test_a_run_refused_before_its_first_step_gives_everything_back(out: Path) -> None:
    def coupled(model: nn.Module, batch: Any) -> torch.Tensor:
        losses = loss(model, batch)
        return losses - losses.mean()

    with pytest.raises(BrokenGuaranteeError):
        fit(out, loss=coupled)
    assert charged(beside(out)) == [(0, 0, True)]


def test_a_folder_put_back_from_a_copy_is_refused(out: Path, tmp_path: Path) -> None:
    interrupted(out, 2)
    shutil.copytree(out, tmp_path / "copy")
    interrupted(out, 4)
    shutil.rmtree(out)
    (tmp_path / "copy").rename(out)
    before = (out / "charges.jsonl").read_bytes()
    with pytest.raises(BrokenGuaranteeError, match="put back from a copy"):
        fit(out)
    assert (out / "charges.jsonl").read_bytes() == before


def test_of_two_copies_of_a_run_one_goes_on(out: Path) -> None:
    interrupted(out)
    copy = shutil.copytree(out, out.with_name("copy"))
    fit(out)
    with pytest.raises(BrokenGuaranteeError, match="put back from a copy"):
        fit(copy)


def test_a_run_is_resumed_with_its_own_ledger_alone(out: Path, tmp_path: Path) -> None:
    interrupted(out)
    elsewhere = tmp_path / "moved.sqlite"
    beside(out).rename(elsewhere)
    with pytest.raises(LedgerError, match="to be the one that run="):
        fit(out)
    assert not beside(out).exists()
    Ledger.open(beside(out)).close()
    with pytest.raises(LedgerError, match="to be the one that run="):
        fit(out)
    fit(out, privacy=dataclasses.replace(PRIVACY, ledger=str(elsewhere)))
    assert charged(elsewhere) == [(2, STEPS, True)]


def test_a_settled_run_is_not_resumed_unless_all_its_steps_are_taken(out: Path) -> None:
    interrupted(out)
    with Ledger.open(beside(out)) as ledger:
        ledger.settle(next(iter(ledger.state.leases)))
    with pytest.raises(LedgerError, match="given back"):
        fit(out)
    done = out.with_name("done")
    fit(done)
    assert fit(done).history.intended == STEPS  # its artefacts are written, no step is taken


def test_other_records_are_no_resumption(out: Path) -> None:
    privacy = dataclasses.replace(PRIVACY, num_records=RECORDS)
    with pytest.raises(KeyboardInterrupt):
        fit(out, on_step=stop_after(2), privacy=privacy)
    others = [*records(RECORDS - 1), row(RECORDS)]
    with pytest.raises(BrokenGuaranteeError, match="those the run started with"):
        fit(out, privacy=privacy, records=others)
    fit(out, privacy=privacy, records=records()[::-1])


@pytest.mark.parametrize("kind", ["not private", "pinned"])
def test_a_run_without_privacy_is_charged_as_infinite(out: Path, kind: str) -> None:
    arguments: dict[str, Any] = {"privacy": NOT_PRIVATE}
    if kind == "pinned":
        arguments = {"options": {"step": PINNED, "resume": False}}
    fit(out, **arguments)
    with Ledger.open(beside(out)) as ledger:
        (lease,) = ledger.state.leases.values()
        assert lease.uses[0].mechanism is None
        ledger.set_budget("mail", Budget(epsilon=1e6, delta=0.1))
    with pytest.raises(BudgetError):
        fit(out.with_name("second"), **arguments)


def test_a_run_over_budget_leaves_nothing_behind_and_draws_nothing(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(beside(out)) as ledger:
        ledger.set_budget("mail", SMALL)
    monkeypatch.setattr(PoissonSampler, "draw", None)
    with pytest.raises(BudgetError, match="left: 100 %"):
        fit(out)
    assert not out.exists()
    assert charged(beside(out)) == []


def test_without_a_folder_or_a_setting_there_is_no_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fit(None).run.ledger is None
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("by", ["setting", "variable"])
def test_without_a_folder_a_setting_books_the_run_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    path = tmp_path / "named.sqlite"
    privacy = PRIVACY
    if by == "setting":
        privacy = dataclasses.replace(PRIVACY, ledger=str(path))
    else:
        monkeypatch.setenv("DPFT_LEDGER", str(path))
    with pytest.raises(KeyboardInterrupt):
        fit(None, privacy=privacy, on_step=stop_after(3))
    assert charged(path) == [(1, 3, False)]
    assert fit(None, privacy=privacy).run.ledger is not None
    charges = ChargesFile(tmp_path / "charges", {}, STEPS)
    with pytest.raises(ConfigurationError, match="or a ledger"):
        fit(None, privacy=privacy, options={"step": StepSettings(charges=charges)})


def test_a_booking_made_before_is_used_and_must_be_of_this_run(out: Path) -> None:
    plan = PRIVACY.plan(RECORDS)
    with book(plan, records(), beside(out)) as booking:
        fit(out, options={"booking": booking, "resume": False})
        assert booking.lease.is_settled
    with book(plan, records(), beside(out)) as booking:
        other = dataclasses.replace(PRIVACY, noise_multiplier=1.0)
        with pytest.raises(ConfigurationError, match="charged as another one"):
            fit(out.with_name("b"), privacy=other, options={"booking": booking, "resume": False})
        pinned = {"booking": booking, "resume": False, "step": PINNED}
        with pytest.raises(ConfigurationError, match="charged as another one"):
            fit(out.with_name("c"), options=pinned)
    assert len(charged(beside(out))) == 2


def test_an_event_is_charged_as_a_whole_and_covers_its_runs(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    trial = PRIVACY.plan(RECORDS).mechanism()
    event = RepeatAndSelect(trial, mean=3, shape=1.0, adjacency=trial.adjacency)
    with book_event(event, "mail", path, records=records()) as booking:
        assert charged(path) == [(0, 1, True)]
        for _ in range(2):
            fit(None, options={"booking": booking})
        for other in (NOT_PRIVATE, dataclasses.replace(PRIVACY, dataset_id="calls")):
            with pytest.raises(ConfigurationError, match="charged to nobody"):
                fit(None, privacy=other, options={"booking": booking})
        with pytest.raises(ConfigurationError, match="charged to nobody"):
            fit(None, options={"booking": booking, "step": PINNED})
    assert charged(path) == [(0, 1, True)]
    with Ledger.read(path) as ledger:
        (lease,) = ledger.state.leases.values()
        assert lease.charged("mail", adaptive=True) == [event]


def released(metric: DiscreteLaplace, dataset: str, **more: Any) -> Beside:
    return Beside(mechanism=metric, dataset_id=dataset, **more)


def test_a_release_beside_a_run_is_charged_before_it_happens(out: Path) -> None:
    metric = DiscreteLaplace(decay=0.5)
    held_out = [row(1000 + index) for index in range(5)]
    with book(PRIVACY.plan(RECORDS), records(), beside(out)) as booking:
        head = booking.charge_release(released(metric, "mail/validation", records=held_out))
        assert booking.reference.entry == head.seq
        assert charged(beside(out))[1] == (0, 1, True)
        with Ledger.read(beside(out)) as ledger:
            assert ledger.head == head
            assert not ledger.state.overlap("mail", "mail/validation")
        for _ in range(2):
            rule = "sha256(user) mod 10 = 0"
            booking.charge_release(released(metric, "calls", disjoint_rule=rule))
        with Ledger.read(beside(out)) as ledger:
            kinds = [entry.kind for entry in ledger.entries()]
            assert kinds.count("disjoint") == 1
            assert not ledger.state.overlap("mail", "calls")


def test_a_release_over_budget_is_refused(out: Path) -> None:
    with Ledger.open(beside(out)) as ledger:
        ledger.set_budget("held out", SMALL)
    with book(PRIVACY.plan(RECORDS), records(), beside(out)) as booking:
        metric = released(DiscreteLaplace(decay=0.5), "held out", records=[row(999)])
        with pytest.raises(BudgetError):
            booking.charge_release(metric)
        assert len(charged(beside(out))) == 1


def test_a_run_is_charged_with_its_metric_or_not_at_all(out: Path) -> None:
    plan, metric = PRIVACY.plan(RECORDS), DiscreteLaplace(decay=0.5)
    with Ledger.open(beside(out)) as ledger:
        ledger.set_budget("mail", Budget(epsilon=50, delta=1e-3, plans=Plans.FIXED))
        ledger.set_budget("held out", SMALL)
    with pytest.raises(BudgetError, match="held out"):
        book_with(plan, records(), beside(out), released(metric, "held out", records=[row(999)]))
    assert charged(beside(out)) == []
    with book_with(plan, records(), beside(out), released(metric, "apart", records=[row(998)])):
        assert charged(beside(out)) == [(0, 0, False), (0, 1, True)]


def test_a_run_whose_certificate_holds_a_metric_is_charged_for_it(out: Path) -> None:
    noisy = {"evaluation": EvaluationStatus.NOISY, "evaluation_epsilon": 0.5}
    result = fit(out, privacy=dataclasses.replace(PRIVACY, **noisy))
    with Ledger.read(beside(out)) as ledger:
        entries = ledger.entries()
        assert len(result.certificate.runs) == 2
        assert all(run_charged(entries, run) for run in result.certificate.runs)


def test_a_run_whose_model_is_refused_is_given_back_under_fixed_plans(out: Path) -> None:
    plan = PRIVACY.plan(RECORDS)
    with Ledger.open(beside(out)) as ledger:
        ledger.set_budget("mail", Budget(epsilon=50, delta=1e-3, plans=Plans.FIXED))
    with (
        pytest.raises(KeyError),
        book(plan, records(), beside(out)) as booking,
        booking.public_part("there is no such model"),
    ):
        raise KeyError
    with (
        pytest.raises(KeyboardInterrupt),
        book(plan, records(), beside(out)) as booking,
        booking.public_part("there is no such model"),
    ):
        raise KeyboardInterrupt
    with Ledger.read(beside(out)) as ledger:
        given_back, kept = ledger.state.leases.values()
    assert given_back.charged("mail", adaptive=False) == []
    assert kept.charged("mail", adaptive=False) == [plan.mechanism()]


@pytest.mark.parametrize("shortage", [MemoryError, RuntimeError])
def test_a_failure_that_records_may_decide_is_not_given_back_under_fixed_plans(
    out: Path, shortage: type[Exception]
) -> None:
    """Also one that comes after a public one which the caller dealt with."""
    plan = PRIVACY.plan(RECORDS)
    with Ledger.open(beside(out)) as ledger:
        ledger.set_budget("mail", Budget(epsilon=50, delta=1e-3, plans=Plans.FIXED))
    with (
        pytest.raises(ValueError, match="row 7"),
        book(plan, records(), beside(out)) as booking,
        _refused_first(booking),
    ):
        raise ValueError("row 7")
    with (
        pytest.raises(shortage),
        book(plan, records(), beside(out)) as booking,
        booking.public_part("there is no such model"),
    ):
        raise shortage
    with (
        pytest.raises(KeyError),
        book(plan, records(), beside(out)) as booking,
        booking.public_part("a tracker could not be started"),
    ):
        raise KeyError from shortage()
    with Ledger.read(beside(out)) as ledger:
        kept = [lease.charged("mail", adaptive=False) for lease in ledger.state.leases.values()]
    assert kept == [[plan.mechanism()]] * 3


def test_a_run_that_began_is_not_given_back_for_a_public_reason(out: Path) -> None:
    plan = PRIVACY.plan(RECORDS)
    with (
        pytest.raises(KeyError),
        book(plan, records(), beside(out)) as booking,
        _begun(booking),
        booking.public_part("there is no such model"),
    ):
        raise KeyError
    assert charged(beside(out)) == [(1, 0, False)]


def test_nothing_is_charged_by_a_process_that_did_not_attach(out: Path) -> None:
    with (
        book(PRIVACY.plan(RECORDS), records(), beside(out)) as booking,
        pytest.raises(LedgerError, match="to be attached"),
    ):
        booking.intend(1)


@contextlib.contextmanager
def _refused_first(booking: Booking) -> Iterator[None]:
    with contextlib.suppress(KeyError), booking.public_part("there is no such adapter"):
        raise KeyError
    yield


@contextlib.contextmanager
def _begun(booking: Booking) -> Iterator[None]:
    booking.attach(0)
    yield


def test_an_error_before_the_first_step_gives_back_and_one_after_does_not(out: Path) -> None:
    plan = PRIVACY.plan(RECORDS)
    with pytest.raises(KeyError), book(plan, records(), beside(out)):
        raise KeyError
    with (
        pytest.raises(KeyError),
        book(plan, records(), beside(out)) as booking,
        _begun(booking),
    ):
        raise KeyError
    with book(plan, records(), beside(out)):
        pass
    assert [settled for *_, settled in charged(beside(out))] == [True, False, False]


def test_a_fixed_budget_keeps_what_a_failed_start_reserved(out: Path) -> None:
    plan = PRIVACY.plan(RECORDS)
    with Ledger.open(beside(out)) as ledger:
        ledger.set_budget("mail", Budget(epsilon=50, delta=1e-3, plans=Plans.FIXED))
    with pytest.raises(KeyError), book(plan, records(), beside(out)) as booking:
        raise KeyError
    assert booking.run_id
    with Ledger.read(beside(out)) as ledger:
        (lease,) = ledger.state.leases.values()
        assert lease.charged("mail", adaptive=False) == [plan.mechanism()]


def test_digests_of_the_records_are_kept_and_the_key_is_elsewhere(out: Path) -> None:
    fit(out)
    with Ledger.read(beside(out)) as ledger:
        (stored,) = ledger.stored_digests()
        assert len(stored.digests) == 8 * RECORDS
    files = b"".join(path.read_bytes() for path in out.parent.parent.rglob("*") if path.is_file())
    (key,) = Path(os.environ["DPFT_PRIVATE"]).iterdir()
    assert key.read_bytes() not in files
    folder = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    digests = [stored.digests[start : start + 8] for start in range(0, 8 * RECORDS, 8)]
    assert not [digest for digest in digests if digest in folder or digest.hex().encode() in folder]


def test_plans_and_mechanisms_survive_the_ledger(out: Path) -> None:
    plan = PRIVACY.plan(RECORDS)
    with book(plan, records(), beside(out)) as booking:
        (use,) = booking.lease.uses
        assert isinstance(use.mechanism, PoissonGaussian)
        booking.refuse_another(plan)
