"""Loads the base model and adapter of a finished run, and evaluates them."""

from typing import Any

from dpft.recipes.metrics.accuracy import Metrics
from dpft.recipes.metrics.evaluation import evaluate
from dpft.recipes.models import LoadedModel, load, quiet_peft
from dpft.recipes.preparation import Prepared
from dpft.run_folder import RunFolder

__all__ = ["load_trained", "reevaluate"]


def reevaluate(prepared: Prepared, folder: RunFolder) -> Metrics:
    """Evaluate the adapter of a run.

    Args:
        prepared: Settings of the run and its held-out records.
        folder: The run folder.

    Returns:
        The metrics, in the form that their status allows.

    Privacy:
        As `dpft.recipes.metrics.evaluation.evaluate`.
    """
    loaded, model = load_trained(prepared, folder)
    held_out = loaded.encode(prepared.held_out, prepared.task)
    return evaluate(model, held_out, loaded.pooling, prepared.privacy)


def load_trained(prepared: Prepared, folder: RunFolder) -> tuple[LoadedModel, Any]:
    """Load the base model of a run, and the model with the run's adapter.

    Args:
        prepared: Settings of the run.
        folder: The run folder.

    Returns:
        The base model, and the same model with its adapter in eval mode.

    Privacy:
        Nothing, no data touched: the adapter is released.
    """
    from peft import PeftModel

    settings = prepared.settings
    labels = prepared.task.labels
    loaded = load(prepared.base_model, settings.architecture, labels, settings.run.seed)
    with quiet_peft():
        return loaded, PeftModel.from_pretrained(loaded.model, str(folder.adapter)).eval()
