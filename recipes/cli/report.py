"""`dpft report`: the report of a finished run as HTML, Markdown and JSON. Without torch."""

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

_FOLDER = "report"


def main(argv: Sequence[str]) -> int:
    """Write the report of a run.

    Args:
        argv: The run folder, and options.

    Returns:
        0; every failure is raised.

    Raises:
        ConfigurationError: If the run did not finish, or is of another version.
        BrokenGuaranteeError: If its files were edited or disagree, or the ledger did not charge it.

    Privacy:
        Released values only; nothing is computed from records
        (`tests/dpft/reporting/test_report_verb.py`).
    """
    arguments = _parser().parse_args(argv)

    from dpft.reporting.facts import collect
    from dpft.reporting.writing import write_reports

    facts = collect(arguments.run, arguments.ledger)
    for path in write_reports(facts, arguments.output or arguments.run / _FOLDER):
        print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dpft report", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder written by dpft train")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help=f"where to write; unset: RUN/{_FOLDER}"
    )
    parser.add_argument(
        "--ledger", type=Path, metavar="FILE", help="ledger that charged the run: before and after"
    )
    return parser
