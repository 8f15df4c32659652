"""`dpft report`: the report of finished runs and merges as HTML, Markdown and JSON. No torch."""

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

_FOLDER = "report"


def main(argv: Sequence[str]) -> int:
    """Write the report of a run, of a merge, or of several of them together.

    Args:
        argv: Their folders, and options.

    Returns:
        0; every failure is raised.

    Raises:
        ConfigurationError: If a run did not finish or is of another version, if one is given twice,
            or if runs of one data set differ in what they protect.
        BrokenGuaranteeError: If files were edited or disagree, or the ledger did not charge a run.

    Privacy:
        Released values only; nothing is computed from records
        (`tests/dpft/reporting/test_report_verb.py`).
    """
    arguments = _parser().parse_args(argv)
    written = _one(arguments) if len(arguments.runs) == 1 else _several(arguments)
    for path in written:
        print(path)
    return 0


def _one(arguments: argparse.Namespace) -> tuple[Path, ...]:
    from dpft.errors import ConfigurationError
    from dpft.reporting.facts import collect
    from dpft.reporting.merge_report import write_merge_report
    from dpft.reporting.merges import Merge
    from dpft.reporting.reading import read
    from dpft.reporting.run_report import write_run_report

    (path,) = arguments.runs
    folder = arguments.output or path / _FOLDER
    source = read(path)
    if not isinstance(source, Merge):
        return write_run_report(collect(source, arguments.ledger), folder)
    if arguments.ledger is not None:
        raise ConfigurationError(
            f"Expected ledger={arguments.ledger} to be unset for a merge alone. A ledger charges "
            "its runs, each at its own entry. Name the folders of the runs as well."
        )
    return write_merge_report(source, folder)


def _several(arguments: argparse.Namespace) -> tuple[Path, ...]:
    from dpft.errors import ConfigurationError
    from dpft.reporting.comparison import compare
    from dpft.reporting.comparison_report import write_comparison_report

    if arguments.output is None:
        raise ConfigurationError(
            f"Expected output to be given with {len(arguments.runs)} runs. Their report belongs "
            "to none of their folders. Add --output DIR."
        )
    return write_comparison_report(compare(arguments.runs, arguments.ledger), arguments.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dpft report", description=__doc__)
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="folder of dpft train, dpft.fit or dpft merge; several give a page for each data set",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"where to write; unset: RUN/{_FOLDER}; has to be given for several",
    )
    parser.add_argument(
        "--ledger", type=Path, metavar="FILE", help="ledger that charged the runs: what is left"
    )
    return parser
