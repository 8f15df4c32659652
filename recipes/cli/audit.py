"""`dpft audit`: tests that could prove a configuration's guarantee wrong."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpft.errors import BrokenGuaranteeError, ConfigurationError

if TYPE_CHECKING:
    from dpft.auditing import AuditCheck, Verdict
    from dpft.auditing.scores import Bounds
    from dpft.auditing.shadow import EpsilonAudit
    from dpft.recipes.auditing_files import Subject
    from dpft.recipes.preparation import Prepared

__all__ = ["AuditMode", "main"]

_EXAMPLE = "dpft audit --mode conformance task=sst2 adapter=compacter privacy.epsilon=3"
_NO_PROOF = (
    "A pass is no proof: it says that none of the faults that were looked for is there. A lower "
    "bound below epsilon says that this attack did not get further."
)
_MODES = (
    "conformance: the engine, on synthetic records; epsilon: a whole run, attacked and charged; "
    "exposure: secrets planted in generated text; membership: inference on public records; only "
    "epsilon charges a ledger"
)
_CHARGED = "The run is charged to its data set like any other; the model is thrown away."


class AuditMode(str, Enum):
    """What is audited, and how.

    `conformance`: the engine, on synthetic records. `epsilon`: a whole run, attacked. `exposure`:
    secrets planted in generated text. `membership`: inference on public records.
    """

    CONFORMANCE = "conformance"
    EPSILON = "epsilon"
    EXPOSURE = "exposure"
    MEMBERSHIP = "membership"


def main(argv: Sequence[str]) -> int:
    """Audit a configuration.

    Args:
        argv: Flags, and overrides as for `dpft train`.

    Returns:
        0 if nothing speaks against the guarantee, 4 otherwise.

    Raises:
        ConfigurationError: If a setting is wrong.
        BudgetError: In mode epsilon, if the run would exceed a budget; nothing has run.

    Privacy:
        As `dpft.recipes.auditing`: mode conformance reads no record's content, mode epsilon is a
        run that is charged (`tests/recipes/test_audit.py`). The others train on invented or
        published records alone (`tests/recipes/test_audit_public.py`).
    """
    arguments = _parser().parse_args(argv)
    mode = AuditMode(arguments.mode)
    if mode in {AuditMode.CONFORMANCE, AuditMode.EPSILON}:
        passed = _of_configuration(arguments, mode)
    else:
        from dpft.recipes.cli.audit_public import audit_of_exposure, audit_of_membership

        of = audit_of_exposure if mode is AuditMode.EXPOSURE else audit_of_membership
        passed = of(arguments)
    return 0 if passed else BrokenGuaranteeError.exit_code


def _of_configuration(arguments: argparse.Namespace, mode: AuditMode) -> bool:
    _refuse_two_subjects(arguments)
    from dpft.recipes.auditing_files import subject_of_run, subject_of_settings
    from dpft.recipes.preparation import prepare

    if arguments.run is not None:
        subject = subject_of_run(arguments.run)
    else:
        subject = subject_of_settings(arguments.overrides, arguments.output)
    subject.refuse_repetition(attack=mode is AuditMode.EPSILON)
    prepared = prepare(subject.settings)
    if mode is AuditMode.CONFORMANCE:
        found, passed = _conformance(subject, prepared, as_json=arguments.json)
    else:
        found, passed = _epsilon(subject, prepared, arguments.canaries, as_json=arguments.json)
    if arguments.json:
        print(json.dumps(found, indent=2))
    elif subject.place is not None:
        print(f"stated in  {subject.place}")
    return passed


def _refuse_two_subjects(arguments: argparse.Namespace) -> None:
    given = [*arguments.overrides, *([] if arguments.output is None else ["--output"])]
    if arguments.run is not None and given:
        raise ConfigurationError(
            f"Expected run={arguments.run} without {', '.join(given)}. The run says what its "
            "settings were, and the audit lies beside its certificate. Leave one of them out."
        )


def _conformance(
    subject: "Subject", prepared: "Prepared", *, as_json: bool
) -> tuple[dict[str, Any], bool]:
    from dpft.recipes.auditing import conformance_of
    from dpft.recipes.auditing_files import write_verdict

    verdict = conformance_of(prepared)
    write_verdict(subject, verdict)
    if not as_json:
        _print_verdict(verdict)
    return {"mode": AuditMode.CONFORMANCE.value, **_plain(verdict)}, verdict.passed


def _epsilon(
    subject: "Subject", prepared: "Prepared", canaries: int, *, as_json: bool
) -> tuple[dict[str, Any], bool]:
    from dpft.recipes.auditing import attacked_run, epsilon_of
    from dpft.recipes.auditing_files import refuse_other_ledger, write_attack
    from dpft.recipes.cli.ledger_output import booked
    from dpft.recipes.preparation import book_run

    if subject.publication is None and subject.folder.exists():
        raise ConfigurationError(
            f"Expected {subject.folder} to be absent. The audit is charged in the ledger beside it "
            "and leaves no folder of its own. Move it away."
        )
    refuse_other_ledger(subject, prepared.privacy.ledger)
    prepared = attacked_run(prepared, canaries)
    with book_run(prepared, subject.folder) as booking:
        if not as_json:
            print(booked(booking))
            print(_CHARGED)
        found = epsilon_of(prepared, booking, canaries)
    write_attack(subject, found)
    if not as_json:
        _print_bounds(found)
    return {"mode": AuditMode.EPSILON.value, **_plain_bounds(found)}, not found.refuted


def _plain_bounds(found: "EpsilonAudit") -> dict[str, Any]:
    return {
        "trace": dataclasses.asdict(found.trace),
        "published": dataclasses.asdict(found.published),
        "canaries": found.canaries,
        "run": found.run.fields(),
    }


def _plain(verdict: "Verdict") -> dict[str, Any]:
    return {
        "passed": verdict.passed,
        "checks": [dataclasses.asdict(check) for check in verdict.checks],
        "skipped": list(verdict.skipped),
    }


def _print_verdict(verdict: "Verdict") -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    for check in verdict.checks:
        mark = "[green]ok[/]  " if check.passed else "[red]FAIL[/]"
        console.print(f"{mark} {escape(check.name)}: {escape(_found(check))}")
    for reason in verdict.skipped:
        console.print(f"     {escape(reason)}, not checked")
    failed = len(verdict.failed)
    print(f"{len(verdict.checks)} checks, {failed or 'none'} failed")
    print(_NO_PROOF, file=sys.stderr)


def _found(check: "AuditCheck") -> str:
    chance = "" if check.p_value is None else f", p {check.p_value:.2g}"
    return f"{check.found:.4g}{chance} ({check.expected})"


def _print_bounds(found: "EpsilonAudit") -> None:
    claimed, delta = found.trace.claimed, found.trace.delta
    print(f"claimed    epsilon {claimed:.4g} at delta {delta:.3g}, {found.canaries} canaries")
    for name, bounds in (("trace", found.trace), ("published", found.published)):
        print(f"{name:<10} {_bounds(bounds)}")
    print(
        "trace: the attacker sees every iterate; published: the final weights alone. One run "
        "assumes nothing of the mechanism; independent assumes independent canaries, which they "
        "are, and a Gaussian trade-off curve. Attainable: with any number of canaries, if the "
        "claim holds."
    )
    print(_NO_PROOF, file=sys.stderr)


def _bounds(bounds: "Bounds") -> str:
    verdict = "REFUTED" if bounds.refuted else "not refuted"
    return (
        f"epsilon >= {bounds.one_run:.3g} (one run; it could show at most {bounds.ceiling:.3g}), "
        f">= {bounds.independent:.3g} (independent), attainable {bounds.attainable:.3g}: {verdict}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dpft audit", description=__doc__, epilog=_EXAMPLE)
    modes = [mode.value for mode in AuditMode]
    parser.add_argument("--mode", choices=modes, default=modes[0], help=_MODES)
    parser.add_argument(
        "--canaries", type=int, default=1000, metavar="M", help="of mode epsilon (1000)"
    )
    parser.add_argument(
        "--models", type=int, default=32, metavar="K", help="of mode membership (32)"
    )
    subject = "finished run whose settings and software are audited: RUN/audit.json"
    parser.add_argument("--run", type=Path, metavar="RUN", help=subject)
    stated = "file of what was found, as JSON; unset: none, or RUN/audit.json"
    parser.add_argument("--output", type=Path, metavar="FILE", help=stated)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "overrides", nargs="*", metavar="SETTING=VALUE", help="settings as for dpft train"
    )
    return parser
