"""One training run: prepare, load, fit, evaluate, and complete the run folder."""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dpft
from dpft.booking import Booking
from dpft.charges import hold
from dpft.progress import Progress
from dpft.recipes.assembly import adapter_of, load_model, loss_of
from dpft.recipes.judgement import judge
from dpft.recipes.metrics.accuracy import Metrics
from dpft.recipes.model_card import write_model_card
from dpft.recipes.models import (
    LoadedModel,
    quiet_peft,
    ready_for_full_fine_tuning,
)
from dpft.recipes.preparation import Prepared, book_run
from dpft.recipes.resumption import refuse_unless_fit
from dpft.recipes.tasks import Split
from dpft.recipes.tasks.traits import Traits
from dpft.recipes.trackers import trackers_of
from dpft.recipes.whole_models import save_tokenizer
from dpft.records import EncodingSettings
from dpft.run_folder import RunFolder
from dpft.training import FitOptions, FitResult

__all__ = ["Outcome", "fit_and_evaluate", "fit_only", "metrics_of", "train"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run leaves behind.

    Args:
        result: What `dpft.fit` returned.
        metrics: Metrics of the held-out records.
        folder: The run folder.

    Privacy:
        Releasable.
    """

    result: FitResult
    metrics: Metrics
    folder: RunFolder


def train(
    prepared: Prepared,
    folder: Path,
    config_yaml: str,
    on_step: Callable[[Progress], None] | None = None,
    booking: Booking | None = None,
) -> Outcome:
    """Train, evaluate and write the run folder.

    Args:
        prepared: The prepared run.
        folder: Absent or empty folder; with `run.resume` that of the unfinished run.
        config_yaml: The resolved settings, as they are to be written.
        on_step: Called after every step.
        booking: The run's reservation in its ledger; unset: it is made here.

    Returns:
        What the run leaves behind.

    Raises:
        BudgetError: If a budget would be exceeded.
        ConfigurationError: If the folder holds another run, or the model cannot be loaded.
        BrokenGuaranteeError: If the engine refuses the model.

    Privacy:
        As `dpft.fit`; the folder holds releasable files only
        (`tests/end_to_end/test_run_folder_is_releasable.py`).
    """
    refuse_unless_fit(prepared.settings, folder)
    with book_run(prepared, folder) if booking is None else nullcontext(booking) as booked:
        return _trained(prepared, folder, config_yaml, on_step, booked)


def _trained(
    prepared: Prepared,
    folder: Path,
    config_yaml: str,
    on_step: Callable[[Progress], None] | None,
    booking: Booking,
) -> Outcome:
    with booking.public_part("the base model could not be loaded"):
        loaded = load_model(prepared)
    options = FitOptions(
        seed=prepared.settings.run.seed,
        train_head=prepared.settings.architecture.train_head,
        resume=prepared.settings.run.resume is not None,
        checkpoint_every=prepared.settings.run.checkpoint_every,
        config_yaml=config_yaml,
        booking=booking,
    )
    with trackers_of(prepared) as tracking:
        options = dataclasses.replace(options, trackers=tracking)
        result = _fit(prepared, loaded, options, folder, on_step)
        run_folder = RunFolder(folder)
        with hold(run_folder.charges):
            run_folder.refuse_finished()  # another process may have been quicker since `fit`
            save_tokenizer(run_folder.adapter, prepared)
            write_model_card(run_folder.adapter, prepared, result)
            metrics = judge(result.model, loaded, prepared, folder)
            run_folder.write_metrics(metrics_of(prepared, result, metrics))
        tracking.after_evaluation(metrics.values, metrics.status)
    return Outcome(result, metrics, run_folder)


def metrics_of(prepared: Prepared, result: FitResult, metrics: Metrics) -> dict[str, Any]:
    """Return the content of metrics.json: released metrics and public numbers.

    Privacy:
        No training loss, no sampled count, no memory peak; `examples_per_second` is the public
        expected batch size times the steps by the wall time.
    """
    plan = result.plan
    return {
        "task": prepared.task.name,
        "split": Split.VALIDATION.value,
        "metrics": metrics.values,
        "metric_status": metrics.status,
        "private": plan.is_private,
        "epsilon": result.epsilon,
        "delta": result.delta,
        "noise_multiplier": plan.noise_multiplier,
        "sample_rate": plan.length.sample_rate,
        "steps": result.history.intended,
        "updates": result.history.updates,
        "expected_batch_size": plan.length.expected_batch_size,
        "num_records": plan.length.num_records,
        "unit": plan.privacy.covers.value,
        "adjacency": plan.length.adjacency.value,
        "accountant": plan.privacy.accountant.value,
        "dataset_id": plan.privacy.dataset_id,
        "examples_per_second": result.examples_per_second,
    }


def fit_and_evaluate(prepared: Prepared, booking: Booking) -> tuple[FitResult, Metrics]:
    """Train and evaluate in memory, for a part of what was charged already.

    Args:
        prepared: The prepared run.
        booking: Of `dpft.booked_events.book_event`.

    Returns:
        What `dpft.fit` returned, and the metrics in the form that their status allows.

    Privacy:
        As `dpft.fit` and `dpft.recipes.metrics.evaluation.evaluate`; nothing is written.
    """
    settings = prepared.settings
    loaded = load_model(prepared)
    options = FitOptions(
        seed=settings.run.seed, train_head=settings.architecture.train_head, booking=booking
    )
    result = _fit(prepared, loaded, options)
    return result, judge(result.model, loaded, prepared)


def fit_only(prepared: Prepared) -> FitResult:
    """Train without writing or evaluating anything.

    Args:
        prepared: The prepared run.

    Returns:
        What `dpft.fit` returned.

    Privacy:
        As `dpft.fit`.
    """
    settings = prepared.settings
    options = FitOptions(seed=settings.run.seed, train_head=settings.architecture.train_head)
    return _fit(prepared, load_model(prepared), options)


def _fit(
    prepared: Prepared,
    loaded: LoadedModel,
    options: FitOptions,
    folder: Path | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> FitResult:
    settings = prepared.settings
    whole = settings.trains_whole_model
    with ready_for_full_fine_tuning(loaded.model) if whole else quiet_peft():
        return dpft.fit(
            loaded.model,
            _with_owners(loaded.encode(prepared.rows, prepared.task).records, prepared),
            loss=loss_of(loaded, settings.architecture.label_smoothing),
            privacy=prepared.privacy,
            tokenizer=loaded.tokenizer,
            adapter=adapter_of(prepared, loaded),
            optim=settings.optim,
            performance=settings.performance,
            out=folder,
            options=_with_traits(options, prepared.traits, loaded.synthetic(prepared.task)),
            on_step=on_step,
        )


def _with_traits(
    options: FitOptions, traits: Traits, synthetic: list[dict[str, Any]] | None
) -> FitOptions:
    return dataclasses.replace(
        options,
        step=dataclasses.replace(options.step, synthetic=synthetic),
        encoding=EncodingSettings(user_field=traits.owner_field),
        notes=(*traits.declared_public, *traits.notes),
        declared_public=traits.declared_public,
    )


def _with_owners(encoded: list[dict[str, Any]], prepared: Prepared) -> list[dict[str, Any]]:
    """Return encoded records with the names of their owners, where the unit is a user."""
    owner = prepared.traits.owner_field
    if owner is None:
        return encoded
    pairs = zip(encoded, prepared.rows, strict=True)
    return [{**inputs, owner: row[owner]} for inputs, row in pairs]
