"""What the operator sees of a training run: progress, and where the results lie."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from dpft.booking import Booking
from dpft.progress import Progress
from dpft.recipes.preparation import Prepared
from dpft.recipes.training import Outcome, train
from dpft.rendering import rounded_up
from dpft.run_folder import RunFolder

__all__ = ["summary", "train_and_print", "train_with_progress"]

_NO_METRICS = (
    "metrics    none: set privacy.evaluation=public or noisy to say what one may cost, and name "
    "held-out records"
)


def train_and_print(
    prepared: Prepared, folder: Path, config_yaml: str, booking: Booking | None = None
) -> Outcome:
    """Train with a progress bar and print where the results lie.

    Args:
        prepared: The prepared run.
        folder: Absent or empty folder, or that of the run to resume.
        config_yaml: The resolved settings.
        booking: The run's reservation in its ledger; unset: it is made here.

    Returns:
        What the run leaves behind.

    Privacy:
        Progress advances once per logical step and shows public numbers only: no loss, no sampled
        count. run.log holds steps and epsilon without times, since times depend on the sample.
    """
    outcome = train_with_progress(prepared, folder, config_yaml, booking=booking)
    print(summary(outcome))
    return outcome


def train_with_progress(
    prepared: Prepared,
    folder: Path,
    config_yaml: str,
    title: str | None = None,
    booking: Booking | None = None,
) -> Outcome:
    """Train with a progress bar and a run.log.

    Args:
        prepared: The prepared run.
        folder: Absent or empty folder, or that of the run to resume.
        config_yaml: The resolved settings.
        title: Name of the run beside the bar.
        booking: The run's reservation in its ledger; unset: it is made here.

    Returns:
        What the run leaves behind.

    Privacy:
        As `train_and_print`.
    """
    log_every = prepared.settings.run.log_every
    with _progress(RunFolder(folder).log, log_every, title) as on_step:
        return train(prepared, folder, config_yaml, on_step, booking)


def summary(outcome: Outcome) -> str:
    """Return what a run reached and where its files are, in a few lines.

    Privacy:
        Released metrics and public numbers only.
    """
    result = outcome.result
    whole = result.certificate
    guarantee = (
        f"epsilon {rounded_up(result.epsilon)} at delta {result.delta:.3g}, unit one "
        f"{whole.unit.value}, {whole.adjacency.value}"
        if whole.is_bounded
        else "NOT PRIVATE"
    )
    metrics = [
        f"{name:<10} {value:.4f} ({outcome.metrics.status[name]['status']})"
        for name, value in outcome.metrics.values.items()
    ]
    return "\n".join(
        [
            f"guarantee  {guarantee}",
            *(metrics or [_NO_METRICS]),
            f"{_trained(outcome.folder):<10} {outcome.folder.adapter}",
            f"report     {outcome.folder.report}",
        ]
    )


def _trained(folder: RunFolder) -> str:
    return "model" if folder.holds_whole_model else "adapter"


@contextmanager
def _progress(log: Path, log_every: int, title: str | None) -> Iterator[Callable[[Progress], None]]:
    logger, handler = _run_log(log)
    bar = tqdm(desc=title, unit="step", disable=None)  # silent where nobody watches

    def on_step(progress: Progress) -> None:
        bar.total = progress.steps
        bar.set_postfix_str(_spent(progress), refresh=False)
        bar.update(progress.step - bar.n)
        if progress.step % log_every == 0 or progress.step == progress.steps:
            logger.info("step %d of %d, %s", progress.step, progress.steps, _spent(progress))

    try:
        yield on_step
    finally:
        bar.close()
        logger.removeHandler(handler)
        handler.close()


def _spent(progress: Progress) -> str:
    if progress.target_epsilon == float("inf"):
        return "NOT PRIVATE"
    return f"epsilon {rounded_up(progress.spent_epsilon)} of {rounded_up(progress.target_epsilon)}"


def _run_log(path: Path) -> tuple[logging.Logger, logging.Handler]:
    """Open the log at its first line, and keep everybody else's messages out of it."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("dpft.run")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return logger, handler
