"""`dpft demo`: what privacy costs and what pretraining gives, on the embedded task."""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpft.recipes.training import Outcome

__all__ = ["RUNS", "main"]

# Title of the row, folder, overrides.
RUNS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("not private", "not_private", ("privacy=not_private",)),
    ("private", "private", ()),
    ("private, no pretraining", "private_without_pretraining", ("architecture.pretrained=false",)),
)


def main(argv: Sequence[str]) -> int:
    """Train three times and print the comparison.

    Args:
        argv: `--out DIR`, and overrides for all runs.

    Returns:
        0; every failure is raised.

    Privacy:
        The embedded people are invented; three runs on the same records are three releases, and
        one of them is not private at all.
    """
    arguments = _parser().parse_args(argv)
    started = time.monotonic()
    folder = arguments.out or Path("runs") / "demo" / time.strftime("%Y-%m-%d_%H-%M-%S")
    print("Generated customer messages, an encoder pretrained on public text, LoRA.")
    outcomes = {
        title: _run(title, folder / name, [*overrides, *arguments.overrides])
        for title, name, overrides in RUNS
    }
    _print_table(outcomes)
    private = outcomes[RUNS[1][0]]
    print(f"adapter  {private.folder.adapter}\nreport   {private.folder.report}")
    print(f"took     {time.monotonic() - started:.0f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dpft demo", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the three runs; absent or empty")
    parser.add_argument("overrides", nargs="*", help="settings for all runs, as for dpft train")
    return parser


def _run(title: str, folder: Path, overrides: list[str]) -> "Outcome":
    from dpft.recipes.config.composition import compose_config, compose_settings, yaml_of
    from dpft.recipes.preparation import prepare
    from dpft.run_folder import RunFolder

    RunFolder(folder).refuse_another_run()
    prepared = prepare(compose_settings(overrides))
    from dpft.recipes.cli.training_output import train_with_progress

    return train_with_progress(prepared, folder, yaml_of(compose_config(overrides)), title)


def _print_table(outcomes: "dict[str, Outcome]") -> None:
    from rich.console import Console
    from rich.table import Table

    from dpft.rendering import rounded_up

    table = Table("", "accuracy", "epsilon", "delta")
    table.add_row("largest class", f"{_majority():.3f}", "0", "0")
    for title, outcome in outcomes.items():
        run = outcome.result.run
        spent = (
            (rounded_up(outcome.result.epsilon), f"{run.delta:.0e}") if run.private else ("∞", "")
        )
        table.add_row(title, f"{outcome.metrics.values['accuracy']:.3f}", *spent)
    Console().print(table)


def _majority() -> float:
    """Return the accuracy of always naming the commonest label of the public held-out records."""
    from dpft.recipes.tasks import Split
    from dpft.recipes.tasks.embedded import Embedded, EmbeddedSettings

    rows = Embedded(EmbeddedSettings()).load(Split.VALIDATION)
    return max(Counter(row["label"] for row in rows).values()) / len(rows)
