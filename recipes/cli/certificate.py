"""`dpft certificate`: show, verify or explain what an artefact may claim. Without torch."""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from dpft.accounting import Certificate, RunRecord
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.explanation import explain, in_words, planned_delta, touched_in_words
from dpft.recipes.cli.console import cell, plain
from dpft.rendering import rounded_up
from dpft.verification import Finding, read_certificate, verify

__all__ = ["main"]

_NAME = 12  # characters of a run's random name that are shown


def main(argv: Sequence[str]) -> int:
    """Show, verify or explain the certificate of a run folder or of an adapter.

    Args:
        argv: The action, the folder, and options.

    Returns:
        0, or 4 if a check of `verify` failed.

    Raises:
        BrokenGuaranteeError: If there is no certificate.
        ConfigurationError: If it is damaged, or the arguments do not fit.

    Privacy:
        Nothing, no data touched: released weights and public numbers
        (`tests/recipes/test_cli_certificate.py`).
    """
    arguments = _parser().parse_args(argv)
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "show": _show,
        "verify": _verify,
        "explain": _explain,
    }
    return actions[arguments.action](arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dpft certificate", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    helps = {
        "show": "the runs and what they spent together",
        "verify": "compute every claim again; exit code 4 if one does not hold",
        "explain": "the same in words",
    }
    for name, meaning in helps.items():
        action = actions.add_parser(name, help=meaning, description=meaning)
        action.add_argument("folder", type=Path, metavar="DIR", help="run folder or adapter")
        if name == "verify":
            action.add_argument("--ledger", type=Path, help="ledger that the runs name")
        else:
            action.add_argument("--delta", type=float, help="unset: that of the plan")
        if name != "explain":
            action.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _show(arguments: argparse.Namespace) -> int:
    certificate = read_certificate(arguments.folder)
    delta = planned_delta(certificate) if arguments.delta is None else arguments.delta
    spent, binding = certificate.binding(delta)
    if arguments.json:
        print(_as_json(certificate, delta, spent))
        return 0
    if math.isinf(spent):
        print("NOT PRIVATE")
    print(f"unit        one {certificate.unit.value}")
    print(f"neighbours  {certificate.adjacency.value}")
    print(f"guarantee   epsilon {rounded_up(spent)} at delta {delta:.3g}")
    print(plain(f"costs of    {', '.join(run.run_id[:_NAME] for run in binding)}"))
    _print_runs(certificate)
    return 0


def _as_json(certificate: Certificate, delta: float, spent: float) -> str:
    values = {
        **certificate.fields(),
        "accountant": certificate.accountant,
        "adjacency": certificate.adjacency.value,
        "delta": delta,
        "epsilon": None if math.isinf(spent) else spent,
        "unit": certificate.unit.value,
    }
    return json.dumps(values, indent=2, allow_nan=False)


def _print_runs(certificate: Certificate) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "data", "mechanism", "started from", "settings")
    for run in certificate.runs:
        table.add_row(*map(cell, _row(run)))
    Console().print(table)


def _row(run: RunRecord) -> tuple[str, ...]:
    inputs = [f"{each.name} ({each.status.value})" for each in run.inputs]
    mechanism = in_words(run.mechanism) if run.private else "NOT PRIVATE"
    return (
        run.run_id[:_NAME],
        touched_in_words(run),
        mechanism,
        ", ".join(inputs),
        run.selection.value,
    )


def _verify(arguments: argparse.Namespace) -> int:
    ledger = None if arguments.ledger is None else _entries_of(arguments.ledger)
    findings = verify(arguments.folder, ledger=ledger)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(each) for each in findings], indent=2))
    else:
        _print_findings(findings)
    holds = all(finding.passed for finding in findings)
    return 0 if holds else BrokenGuaranteeError.exit_code


def _print_findings(findings: Sequence[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        verdict = "ok" if finding.passed else "FAIL"
        print(plain(f"{verdict:<5} {finding.check:<{width}}  {finding.found}"))
    failed = sum(not finding.passed for finding in findings)
    print(f"{failed} of {len(findings)} checks failed" if failed else "every claim holds")


def _entries_of(path: Path) -> Callable[[RunRecord], bool]:
    """Return the question whether a ledger charged a run, after checking the whole of it."""
    from dpft.accounting.ledger.ledger import Ledger
    from dpft.accounting.ledger.quotation import charged

    if not path.is_file():
        raise ConfigurationError(
            f"Expected ledger={path} to exist. There is nothing to compare with. Name the file "
            "that charged the runs."
        )
    with Ledger.read(path) as ledger:
        entries = ledger.entries()
    return lambda run: charged(entries, run)


def _explain(arguments: argparse.Namespace) -> int:
    print(plain(explain(read_certificate(arguments.folder), arguments.delta)))
    return 0
