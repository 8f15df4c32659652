"""Accuracy against epsilon: SST-2, the MiniLM encoder, LoRA.

    python -m benchmarks.utility --runs runs/utility

One cell is one run of the command line, `dpft train experiment=sst2_minilm_lora ...`, at one
epsilon and with one seed of the initialisation. A finished cell is appended to the results, which
are committed; an interrupted one is resumed where it stopped. Calling the command again does what
is left. Cells of settings that were given up stay in the file, under `earlier`. Needs DPFT_ASSETS.
"""

import argparse
import dataclasses
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting import markdown, save
from benchmarks.runs import results_in, run_or_resume

__all__ = ["Cell", "cells", "main", "table"]

# Seeds by epsilon; None: without privacy. Fewer at the ends, for the sake of processor hours.
_SEEDS: dict[float | None, int] = {8.0: 3, 3.0: 3, None: 1, 1.0: 1}
_RESULTS = Path("docs/results/sst2.json")
_WITHOUT_PRIVACY = (
    "privacy=not_private",
    "privacy.epsilon=null",
    "privacy.expected_batch_size=256",
    "privacy.epochs=1",
    "optim.learning_rate=1e-3",
)
# Less epsilon, larger batches: the same records in half the steps, under less noise for each. At
# epsilon 8 that was tried and gained nothing (`earlier` in the results).
_LARGE_BATCH = "privacy.expected_batch_size=4096"
_PRIVATE: dict[float, tuple[str, ...]] = {
    8.0: (),
    3.0: (_LARGE_BATCH, "optim.learning_rate=5e-3"),
    1.0: (_LARGE_BATCH, "optim.learning_rate=7e-3"),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the table.

    Args:
        epsilon: Target, or None without privacy.
        seed: Public seed of the initialisation.

    Privacy:
        Nothing, no data touched.
    """

    epsilon: float | None
    seed: int

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return f"epsilon_{self.epsilon or 'inf'}_seed_{self.seed}"

    def overrides(self) -> list[str]:
        """Return what the command line is given."""
        model = Path(os.environ["DPFT_ASSETS"], "models", "minilm-l6")
        guarantee = list(_WITHOUT_PRIVACY)
        if self.epsilon is not None:
            guarantee = [f"privacy.epsilon={self.epsilon}", *_PRIVATE[self.epsilon]]
        return [
            "experiment=sst2_minilm_lora",
            f"model={model}",
            f"run.seed={self.seed}",
            *guarantee,
        ]


def cells() -> Iterator[Cell]:
    """Yield all cells: every epsilon with the first seed, then with the next."""
    for seed in range(max(_SEEDS.values())):
        for epsilon, seeds in _SEEDS.items():
            if seed < seeds:
                yield Cell(epsilon, seed)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the table in Markdown: one row an epsilon.

    Args:
        found: Finished cells, as the results hold them.

    Privacy:
        Released metrics of public held-out records.
    """
    rows = []
    for epsilon in (None, *sorted((e for e in _SEEDS if e is not None), reverse=True)):
        scores = [cell["accuracy"] for cell in found if cell["target_epsilon"] == epsilon]
        if scores:
            spread = f"{min(scores):.4f} to {max(scores):.4f}" if len(scores) > 1 else "one seed"
            rows.append(
                [
                    "infinite" if epsilon is None else f"{epsilon:g}",
                    f"{statistics.fmean(scores):.4f}",
                    spread,
                    str(len(scores)),
                ]
            )
    return markdown(["epsilon", "accuracy, mean", "range", "seeds"], rows)


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
    parser.add_argument("--results", type=Path, default=_RESULTS, help="the committed JSON")
    parser.add_argument("--cells", type=int, default=sum(_SEEDS.values()), help="at most")
    chosen = parser.parse_args(argv)
    found = results_in(chosen.results)
    done = {(cell["target_epsilon"], cell["seed"]) for cell in found["cells"]}
    missing = [cell for cell in cells() if (cell.epsilon, cell.seed) not in done]
    for cell in missing[: chosen.cells]:
        reached = run_or_resume(cell.overrides(), chosen.runs / cell.name)
        found["cells"].append({"target_epsilon": cell.epsilon, "seed": cell.seed, **reached})
        save(chosen.results, found)
    print(table(found["cells"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
