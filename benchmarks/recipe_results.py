"""Results of the recipes: GLUE with the MiniLM encoder, E2E and DART with the small decoder.

    python -m benchmarks.recipe_results --runs runs/recipes --plan     cells, minutes, what is left
    python -m benchmarks.recipe_results --runs runs/recipes --trials   heads and learning rates
    python -m benchmarks.recipe_results --runs runs/recipes            trials, then cells
    python -m benchmarks.recipe_results --runs runs/recipes --tables   prints what there is

One cell is one run of the command line. Trials come first; they are judged by parts of training
files that they are not trained on. A finished cell is written into the results, which are
committed; calling again does what is left, and a run that was killed goes on at its last
checkpoint. Cells that do not fit into `--hours` of one core, by estimate, are left out, the least
telling first. Metrics are taken on development records, never on a test file. Cells whose decoder
is not there wait. Needs DPFT_ASSETS.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.recipe_results_cells import (
    DECODER_TASKS,
    Cell,
    Choice,
    Place,
    Trial,
    cells,
    chosen,
    head_of,
    overrides_of,
    rate_of,
    trial_overrides,
    trials,
)
from benchmarks.recipe_results_data import constant_scores, text_scores, write_parts
from benchmarks.recipe_results_tables import tables
from benchmarks.recipe_results_times import minutes_of, minutes_of_trial, split_by_hours
from benchmarks.reporting import machine
from benchmarks.runs import run_or_resume
from dpft.errors import ConfigurationError
from dpft.recipes.base_models import base_model_path
from dpft.run_folder import write_whole

__all__ = ["Bench", "main"]

_RESULTS = Path("docs/results/recipes.json")
_SST2 = (Path("docs/results/sst2.json"), Path("docs/results/adapters.json"))
_HOURS = 8.0


class Bench:
    """Carries out trials and cells, and keeps what came out in a file.

    Args:
        place: Where models and records are.
        runs: Where the run folders go.
        results: The JSON file; may be absent.

    Privacy:
        Each run is a release of its own; the epsilon of a cell is that of one run, without trials.
    """

    def __init__(self, place: Place, runs: Path, results: Path) -> None:
        self._place = place
        self._runs = runs
        self._results = results
        self.found = _read(results)

    def missing(self, among: Iterable[Cell]) -> list[Cell]:
        """Return the cells that are not in the results."""
        done = {cell["name"] for cell in self.found["cells"]}
        return [cell for cell in among if cell.name not in done]

    def untried(self) -> list[Trial]:
        """Return the trials that are not in the results."""
        done = {trial["name"] for trial in self.found["trials"]}
        return [trial for trial in trials() if trial.name not in done]

    def can_run(self, task: str) -> bool:
        """Return whether the model of a task is there."""
        if task not in DECODER_TASKS:
            return True
        try:
            base_model_path(self._place.decoder)
        except ConfigurationError:
            return False
        return True

    def choice_for(self, task: str) -> Choice | None:
        """Return what the trials of the task's model led to, None while some are missing."""
        return chosen("e2e" if task in DECODER_TASKS else "qqp", self.found["trials"])

    def attempt(self, trial: Trial) -> None:
        """Run a trial and write the results."""
        write_parts(self._place)
        reached = run_or_resume(trial_overrides(trial, self._place), self._runs / trial.name)
        figure = "bleu" if trial.task in DECODER_TASKS else "accuracy"
        self._keep("trials", {"name": trial.name, "score": reached[figure], **reached})

    def do(self, cell: Cell) -> None:
        """Run a cell and write the results."""
        choice = self.choice_for(cell.task)
        assert choice is not None, "asked for after its trials"
        write_parts(self._place)
        folder = self._runs / cell.name
        reached = run_or_resume(overrides_of(cell, choice, self._place), folder)
        about = {
            "name": cell.name,
            "task": cell.task,
            "adapter": cell.adapter,
            "target_epsilon": cell.epsilon,
            "untrained": cell.untrained,
            "learning_rate": rate_of(cell, choice),
            "head": None if cell.task in DECODER_TASKS else head_of(cell.task, choice).value,
        }
        if cell.task not in DECODER_TASKS:
            self.found["constants"][cell.task] = constant_scores(cell.task, self._place)
        self._keep("cells", {**about, **reached, **text_scores(cell.task, folder)})

    def _keep(self, kind: str, made: dict[str, Any]) -> None:
        self.found[kind].append(made)
        self._results.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._results, json.dumps(self.found, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is missing, or print the plan or the tables.

    Args:
        argv: Flags; unset: those of the process.

    Returns:
        0.

    Raises:
        CalledProcessError: If a run fails; calling again resumes it.

    Privacy:
        Each cell is a release of its own; the epsilon of a row is that of one run.
    """
    asked = _parser().parse_args(argv)
    assets = Path(os.environ.get("DPFT_ASSETS", "assets"))
    place = Place(assets, (asked.runs / "records").resolve(), asked.decoder)
    bench = Bench(place, asked.runs, asked.results)
    if asked.tables:
        print(tables(bench.found, *map(_read, _SST2)))
        return 0
    trial_minutes = sum(map(minutes_of_trial, trials()))
    fit, left = split_by_hours(cells(), asked.hours - trial_minutes / 60)
    if asked.plan:
        _print_plan(bench, fit, left)
        return 0
    _try(bench, asked.only)
    if not asked.trials:
        _go_on(bench, [cell for cell in fit if _is_asked(cell.name, asked.only)], asked.cells)
    return 0


def _try(bench: Bench, only: str) -> None:
    for trial in bench.untried():
        is_asked = _is_asked(trial.name, only) or not only.startswith("trial")
        if is_asked and bench.can_run(trial.task):
            print(trial.name, flush=True)
            bench.attempt(trial)


def _go_on(bench: Bench, asked: Sequence[Cell], most: int | None) -> None:
    ready = [cell for cell in bench.missing(asked) if bench.choice_for(cell.task) is not None]
    for cell in [cell for cell in ready if bench.can_run(cell.task)][:most]:
        print(f"{cell.name}: about {minutes_of(cell):.0f} minutes", flush=True)
        bench.do(cell)


def _is_asked(name: str, only: str) -> bool:
    return only in name


def _print_plan(bench: Bench, fit: Sequence[Cell], left: Sequence[Cell]) -> None:
    untried = {trial.name for trial in bench.untried()}
    total = 0.0
    for trial in trials():
        total += minutes_of_trial(trial)
        _print_line(trial.name, minutes_of_trial(trial), done=trial.name not in untried)
    missing = {cell.name for cell in bench.missing(fit)}
    for cell in fit:
        total += minutes_of(cell)
        _print_line(cell.name, minutes_of(cell), done=cell.name not in missing)
    print(f"together {total / 60:.1f} processor hours")
    print("left out: " + ", ".join(f"{cell.name} ({minutes_of(cell):.0f})" for cell in left))
    print("left out: SST-2 but for what sst2.json and adapters.json in docs/results hold")


def _print_line(name: str, minutes: float, *, done: bool) -> None:
    print(f"{name:40} {minutes:5.1f} minutes{', done' if done else ''}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="the committed JSON")
    parser.add_argument("--decoder", default="embedded_decoder", help="folder of the decoder")
    parser.add_argument("--hours", type=float, default=_HOURS, help="of one core, by estimate")
    parser.add_argument("--cells", type=int, default=None, help="at most")
    parser.add_argument("--only", default="", metavar="PART", help="of the names of cells")
    parser.add_argument("--plan", action="store_true", help="only say what there is to do")
    parser.add_argument("--trials", action="store_true", help="trials alone")
    parser.add_argument("--tables", action="store_true", help="only print the results")
    return parser


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"machine": machine("cpu"), "trials": [], "constants": {}, "cells": []}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
