"""Parts of public files that the tables of the recipes need, and what a constant would score.

QQP's 40,430 held-out pairs take minutes to judge: 4,000 evenly spaced ones do. Trials never see
held-out records of a benchmark: they are trained on and judged by parts of its training file.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.recipe_results_cells import DECODER_TASKS, Place
from dpft.privacy import EvaluationStatus
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.generation.judging import words_apart
from dpft.recipes.metrics import glue_metric, metric
from dpft.recipes.metrics.measurement import measure
from dpft.recipes.tasks import Split, build_task

__all__ = ["constant_scores", "text_scores", "write_parts"]

_JUDGED_PAIRS = 4_000
_HELD_OUT_PAIRS, _JUDGED_IN_TRIALS = 3_000, 1_500
_ONE_TABLE_IN = 50  # of E2E's training file, 98 tables in all, is kept back for trials
_MISSING_IN_DART = ("rouge_l", "nist")


def write_parts(place: Place) -> None:
    """Write the parts that are not there.

    Args:
        place: Where the assets are and the parts go.

    Privacy:
        Copies records of public benchmarks.
    """
    glue, nlg = place.assets / "data" / "glue", place.assets / "data" / "nlg"
    if not (place.records / "qqp" / "validation.parquet").exists():
        every = pq.read_table(glue / "qqp" / "validation.parquet")
        judged = every.take(list(range(0, len(every), -(-len(every) // _JUDGED_PAIRS))))
        pairs = pq.read_table(glue / "qqp" / "train_part.parquet")
        _write(place.records / "qqp", "train_part", pairs, judged)
        kept, rest = pairs[:-_HELD_OUT_PAIRS], pairs[-_HELD_OUT_PAIRS:]
        _write(place.records / "qqp_trials", "train_part", kept, rest[:_JUDGED_IN_TRIALS])
    if not (place.records / "e2e_trials" / "validation.parquet").exists():
        tables = pq.read_table(nlg / "e2e" / "train.parquet")
        back = pa.array(_is_kept_back(name.as_py()) for name in tables["meaning_representation"])
        trained = tables.filter(pc.invert(back))
        _write(place.records / "e2e_trials", "train", trained, tables.filter(back))


def constant_scores(task: str, place: Place) -> dict[str, float | int]:
    """Return what the commonest label of the training records scores on held-out ones.

    Args:
        task: Name of a task of GLUE.
        place: Where records are.

    Returns:
        The figures of GLUE and `records`, the number that is judged. No figures for STS-B: the
        correlation of a constant, the mean similarity among them, is not defined.

    Privacy:
        Reads records of public benchmarks; no guarantee covers the commonest label.
    """
    path = [f"task.path={place.records / 'qqp'}"] if task == "qqp" else []
    settings = compose_settings([f"task={task}", *path]).task
    trained, judged = (
        build_task(settings).load(split) for split in (Split.TRAIN, Split.VALIDATION)
    )
    labels = [row["label"] for row in judged]
    if task == "stsb":
        return {"records": len(labels)}
    commonest = Counter(row["label"] for row in trained).most_common(1)[0][0]
    measured = measure(
        glue_metric(task), [commonest] * len(labels), labels, EvaluationStatus.PUBLIC
    )
    return {"records": len(labels), **measured.values}


def text_scores(task: str, folder: Path) -> dict[str, float | int]:
    """Return the number of judged tables, and figures of texts that the run did not take.

    Args:
        task: Name of the task.
        folder: The run folder.

    Returns:
        `tables`; for DART ROUGE-L and NIST, of words in lower case, as its BLEU.

    Privacy:
        Reads texts that were released.
    """
    if task not in DECODER_TASKS:
        return {}
    lines = (folder / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    found: dict[str, float | int] = {"tables": len(rows)}
    for name in _MISSING_IN_DART if task == "dart" else ():
        measured = measure(
            metric(name),
            [words_apart(row["written"]) for row in rows],
            [[words_apart(text) for text in row["references"]] for row in rows],
            EvaluationStatus.PUBLIC,
        )
        found |= measured.values
    return found


def _is_kept_back(table: str) -> bool:
    return int(hashlib.sha256(table.encode()).hexdigest(), 16) % _ONE_TABLE_IN == 0


def _write(folder: Path, stem: str, trained: pa.Table, judged: pa.Table) -> None:
    """Write both files, that which says that the folder is complete last."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(trained, folder / f"{stem}.parquet")
    pq.write_table(judged, folder / "validation.parquet")
