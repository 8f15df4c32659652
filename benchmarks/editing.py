"""Task arithmetic on private vectors: addition, forgetting, analogy at several epsilons.

    python -m benchmarks.editing --runs runs/editing             does what is missing
    python -m benchmarks.editing --runs runs/editing --plan      says what is missing
    python -m benchmarks.editing --runs runs/editing --tables    prints what there is

First come trials of learning rates, judged by rows that nothing is trained on. A cell is one
experiment at one epsilon in one repetition. It trains the vectors that it needs and that are not
there, each a run with its own folder, certificate and charge, and appends itself and its runs to
the results, which are committed. Calling again does what is left; a run that was killed goes on at
its last checkpoint. One process, one thread. Needs DPFT_ASSETS; with `--mergekit PYTHON`, the
interpreter of an environment that has it, its sums are added.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.editing_cells import (
    Cell,
    Experiment,
    Trial,
    cells,
    chosen_rate,
    schedule_of,
    trials,
)
from benchmarks.editing_tables import tables
from benchmarks.reporting import machine
from dpft.errors import BrokenGuaranteeError
from dpft.ledger_place import FILE_NAME as LEDGER
from dpft.recipes.editing.addition import TASKS, accuracies, added, normalised
from dpft.recipes.editing.analogy import Analogy, moved
from dpft.recipes.editing.charged import charged_for
from dpft.recipes.editing.forgetting import forgotten, random_direction
from dpft.recipes.editing.judging import Judges
from dpft.recipes.editing.others import MERGEKIT_METHODS, PEFT_TYPES, by_mergekit, by_peft
from dpft.recipes.editing.runs import Place, TrainingRun, finished, train, vector_of
from dpft.recipes.tasks.corpus import JudgedBy
from dpft.run_folder import write_whole
from dpft.taskvectors import TaskVector

__all__ = ["Bench", "main"]

_RESULTS = Path("docs/results/editing.json")
_DIRECTION_SEED = 20_261


class Bench:
    """Carries out cells, and keeps what came out in a file.

    Args:
        place: Where models, data and run folders are.
        results: The JSON file; may be absent.
        mergekit: Interpreter of an environment with mergekit, or None.

    Privacy:
        Every run is a release of its own, charged in the ledger beside the run folders.
    """

    def __init__(self, place: Place, results: Path, mergekit: str | None = None) -> None:
        self._place = place
        self._results = results
        self._mergekit = mergekit
        self._known_judges: Judges | None = None
        self.found = _read(results)

    def missing(self) -> list[Cell]:
        """Return the cells that are not in the results, the most telling first."""
        done = {cell["name"] for cell in self.found["cells"]}
        return [cell for cell in cells() if cell.name not in done]

    def untrained(self, cell: Cell) -> list[TrainingRun]:
        """Return the runs that a cell waits for."""
        return [run for run in cell.runs() if not finished(self._place, run)]

    def untried(self) -> list[Trial]:
        """Return the trials that are not in the results."""
        done = {trial["name"] for trial in self.found["trials"]}
        return [trial for trial in trials() if trial.name not in done]

    def try_rate(self, trial: Trial) -> None:
        """Train one vector at one learning rate, judge it, and write the results."""
        runs, ledger = self._place.runs, self._place.runs / LEDGER
        place = dataclasses.replace(self._place, runs=runs / "trials" / trial.folder, ledger=ledger)
        if not finished(place, trial.run):
            train(place, trial.run, trial.schedule)
        judge = self._judges.of(trial.run.corpus, JudgedBy.KEPT_BACK)
        edited = vector_of(place, trial.run).apply_to(self._judges.base)
        about = {
            "name": trial.name,
            "private": trial.run.epsilon is not None,
            "corpus": trial.run.corpus.value,
            **dataclasses.asdict(trial.schedule),
        }
        measured = {"records": judge.records, "accuracy": judge.accuracy(edited)}
        self._keep("trials", {**about, **measured})

    def do(self, cell: Cell) -> None:
        """Train what a cell needs, measure it, and write the results."""
        for run in self.untrained(cell):
            rate = chosen_rate(self.found["trials"], private=run.epsilon is not None)
            facts = train(self._place, run, schedule_of(run, rate))
            self._keep("runs", {"name": run.name, **facts})
        try:
            measured = _MEASURES[cell.experiment](self, cell)
        except BrokenGuaranteeError as error:  # of this cell; the others go on
            measured = {"refused": str(error)}
        about = {"experiment": cell.experiment.value, "epsilon": cell.epsilon}
        place = {"repetition": cell.repetition, "target": cell.target and cell.target.value}
        self._keep("cells", {"name": cell.name, **about, **place, **measured})

    @property
    def _judges(self) -> Judges:
        if self._known_judges is None:
            self._known_judges = Judges(self._place)
        return self._known_judges

    def _keep(self, kind: str, made: dict[str, Any]) -> None:
        """Put an entry in the place of any of its name, and write the file whole."""
        self.found[kind] = [old for old in self.found[kind] if old["name"] != made["name"]] + [made]
        self._results.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._results, json.dumps(self.found, indent=1) + "\n")

    def _added(self, cell: Cell) -> dict[str, Any]:
        vectors = {run.corpus: vector_of(self._place, run) for run in cell.runs()}
        measured = added(self._judges, vectors)
        made = self._by_others(list(vectors.values()), measured["coefficient"])
        own = measured["own"]
        found = {name: accuracies(self._judges, model, vectors) for name, model in made.items()}
        others = {
            name: {"sum": reached, "normalised": normalised(reached, own)}
            for name, reached in found.items()
        }
        return {**measured, "others": others}

    def _by_others(self, vectors: list[TaskVector], coefficient: float) -> dict[str, nn.Module]:
        """Return the models that other tools make of the same vectors."""
        base = self._judges.base
        made = {f"peft {kind}": by_peft(base, vectors, coefficient, kind) for kind in PEFT_TYPES}
        if self._mergekit is not None:
            for method in MERGEKIT_METHODS:
                model = by_mergekit(self._mergekit, base, vectors, coefficient, method)
                made[f"mergekit {method}"] = model
        return made

    def _forgotten(self, cell: Cell) -> dict[str, Any]:
        assert cell.target is not None, "every cell of this kind has one"
        learnt, opposed = (vector_of(self._place, run) for run in cell.runs())
        judges, base = self._judges, self._judges.base
        controls = [corpus for corpus in TASKS if corpus is not cell.target]
        drawn = random_direction(base, learnt.apply_to(base), _DIRECTION_SEED + cell.repetition)
        edits = {
            "negation": lambda coefficient: (-learnt).apply_to(base, coefficient),
            "gradient ascent": lambda coefficient: opposed.apply_to(base, coefficient),
            "random vector": drawn,
        }
        found = {name: forgotten(judges, cell.target, controls, e) for name, e in edits.items()}
        return {"edits": found, "certificate": charged_for([-learnt])}

    def _moved(self, cell: Cell) -> dict[str, Any]:
        assert cell.target is not None, "every cell of this kind has one"
        sentiment, here, there, own = (vector_of(self._place, run) for run in cell.runs())
        judges = self._judges
        made = moved(judges, cell.target, Analogy(sentiment=sentiment, here=here, there=there))
        reached = judges.of(cell.target).accuracy(own.apply_to(judges.base))
        return {**made, "own": reached}


_MEASURES = {
    Experiment.ADDITION: Bench._added,  # noqa: SLF001 - its own
    Experiment.ADDITION_OF_LORA: Bench._added,  # noqa: SLF001 - its own
    Experiment.FORGETTING: Bench._forgotten,  # noqa: SLF001 - its own
    Experiment.ANALOGY: Bench._moved,  # noqa: SLF001 - its own
}


def main(argv: Sequence[str] | None = None) -> int:
    """Do the cells that are missing, or print what there is.

    Args:
        argv: Flags; unset: those of the process.

    Returns:
        0.

    Privacy:
        Each run is a release of its own; what an edit owes stands in its cell.
    """
    chosen = _parser().parse_args(argv)
    torch.set_num_threads(1)
    model = chosen.model or str(Path(os.environ["DPFT_ASSETS"], "models", "minilm-l6"))
    bench = Bench(Place(runs=chosen.runs, model=model), chosen.results, chosen.mergekit)
    if chosen.tables:
        print(tables(bench.found))
        return 0
    _go_on(bench, chosen.cells, plan=chosen.plan)
    return 0


def _go_on(bench: Bench, most: int | None, *, plan: bool) -> None:
    for trial in bench.untried():
        print(f"trial {trial.name}", flush=True)
        if not plan:
            bench.try_rate(trial)
    for cell in bench.missing()[:most]:
        print(f"{cell.name}: {len(bench.untrained(cell))} runs to train", flush=True)
        if not plan:
            bench.do(cell)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="the committed JSON")
    parser.add_argument("--cells", type=int, default=None, help="at most")
    parser.add_argument("--model", default=None, help="folder of the base model")
    parser.add_argument("--mergekit", default=None, metavar="PYTHON", help="has mergekit")
    parser.add_argument("--plan", action="store_true", help="only say what is missing")
    parser.add_argument("--tables", action="store_true", help="only print the results")
    return parser


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"machine": machine("cpu"), "trials": [], "runs": [], "cells": []}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
