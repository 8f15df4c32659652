"""Reads records from CSV, JSON lines and Parquet files, and says where a file is malformed.

Nothing is cached, and no message quotes what stands in a file: a message names the file, the row
and the column. Rows are counted from 1, a header line not included.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpft.errors import ConfigurationError
from dpft.recipes.tasks.task import Row

__all__ = [
    "FORMATS",
    "first_problems",
    "is_text",
    "labelled_rows",
    "read_rows",
    "row_problem",
    "table_in",
]

_MAX_PROBLEMS = 5  # more rows with the same mistake teach nothing
_MOST_BYTES = 4 << 30  # of a file, and of what unpacks from one
_MOST_ROWS = 10_000_000
_ROWS_AT_ONCE = 4096


def read_rows(path: Path, columns: Iterable[str]) -> list[Row]:
    """Read the named columns of a file.

    Args:
        path: File that ends in .csv, .jsonl or .parquet.
        columns: Columns that must be there; others are not read into the rows.

    Returns:
        One row per record, in the order of the file.

    Raises:
        ConfigurationError: If the file is missing, of another format, lacks a column, or is larger
            than 4 GiB or ten million rows, also if it is packed and only unpacks to so much.

    Privacy:
        Reads raw records. Messages name files, rows and columns, never content
        (`tests/recipes/test_tables.py::test_messages_never_quote_the_file`).
    """
    if path.suffix not in FORMATS:
        raise ConfigurationError(
            f"Expected file={path.name} to end in one of {', '.join(FORMATS)}. "
            "The format is told by the ending. Convert or rename the file."
        )
    if not path.is_file():
        raise ConfigurationError(
            f"Expected file={path} to exist. There is nothing to read. Correct the path."
        )
    if path.stat().st_size > _MOST_BYTES:
        raise _too_large(path)
    wanted = tuple(columns)
    return [_only(path, number, row, wanted) for number, row in enumerate(_rows(path, wanted), 1)]


def table_in(folder: Path, stem: str) -> Path:
    """Return the file of a folder that holds a split, whatever its format.

    Args:
        folder: Folder of a data set.
        stem: Name of the split, as in "train".

    Returns:
        Path of the first of `stem`.parquet, .jsonl, .csv that exists.

    Raises:
        ConfigurationError: If there is none.

    Privacy:
        Nothing, no data touched: only names of files are looked at.
    """
    found = [folder / f"{stem}{ending}" for ending in FORMATS]
    for path in found:
        if path.is_file():
            return path
    raise ConfigurationError(
        f"Expected folder={folder} to hold {' or '.join(path.name for path in found)}. "
        "A data set is one file per split. Correct task.path."
    )


def labelled_rows(
    path: Path, rows: list[Row], *, text: str, label: str, index_of: Callable[[Any], int | None]
) -> list[Row]:
    """Check texts and turn labels into indices.

    Args:
        path: File the rows came from, for messages.
        rows: The rows.
        text: Column of the text, which must be non-empty text.
        label: Column of the label.
        index_of: Turns the value of the label column into an index, or None if it is no label.

    Returns:
        Rows with fields `text` and `label`.

    Raises:
        ConfigurationError: If a text or a label is malformed; the first few rows are named.

    Privacy:
        Keeps raw records. Messages name rows and columns, never content.
    """
    problems: list[str] = []
    checked: list[Row] = []
    for number, row in enumerate(rows, 1):
        index = index_of(row[label])
        if not is_text(row[text]) or not row[text].strip():
            problems.append(row_problem(path, number, text, "hold text that is not empty"))
        if index is None:
            problems.append(row_problem(path, number, label, "be one of the declared labels"))
        checked.append({"text": row[text], "label": index})
    if problems:
        raise ConfigurationError(first_problems(problems))
    return checked


def is_text(value: Any) -> bool:
    """Return whether a value is text in Unicode: half of a surrogate pair, as in JSON, is none.

    Args:
        value: Any value of a file.

    Privacy:
        Nothing is kept or released.

    Example:
        >>> is_text("a"), is_text(chr(0xD800)), is_text(1)
        (True, False, False)
    """
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def first_problems(problems: list[str]) -> list[str]:
    """Return the first few messages on a file, and that there are more.

    Privacy:
        Nothing, no data touched.
    """
    more = len(problems) > _MAX_PROBLEMS
    return problems[:_MAX_PROBLEMS] + (
        ["More rows of the file have such problems."] if more else []
    )


def row_problem(path: Path, number: int, column: str, rule: str) -> str:
    """Return the message on a malformed record.

    Args:
        path: The file; its name alone is shown.
        number: Row, counted from 1 without the header line.
        column: The column.
        rule: What was expected of it, as in "hold a value".

    Privacy:
        Names the place, never what stands there.
    """
    return (
        f"Expected file={path.name} row={number} column={column} to {rule}. "
        "A malformed record would be learnt as it stands. Correct or remove the row."
    )


def _only(path: Path, number: int, row: Row, columns: tuple[str, ...]) -> Row:
    for column in columns:
        if column not in row or row[column] is None:
            raise ConfigurationError(row_problem(path, number, column, "hold a value"))
    return {column: row[column] for column in columns}


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    return FORMATS[path.suffix](path, columns)


def _require(path: Path, columns: tuple[str, ...], present: Iterable[str]) -> None:
    there = sorted(present)
    missing = [column for column in columns if column not in there]
    if missing:
        raise ConfigurationError(
            f"Expected file={path.name} to have the column {' and '.join(missing)}. "
            f"{_what_is_there(columns, there)} Set the settings of the task that name columns, as "
            "task.text_column, or rename the columns."
        )
    twice = [column for column in columns if there.count(column) > 1]
    if twice:
        raise ConfigurationError(
            f"Expected file={path.name} to have the column {' and '.join(twice)} once. Nothing "
            "says which of them is meant. Rename or remove the others."
        )


def _what_is_there(columns: tuple[str, ...], there: list[str]) -> str:
    """Name the columns, unless none is asked for: a first record may stand there instead."""
    if there and not set(columns) & set(there):
        return "It has none of those asked for; in CSV the first line names columns."
    return f"It has {', '.join(there) or 'none'}."


def _csv(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    rule = f"be valid CSV, in fields of at most {csv.field_size_limit()} characters"
    number = 0
    try:
        _require(path, columns, reader.fieldnames or ())
        for number, row in enumerate(reader, 1):
            if None in row:  # what follows an unquoted comma stands in other columns than its own
                raise ConfigurationError(
                    row_problem(path, number, "any", "hold as many fields as the header")
                )
            yield row
    except csv.Error:
        raise ConfigurationError(row_problem(path, number + 1, "any", rule)) from None


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    raise ConfigurationError(
        f"Expected file={path.name} line={line} to be UTF-8. Another encoding would garble the "
        "text. Convert the file to UTF-8."
    )


def _jsonl(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    del columns  # every line has its own columns: they are checked row by row
    lines = path.read_bytes().splitlines()
    for number, line in enumerate((line for line in lines if line.strip()), 1):
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError):  # UnicodeDecodeError included
            row = None
        if not isinstance(row, dict):
            rule = "be one JSON object without repeated keys"
            raise ConfigurationError(row_problem(path, number, "any", rule))
        yield row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raise if a key stands in it twice, since nobody says which is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _parquet(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    from pyarrow import parquet

    with _said_of(path):
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
    _require(path, columns, names)
    with _said_of(path):
        rows = _unpacked(path, file, columns)
    yield from rows


def _unpacked(path: Path, file: Any, columns: tuple[str, ...]) -> list[Row]:
    """Return rows; a packed file says itself how large it is, and need not say the truth."""
    if file.metadata.num_rows > _MOST_ROWS:
        raise _too_large(path)
    rows: list[Row] = []
    reached = 0
    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(columns)):
        reached += batch.nbytes
        if reached > _MOST_BYTES or len(rows) > _MOST_ROWS:
            raise _too_large(path)
        rows += batch.to_pylist()
    return rows


def _too_large(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"Expected file={path.name} to hold at most {_MOST_ROWS} rows in {_MOST_BYTES >> 30} GiB. "
        "All records are held in memory. Leave out columns, or split the file."
    )


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises into an error that quotes nothing."""
    from pyarrow import ArrowException

    try:
        yield
    except ConfigurationError:  # is a ValueError as well
        raise
    except (ArrowException, OSError, OverflowError, ValueError):  # UnicodeDecodeError included
        raise ConfigurationError(
            f"Expected file={path.name} to be a Parquet file. It cannot be read, or holds text "
            "that is no UTF-8, or times that no calendar has. Write it anew."
        ) from None


FORMATS: dict[str, Callable[[Path, tuple[str, ...]], Iterator[Row]]] = {
    ".parquet": _parquet,
    ".jsonl": _jsonl,
    ".csv": _csv,
}
