"""What an audit needs of a configuration: the model as it would train, its loss, synthetic rows."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from dpft.accounting.auditing import Game
from dpft.adapting import adapted, padding_of
from dpft.audit_comparison import MOST_CANARIES
from dpft.auditing import AuditTarget, Verdict, audit_conformance
from dpft.auditing.shadow import Audited, EpsilonAudit, attacked, audit_epsilon
from dpft.auditing.target import refuse_without_audit
from dpft.booking import Booking
from dpft.errors import ConfigurationError
from dpft.privacy import PrivacyPlan
from dpft.recipes.assembly import adapter_of, load_model, loss_of
from dpft.recipes.models import quiet_peft, ready_for_full_fine_tuning
from dpft.recipes.preparation import Prepared
from dpft.records import collate
from dpft.synthetic import synthetic_rows

__all__ = ["attacked_run", "conformance_of", "epsilon_of"]


def conformance_of(prepared: Prepared) -> Verdict:
    """Audit a prepared run on synthetic records.

    Args:
        prepared: The prepared run.

    Returns:
        Every check.

    Raises:
        ConfigurationError: If the run is not private, or its model cannot be loaded.
        BrokenGuaranteeError: If the engine refuses the model.

    Privacy:
        Of the run's records only their public number, the names of their fields and the types of
        their values are used (`tests/recipes/test_audit.py`). Nothing is charged.
    """
    few = dataclasses.replace(prepared, rows=prepared.rows[:1])  # for the names of its fields
    with _target(few, prepared.privacy.plan(prepared.intake.count)) as (target, _):
        return audit_conformance(target)


def attacked_run(prepared: Prepared, canaries: int) -> Prepared:
    """Return a prepared run as it is attacked: with a stated number of records, without a metric.

    Args:
        prepared: The prepared run.
        canaries: Their number.

    Raises:
        ConfigurationError: If there are too few canaries, or too many, or the run is not private.

    Privacy:
        As `dpft.auditing.shadow.attacked`.
    """
    Game(canaries)
    if canaries > MOST_CANARIES:
        raise ConfigurationError(
            f"Expected canaries={canaries} <= {MOST_CANARIES}. Whoever verifies the audit computes "
            "its limits again. Give about a thousand."
        )
    plan = prepared.privacy.plan(prepared.intake.count)
    refuse_without_audit(plan)
    return dataclasses.replace(prepared, privacy=attacked(plan), held_out=[])


def epsilon_of(prepared: Prepared, booking: Booking | None, canaries: int) -> EpsilonAudit:
    """Run a prepared run once with canaries, throw the model away, and bound epsilon from below.

    Args:
        prepared: The prepared run.
        booking: Its reservation in a ledger.
        canaries: Their number.

    Raises:
        ConfigurationError: If the run is not private, or its model cannot be loaded.
        BrokenGuaranteeError: If the engine refuses the model.

    Privacy:
        As `dpft.fit`: the records owe the run (`tests/recipes/test_audit.py`).
    """
    plan = prepared.privacy.plan(prepared.intake.count)
    with _target(prepared, plan) as (target, rows):
        owner = prepared.traits.owner_field
        owners = None if owner is None else [str(row[owner]) for row in prepared.rows]
        return audit_epsilon(target, Audited(rows, owners, booking), canaries=canaries)


@contextmanager
def _target(
    prepared: Prepared, plan: PrivacyPlan
) -> Iterator[tuple[AuditTarget, Sequence[dict[str, object]]]]:
    settings = prepared.settings
    loaded = load_model(prepared)
    whole = settings.trains_whole_model
    with ready_for_full_fine_tuning(loaded.model) if whole else quiet_peft():
        model = adapted(
            loaded.model,
            adapter_of(prepared, loaded),
            seed=settings.run.seed,
            train_head=settings.architecture.train_head,
        ).train()
        rows = loaded.encode(prepared.rows, prepared.task).records
        synthetic = loaded.synthetic(prepared.task) or synthetic_rows(rows[0], model.config)
        target = AuditTarget(
            model=model,
            loss=loss_of(loaded, settings.architecture.label_smoothing),
            rows=synthetic,
            collate=partial(collate, pad_token_id=padding_of(loaded.tokenizer, model)),
            plan=plan,
        )
        yield target, rows
