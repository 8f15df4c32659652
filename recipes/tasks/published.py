"""Which files hold the held-out records of a benchmark as they were published: told by content.

A folder that `task.path` names may hold anybody's records in the format of a benchmark. They count
as public if they are the published ones, and otherwise only if somebody says so.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from dpft.privacy import EvaluationStatus
from dpft.recipes.tasks.tables import read_rows
from dpft.recipes.tasks.task import Row

__all__ = ["PUBLISHED", "digest_of_rows", "status_of_copy"]

_DIGITS = 32  # 128 bits: no other file can be made to fit
PUBLISHED: dict[str, str] = {
    "glue/cola/validation": "01b27116138cb13ee1fedef895e3c99b",
    "glue/mnli/validation_matched": "6964f45d9babde63977c1fd9dd042736",
    "glue/mnli/validation_mismatched": "891d6e406dcf36b0a14dd1868985cac2",
    "glue/mrpc/validation": "c051d2a9c1a79dc77bd1d0d1047f986c",
    "glue/qnli/validation": "96260e6a43832caf22417d8a8f70546f",
    "glue/qqp/validation": "515627b0f66b43c4ba961501ed8824bd",
    "glue/rte/validation": "a63c003ea61cebf40bcbc2d4b2966a73",
    "glue/sst2/train": "ea1942651c1e01fa0aec44c62a7d399f",
    "glue/sst2/validation": "f8ee3928f8d2b90bdbc715315d008a88",
    "glue/stsb/validation": "57a5f50a902fb6eba7ae779afb356be4",
    "glue/wnli/validation": "d385b280493860bfc7338934bd510bee",
    "nlg/dart/test": "909b67eafe177bc736333bfb7cf8c512",
    "nlg/dart/validation": "4f621f61335a2355068ea22f41ed8526",
    "nlg/e2e/test": "84729f78360b3b059073db6ec8aea80f",
    "nlg/e2e/validation": "d87d3ae74259e7b44dd22a408fdbfff1",
    "nlg/webnlg_2017/validation": "e96e6ddd97d359d87e19a5f30e292f3e",
    "textcls/ag_news/test": "c23c48256dc46d56a152a947eade7a65",
    "textcls/ag_news/train_part": "3f5a3244d26b6fd9eb76ee2bb9324216",
    "textcls/emotion/test": "1190e70c9b01e9d2e97dd31eb3a711be",
    "textcls/emotion/train": "ec0b7204c27a96c3c090369e3528e66a",
    "textcls/fdu_mtl/test": "b2c27d0313e93b157137fab118bd4566",
    "textcls/fdu_mtl/train": "af0e7496b92db3a247977dc453ff992d",
    "textcls/trec/test": "5dceba594af7677f760e7a6f3d596322",
    "textcls/trec/train": "53d20fa51b669daf67a6900824177776",
}
"""Digests of the columns that a task reads, by file in the assets folder."""


def status_of_copy(
    folder: str | None, file: Path | None, columns: Iterable[str]
) -> EvaluationStatus | None:
    """Return what a metric on the held-out records of a benchmark costs, unless somebody says so.

    Args:
        folder: What `task.path` names; None where the records come from the assets folder or the
            Hub.
        file: File of the held-out records, None if there is none.
        columns: Columns that the task reads of it.

    Returns:
        Public for published records, None for others: then there is no metric.

    Privacy:
        Compares raw records with public digests; nothing is released
        (`test_records_of_others_in_the_format_of_a_benchmark_are_not_public`).
    """
    if folder is None:
        return EvaluationStatus.PUBLIC
    if file is None or not file.is_file():
        return None
    chosen = tuple(columns)
    try:
        is_known = digest_of_rows(read_rows(file, chosen), chosen) in PUBLISHED.values()
    except RecursionError:  # values too deep to be written again: no benchmark has them
        return None
    return EvaluationStatus.PUBLIC if is_known else None


def digest_of_rows(rows: Iterable[Row], columns: Iterable[str]) -> str:
    """Return SHA-256 over the rows, whatever their order and the format of the file.

    Args:
        rows: Rows of a file.
        columns: Columns that count.

    Privacy:
        Raw: whoever knows it can test who is in the file. It is compared and forgotten.
    """
    chosen = tuple(columns)
    lines = sorted(_digest([_plain(row[column]) for column in chosen]) for row in rows)
    return hashlib.sha256(b"".join(lines)).hexdigest()[:_DIGITS]


def _plain(value: object) -> object:
    """Return a number as text: in CSV it is one."""
    return str(value) if isinstance(value, int | float) else value


def _digest(values: list[object]) -> bytes:
    return hashlib.sha256(json.dumps(values, default=str).encode()).digest()
