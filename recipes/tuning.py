"""A private choice of settings: trials that leave nothing behind, one folder for the best."""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

from dpft.accounting import Accountant, Certificate, RepeatAndSelect, RunRecord
from dpft.accounting.run_record import SelectionStatus
from dpft.artefacts import CHOICE_OF_SETTINGS, save_artefacts
from dpft.booking import Booking
from dpft.held_out import metric_id
from dpft.inheritance import mark_trained
from dpft.recipes.candidates import Candidate, PreparedTuning
from dpft.recipes.metrics.accuracy import Metrics
from dpft.recipes.model_card import write_model_card
from dpft.recipes.preparation import Prepared
from dpft.recipes.training import Outcome, fit_and_evaluate, metrics_of
from dpft.recipes.whole_models import save_tokenizer
from dpft.report import ReportFacts
from dpft.run_folder import RunFolder
from dpft.training import FitResult
from dpft.tuning import Scored, TuningPlan, best_of_trials

__all__ = ["tune"]

_METRICS = ("accuracy", "pearson", "bleu")  # the first that there is; higher is better
_TIME = "The time that the choice took, which grows with the number of trials."


@dataclasses.dataclass(frozen=True)
class _Trial:
    candidate: Candidate
    prepared: Prepared
    result: FitResult
    metrics: Metrics


def tune(tuning: PreparedTuning, booking: Booking, folder: Path) -> Outcome | None:
    """Run a selection that was charged, and write the folder of the chosen model.

    Args:
        tuning: The prepared selection.
        booking: What `dpft.tuning.charge` returned.
        folder: Absent or empty folder; it is made when the choice is done.

    Returns:
        What the chosen trial leaves behind, or None if no trial was drawn.

    Raises:
        ConfigurationError: If the folder holds another run, or a model cannot be loaded.
        BrokenGuaranteeError: If the engine refuses a model.

    Privacy:
        Costs `tuning.plan.events`, whatever happens after they were charged. Trials keep
        everything in memory: no number, score or time of theirs is written or shown
        (`tests/end_to_end/test_tune.py`). The time that the selection takes grows with their
        number and is not hidden.
    """
    RunFolder(folder).refuse_another_run()
    pairs = list(zip(tuning.candidates, tuning.trials, strict=True))
    best = best_of_trials(tuning.plan.count, pairs, partial(_trial, booking))
    return None if best is None else _published(tuning, best.released, folder, booking.statement)


def _trial(booking: Booking, pair: tuple[Candidate, Prepared]) -> Scored[_Trial]:
    candidate, prepared = pair
    result, metrics = fit_and_evaluate(prepared, booking)
    result.model.to("cpu")  # the best one waits there while others train
    score = next(metrics.values[name] for name in _METRICS if name in metrics.values)
    return Scored(_Trial(candidate, prepared, result, metrics), score)


def _published(tuning: PreparedTuning, chosen: _Trial, folder: Path, budget: str) -> Outcome:
    """Write the folder of the chosen model, with the certificate of the whole selection."""
    run_folder = RunFolder.create(folder)
    result = dataclasses.replace(
        chosen.result,
        certificate=_certificate(chosen.result, tuning.plan),
        examples_per_second=math.nan,  # times of trials stay secret
        folder=run_folder,
    )
    mark_trained(result.model, result.certificate)  # not the trial's own, which is smaller
    facts = _public_facts(tuning)
    config = chosen.candidate.yaml_of_trial(chosen.prepared.privacy, facts)
    run_folder.write_config(config)
    stated = _report_facts(result, budget, chosen)
    save_artefacts(result.model, result.certificate, run_folder, stated)
    save_tokenizer(run_folder.adapter, chosen.prepared)
    write_model_card(run_folder.adapter, chosen.prepared, result)
    run_folder.write_metrics(metrics_of(chosen.prepared, result, chosen.metrics) | {"tune": facts})
    return Outcome(result, chosen.metrics, run_folder)


def _certificate(result: FitResult, plan: TuningPlan) -> Certificate:
    """Put the whole selection in the place of the trial that was chosen."""
    runs = {run.run_id: run for run in result.certificate.runs}
    runs[result.run_id] = _selected(runs[result.run_id], plan.training)
    metric = runs.pop(metric_id(result.run_id), None)
    if metric is not None and plan.held_out is not None:  # else it is part of the training event
        runs[metric.run_id] = _selected(metric, plan.held_out)
    return Certificate(tuple(runs.values()))


def _selected(run: RunRecord, event: RepeatAndSelect) -> RunRecord:
    covered = (each for each in run.excluded if each != CHOICE_OF_SETTINGS)
    return dataclasses.replace(
        run,
        mechanism=event,
        accountant=Accountant.RDP.value,
        selection=SelectionStatus.ACCOUNTED,
        excluded=(*covered, _TIME),
    )


def _report_facts(result: FitResult, budget: str, chosen: _Trial) -> ReportFacts:
    traits = chosen.prepared.traits
    return ReportFacts(
        notes=(*traits.declared_public, *traits.notes),
        plan=result.plan,
        run=result.run,
        certificate=result.certificate,
        epsilon=result.epsilon,
        preflight=result.preflight,
        history=result.history,
        budget=budget,
    )


def _public_facts(tuning: PreparedTuning) -> dict[str, Any]:
    count = tuning.plan.count
    return {
        "mean_trials": count.mean,
        "shape": count.shape,
        "candidates": len(tuning.candidates),
        "overrides": list(tuning.overrides),
    }
