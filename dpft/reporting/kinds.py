"""Which kind of folder a report is to be made of. What cannot be told is refused."""

from enum import Enum
from pathlib import Path

from dpft.accounting import DpftError
from dpft.accounting.bounded_files import bounded_text
from dpft.accounting.publication import Publication
from dpft.errors import ConfigurationError
from dpft.preflight_statement import PREFLIGHT, PreflightStatement
from dpft.verification import CERTIFICATE

__all__ = ["EXPRESSION", "Kind", "kind_of"]

EXPRESSION = "expression.json"
_OF_A_RUN = ("adapter", "charges.jsonl", "config.yaml", "metrics.json", "report.md")


class Kind(str, Enum):
    """What made a folder.

    `run`: `dpft train`, with settings and metrics. `python`: `dpft.fit` without a settings file.
    `merge`: `dpft merge`, or a task vector that was saved.
    """

    RUN = "run"
    PYTHON = "python"
    MERGE = "merge"


def kind_of(folder: Path) -> Kind:
    """Tell what made a folder.

    Args:
        folder: An existing folder.

    Returns:
        `python` only where the certificate vouches for a statement that there was no settings file:
        a run of `dpft train` that lost files stays one, and its report is refused.

    Raises:
        ConfigurationError: If there is no such folder, or it holds files of both a merge and a run.

    Privacy:
        Nothing, no data touched (`test_a_run_that_lost_its_settings_is_not_one_made_in_python`).
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"Expected run={folder} to exist. There is nothing to report. Name the folder of a "
            "finished run, or of a merge."
        )
    if (folder / EXPRESSION).exists():
        _refuse_mixed(folder)
        return Kind.MERGE
    return Kind.PYTHON if _was_made_in_python(folder) else Kind.RUN


def _refuse_mixed(folder: Path) -> None:
    found = [name for name in _OF_A_RUN if (folder / name).exists()]
    if found:
        raise ConfigurationError(
            f"Expected {folder} to hold a run or a merge, found {EXPRESSION} and "
            f"{', '.join(found)}. Of which of them a report would speak cannot be told. Take the "
            "folder as it was written."
        )


def _was_made_in_python(folder: Path) -> bool:
    try:
        published = Publication.from_json(bounded_text(folder / CERTIFICATE))
        stated = PreflightStatement.from_json(bounded_text(folder / "adapter" / PREFLIGHT))
    except DpftError:
        return False  # read as a run, which says what is missing or damaged
    return stated.settings is None and stated.digest == published.preflight
