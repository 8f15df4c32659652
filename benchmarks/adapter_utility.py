"""Accuracy of every adapter on SST-2 with the MiniLM encoder at epsilon 8, one pass over the data.

    python -m benchmarks.adapter_utility --runs runs/adapters             the table
    python -m benchmarks.adapter_utility --runs runs/trials --trials      learning rates, held out

One cell is one run of the command line. Trials choose the learning rate: 20 steps with an expected
batch of 256, the noise for each record that the runs of the table have, trained on a part of the
training file and judged by 2,000 longer sentences of the rest. Finished cells are appended to the
results, which are committed; calling again does what is missing. Needs DPFT_ASSETS.
"""

import argparse
import dataclasses
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting import markdown, save
from benchmarks.runs import results_in, run_or_resume

__all__ = ["Cell", "main", "table", "table_cells", "trial_cells"]

_RESULTS = Path("docs/results/adapters.json")
_TRIALS = Path("docs/results/adapter_trials.json")
_LINEAR = "adapter.target_modules=[query,key,value,dense]"
# What an adapter is given beside its defaults, and the learning rates that are tried.
_ADAPTERS: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "lora": ((_LINEAR,), (4e-3, 1e-2)),
    "ffa_lora": ((_LINEAR,), (1e-2, 2e-2)),
    "bottleneck": (("adapter.placement=pfeiffer",), (4e-3, 1e-2)),
    "compacter": ((), (1e-2, 2e-2)),
    "ia3": ((), (2e-2, 5e-2)),
    "bitfit": ((), (1e-2, 2e-2)),
    "prefix": ((), (2e-2, 5e-2)),
    "prompt": ((), (5e-2, 1.5e-1)),
    "attempt": (("adapter.temperature=1.0",), (5e-2, 1.5e-1)),
}
_COMMON = (
    "task=sst2",
    "architecture.head=descriptions",
    "architecture.train_head=false",
    "privacy.delta=1e-5",
)
_BATCH, _NOISE = 1024, 0.485  # epsilon 8 in one pass of 66 steps
_TRIAL_BATCH, _TRIAL_STEPS = 256, 20
_HELD_OUT_ROWS, _JUDGED, _LONG = 6_000, 2_000, 8


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run.

    Args:
        adapter: Name of the method.
        learning_rate: Of Adam, decaying to 0.
        folder: Folder with the records of a trial; None: all records and the public validation.

    Privacy:
        Nothing, no data touched.
    """

    adapter: str
    learning_rate: float
    folder: Path | None = None

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return f"{self.adapter}_{self.learning_rate:g}"

    def overrides(self) -> list[str]:
        """Return what the command line is given."""
        model = Path(os.environ["DPFT_ASSETS"], "models", "minilm-l6")
        length = ["privacy.epsilon=8", f"privacy.expected_batch_size={_BATCH}", "privacy.epochs=1"]
        if self.folder is not None:
            length = [
                f"task.path={self.folder}",
                "privacy.evaluation=public",
                "privacy.dataset_id=sst2_part",
                "privacy.epsilon=null",
                f"privacy.noise_multiplier={_NOISE * _TRIAL_BATCH / _BATCH:g}",
                f"privacy.expected_batch_size={_TRIAL_BATCH}",
                "privacy.epochs=null",
                f"privacy.steps={_TRIAL_STEPS}",
            ]
        return [
            f"adapter={self.adapter}",
            *_COMMON,
            f"model={model}",
            f"optim.learning_rate={self.learning_rate:g}",
            *_ADAPTERS[self.adapter][0],
            *length,
        ]


def trial_cells(folder: Path) -> Iterator[Cell]:
    """Yield every learning rate of every adapter.

    Args:
        folder: Folder with the records.
    """
    for adapter, (_, rates) in _ADAPTERS.items():
        for rate in rates:
            yield Cell(adapter, rate, folder)


def table_cells(trials: Sequence[Mapping[str, Any]]) -> Iterator[Cell]:
    """Yield every adapter at the learning rate that did best in its trials.

    Args:
        trials: Finished trials; an adapter without any is left out.

    Privacy:
        Trials are looked at on records of the public benchmark's training file.
    """
    for adapter in _ADAPTERS:
        mine = [trial for trial in trials if trial["adapter"] == adapter]
        if mine:
            best = max(mine, key=lambda trial: trial["accuracy"])
            # as many steps as give the same random walk of the noise
            shorter = (_TRIAL_STEPS / (67_349 // _BATCH + 1)) ** 0.5
            yield Cell(adapter, float(f"{best['learning_rate'] * shorter:.2g}"))


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the finished cells in Markdown.

    Args:
        found: Cells, as the results hold them.

    Privacy:
        Released metrics of public held-out records.
    """
    rows = [
        [
            cell["adapter"],
            f"{cell['learning_rate']:g}",
            f"{cell['accuracy']:.4f}",
            f"{cell['epsilon']:.3f}",
            str(cell["steps"]),
        ]
        for cell in found
    ]
    return markdown(["adapter", "learning rate", "accuracy", "epsilon", "steps"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cells that are missing and print the table.

    Args:
        argv: Flags; unset: those of the process.

    Returns:
        0.

    Raises:
        CalledProcessError: If a run fails; calling again resumes it.

    Privacy:
        Each cell is a release of its own; the epsilon of a row is that of one run.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--trials", action="store_true", help="try learning rates instead")
    parser.add_argument("--cells", type=int, default=None, help="at most")
    chosen = parser.parse_args(argv)
    results = _TRIALS if chosen.trials else _RESULTS
    found = results_in(results)
    done = {(cell["adapter"], cell["learning_rate"]) for cell in found["cells"]}
    missing = [cell for cell in _cells(chosen) if (cell.adapter, cell.learning_rate) not in done]
    for cell in itertools.islice(missing, chosen.cells):
        reached = run_or_resume(cell.overrides(), chosen.runs / cell.name)
        named = {"adapter": cell.adapter, "learning_rate": cell.learning_rate}
        found["cells"].append(named | reached)
        save(results, found)
    print(table(found["cells"]))
    return 0


def _cells(chosen: argparse.Namespace) -> Iterator[Cell]:
    if chosen.trials:
        return trial_cells(_split_of_training(chosen.runs / "records"))
    return table_cells(results_in(_TRIALS)["cells"])


def _split_of_training(folder: Path) -> Path:
    """Write a part of the training file and longer sentences of the rest, once."""
    import pyarrow.parquet as pq

    if not folder.exists():
        records = pq.read_table(
            Path(os.environ["DPFT_ASSETS"], "data", "glue", "sst2", "train.parquet")
        )
        kept, rest = records[:-_HELD_OUT_ROWS], records[-_HELD_OUT_ROWS:]
        long = [len(text.as_py().split()) > _LONG for text in rest["sentence"]]
        folder.mkdir(parents=True)
        pq.write_table(kept, folder / "train.parquet")
        pq.write_table(rest.filter(long)[:_JUDGED], folder / "validation.parquet")
    return folder.resolve()


if __name__ == "__main__":
    sys.exit(main())
