"""Files that somebody else may have written: read up to a bound, or refused before.

The bounds lie far above what is ever written, and far below what fills a memory.
"""

from pathlib import Path

from dpft.accounting.canonical_json import LONGEST_JSON
from dpft.accounting.errors import ConfigurationError

__all__ = ["bounded_bytes", "bounded_text"]


def bounded_bytes(path: Path, most: int) -> bytes:
    """Read a file whole.

    Args:
        path: The file; a symbolic link is followed.
        most: Largest size that is read, bytes.

    Returns:
        Its content.

    Raises:
        ConfigurationError: If there is no such file, it is a device or a pipe, or it is larger.

    Privacy:
        Nothing, no data touched (`tests/accounting/test_bounded_files.py`).
    """
    if not path.is_file():  # a pipe would keep whoever reads it waiting
        raise ConfigurationError(
            f"Expected {path} to be a file. There is nothing to read. Correct the path, or take "
            "the folder as it was written."
        )
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ConfigurationError(
            f"Expected {path} to be readable ({error.strerror}). Give the right to read it."
        ) from error
    if len(content) > most:
        raise ConfigurationError(
            f"Expected {path} to be of at most {most} bytes. What is written here is far smaller, "
            "and a larger file may be meant to fill the memory. Take the file as it was written."
        )
    return content


def bounded_text(path: Path, most: int = LONGEST_JSON) -> str:
    """Read a file of text in UTF-8.

    Args:
        path: The file; a symbolic link is followed.
        most: Largest size that is read, bytes.

    Returns:
        Its content, line ends as they stand.

    Raises:
        ConfigurationError: As `bounded_bytes`, or if the file is not in UTF-8.

    Privacy:
        Nothing, no data touched.
    """
    try:
        return bounded_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"Expected {path} to be text in UTF-8. What it says would have to be guessed. Take the "
            "file as it was written."
        ) from error
