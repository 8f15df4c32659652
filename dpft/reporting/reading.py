"""Reads any folder that a report can be made of, and refuses what does not hold together."""

from pathlib import Path

from dpft.errors import BrokenGuaranteeError
from dpft.reporting.agreement import disagreements
from dpft.reporting.kinds import Kind, kind_of
from dpft.reporting.merges import Merge, read_merge
from dpft.reporting.sources import Sources, read_sources

__all__ = ["Source", "read", "read_run"]

Source = Sources | Merge


def read(path: Path | str) -> Source:
    """Read a folder of a run or of a merge.

    Args:
        path: The folder.

    Returns:
        What its files say.

    Raises:
        ConfigurationError: As for `read_sources` and `read_merge`.
        BrokenGuaranteeError: If the certificate does not hold, or two files disagree.

    Privacy:
        Nothing, no data touched.
    """
    folder = Path(path)
    return read_merge(folder) if kind_of(folder) is Kind.MERGE else read_run(folder)


def read_run(path: Path | str) -> Sources:
    """Read the folder of a finished run.

    Args:
        path: Folder written by `dpft train` or `dpft.fit`.

    Returns:
        What its files say.

    Raises:
        ConfigurationError: If the run did not finish, or a file is of another version.
        BrokenGuaranteeError: If the certificate does not hold for the weights beside it, or two
            files disagree.

    Privacy:
        Nothing, no data touched. A file that was edited gives no report
        (`test_a_folder_that_was_edited_is_refused`), and neither does a metric of private records
        without noise (`test_a_metric_that_is_neither_public_nor_noisy_is_refused`).
    """
    sources = read_sources(path)
    problems = disagreements(sources)
    if problems:
        raise BrokenGuaranteeError(
            f"Expected the files of run={sources.folder.path} to agree: {'; '.join(problems)}. "
            "One of them was edited, and a report cannot say which. Take the folder as the run "
            "wrote it."
        )
    return sources
