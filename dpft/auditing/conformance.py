"""Does the engine do what the plan says? All checks of one configuration, in seconds."""

from dpft.auditing.attendance import attendance_checks
from dpft.auditing.dropout import dropout_check
from dpft.auditing.interruption import interruption_check
from dpft.auditing.noise import FRESH, noise_checks
from dpft.auditing.replay import replay_checks
from dpft.auditing.scores import score_checks
from dpft.auditing.target import AuditTarget, untouched_afterwards
from dpft.auditing.verdict import AuditCheck, Verdict

__all__ = ["audit_conformance"]

_NO_DROPOUT = "dropout: no Dropout module in the model"
_TOO_FEW = "too few trained entries to tell"


def audit_conformance(target: AuditTarget) -> Verdict:
    """Check noise, sampling, clipping and bookkeeping of a configuration from outside.

    Everything is judged by what the optimiser is handed and by what was read when; no internal
    value of the engine is believed. A pass is no proof of privacy: it says that none of the faults
    that are looked for is there.

    Args:
        target: The configuration. Its model is put back as it was.

    Returns:
        Every check, passed or not.

    Raises:
        BrokenGuaranteeError: If the preflight of the engine fails already, or what is released is
            not finite.

    Privacy:
        Synthetic records and keys of the audit's own; charged to no ledger
        (`tests/dpft/auditing/test_conformance.py`, `tests/dpft/auditing/test_planted_defects.py`).
    """
    checks: list[AuditCheck] = []
    with untouched_afterwards(target.model):
        checks += noise_checks(target)
        checks += replay_checks(target)
        dropped = dropout_check(target)
    if dropped is not None:
        checks.append(dropped)
    checks += attendance_checks(target)
    checks += score_checks(target)
    checks.append(interruption_check(target))
    made = {check.name for check in checks}
    skipped = [f"{name}: {_TOO_FEW}" for name in FRESH if name not in made]
    return Verdict(checks, skipped if dropped is not None else [*skipped, _NO_DROPOUT])
