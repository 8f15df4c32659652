"""`dpft evaluate`: load the adapter of a finished run and evaluate it again."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dpft.accounting.bounded_files import bounded_text
from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.run_folder import RunFolder

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Evaluate the adapter of a run folder on the held-out records of its task.

    Args:
        argv: The run folder, and `--write` to renew metrics.json.

    Returns:
        0; every failure is raised.

    Raises:
        ConfigurationError: If the run did not finish, or its metrics are not public: a noisy
            metric may be released once.

    Privacy:
        Evaluates on records declared public only (`tests/end_to_end/test_evaluate.py`).
    """
    arguments = _parser().parse_args(argv)
    folder = RunFolder.open(arguments.run)

    from dpft.recipes.config.composition import settings_from_yaml
    from dpft.recipes.preparation import prepare_evaluation

    prepared = prepare_evaluation(settings_from_yaml(bounded_text(folder.config)))
    _require_public(prepared.privacy.evaluation)

    from dpft.recipes.reevaluation import reevaluate

    metrics = reevaluate(prepared, folder)
    _print_table(prepared.task.name, metrics.values)
    if arguments.write:
        renewed = {"metrics": metrics.values, "metric_status": metrics.status}
        folder.write_metrics(folder.read_metrics() | renewed)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dpft evaluate", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder written by dpft train")
    parser.add_argument("--write", action="store_true", help="renew the run's metrics.json")
    return parser


def _require_public(status: EvaluationStatus | None) -> None:
    if status is EvaluationStatus.NOISY:
        raise ConfigurationError(
            "Expected privacy.evaluation=noisy to be evaluated once. A second noisy metric is a "
            "second release and would have to be charged. Read the run's metrics.json."
        )
    if status is not EvaluationStatus.PUBLIC:
        raise ConfigurationError(
            "Expected privacy.evaluation=public. Nobody declared the held-out records public, and "
            "a metric would be a release. Set privacy.evaluation when training."
        )


def _print_table(task: str, values: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "metric", "value")
    for name, value in values.items():
        table.add_row(task, name, f"{value:.4f}")
    Console().print(table)
