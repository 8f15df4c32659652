"""What an audit of a run found, for both readers of its report."""

import math
from collections.abc import Iterator
from typing import Any

from dpft.accounting.canonical_json import parsed
from dpft.audit_comparison import with_attack
from dpft.audit_statement import AuditStatement, StatedAttack, StatedBounds, StatedTest
from dpft.reporting.facts import Facts
from dpft.reporting.given import given
from dpft.reporting.promises import guaranteed
from dpft.reporting.section import Section, Table

__all__ = ["audit_as_json", "audit_in_full", "audit_in_short"]

_TITLE = "Audit: an attempt to prove the guarantee wrong"
_NONE = "None lies beside the run: dpft audit --run makes one."
_LOOKED_FOR = (
    "Settings and software of this run were tried from outside, on synthetic records: whether "
    "noise is as large as stated, fresh and everywhere; whether one record's influence is bounded, "
    "also by hostile gradients; whether records are sampled as stated, and charged before."
)
_ATTACKED = (
    "A run of the same settings was attacked: planted records, each in or out by a coin, were "
    "guessed from what it released. It was a run of its own on the same records and is charged in "
    "their ledger; the guarantee above does not count it, the last line of the table does."
)
_NO_PROOF = (
    "That nothing was found is no proof. The audit came after the run and no certificate names it: "
    "it shows that this software with these settings did as stated when it was tried, not that the "
    "weights were made so. A fault that needs a certain record, what is done outside the engine, "
    "and whatever an attack can show beyond its limit stay unseen."
)
_HEAD = ("check", "found", "p", "expected", "verdict")
_ATTACK_HEAD = ("attacker", "one run", "could show at most", "independent", "attainable", "claimed")


def audit_in_short(facts: Facts) -> Section:
    """Return what a privacy officer has to know of an audit: what was looked for, what it shows.

    Args:
        facts: What the report states.

    Privacy:
        Of synthetic records, or of a run that was charged.
    """
    audit = facts.sources.audit
    if audit is None:
        return Section(title=_TITLE, texts=(_NONE,))
    said = [_LOOKED_FOR] * (audit.conformance is not None) + [_ATTACKED] * (
        audit.attack is not None
    )
    return Section(title=_TITLE, texts=(*said, _NO_PROOF), table=Table((), tuple(_rows(facts))))


def audit_in_full(facts: Facts) -> tuple[Section, ...]:
    """Return every check and every bound of an audit, for an engineer.

    Args:
        facts: What the report states.

    Privacy:
        As `audit_in_short`.
    """
    return tuple(_sections(facts.sources.audit)) if facts.sources.audit else ()


def audit_as_json(facts: Facts) -> dict[str, Any] | None:
    """Return an audit as JSON values, None if there is none.

    Args:
        facts: What the report states.

    Privacy:
        As `audit_in_short`.
    """
    audit = facts.sources.audit
    if audit is None:
        return None
    stated: dict[str, Any] = parsed("audit", audit.to_json())
    return stated


def _rows(facts: Facts) -> Iterator[tuple[str, str]]:
    audit = facts.sources.audit
    assert audit is not None, "asked before"
    if audit.conformance is not None:
        yield "Checks of the engine", f"{len(audit.conformance.checks)}, none failed"
        if audit.conformance.skipped:
            yield "Not checked", given("; ".join(audit.conformance.skipped))
    attack = audit.attack
    if attack is None:
        return
    yield "Planted records", f"{attack.canaries}"
    yield "Seen by whoever follows every step", _shown(attack.trace)
    yield "Seen in the published weights alone", _shown(attack.published)
    assert attack.run.ledger is not None, "refused otherwise"
    yield "Attacked run, entry in the ledger", f"{attack.run.ledger.entry}"
    yield "This run and the attacked one together", _together(facts, attack)


def _shown(bounds: StatedBounds) -> str:
    """Say what a bound that assumes nothing shows, rounded down, and what it could have shown."""
    return (
        f"epsilon is at least {_down(bounds.one_run)}, or {_down(bounds.independent)} with "
        f"assumptions, at delta {bounds.delta:.3g}; the first could show {_down(bounds.ceiling)} "
        "at most"
    )


def _together(facts: Facts, attack: StatedAttack) -> str:
    spent = with_attack(facts.certificate, attack).epsilon(facts.delta)
    return guaranteed(spent, facts.delta)


def _sections(audit: AuditStatement) -> Iterator[Section]:
    if audit.conformance is not None:
        rows = tuple(map(_row, audit.conformance.checks))
        items = tuple(f"{given(each)}, not checked" for each in audit.conformance.skipped)
        yield Section(title="Audit: conformance", table=Table(_HEAD, rows), items=items)
    if audit.attack is not None:
        attack = audit.attack
        text = (
            "Lower bounds on epsilon with 95 % confidence each, at delta "
            f"{attack.trace.delta:.3g}; what is attainable follows from the mechanism, for any "
            "number of canaries."
        )
        rows = (_bounds("every iterate", attack.trace), _bounds("final delta", attack.published))
        yield Section(title="Audit: attack", texts=(text,), table=Table(_ATTACK_HEAD, rows))


def _row(check: StatedTest) -> tuple[str, ...]:
    found = "no number" if check.found is None else f"{check.found:.4g}"
    chance = "exact" if check.p_value is None else f"{check.p_value:.2g}"
    name, expected = given(check.name), given(check.expected)
    return name, found, chance, expected, "pass" if check.passed else "FAIL"


def _bounds(name: str, bounds: StatedBounds) -> tuple[str, ...]:
    shown = (bounds.one_run, bounds.ceiling, bounds.independent)
    known = (f"{bounds.attainable:.4g}", f"{bounds.claimed:.4g}")
    return (name, *map(_down, shown), *known)


def _down(value: float) -> str:
    return f"{math.floor(value * 100) / 100:.2f}"
