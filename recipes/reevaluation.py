"""Loads the base model and adapter of a finished run, and evaluates them."""

from typing import Any

from dpft.recipes.judgement import judge
from dpft.recipes.metrics.accuracy import Metrics
from dpft.recipes.models import LoadedModel, load_for, quiet_peft
from dpft.recipes.preparation import Prepared
from dpft.recipes.whole_models import load_whole_model
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
        As `dpft.recipes.judgement.judge`.
    """
    loaded, model = load_trained(prepared, folder)
    return judge(model, loaded, prepared)


def load_trained(prepared: Prepared, folder: RunFolder) -> tuple[LoadedModel, Any]:
    """Load the base model of a run, and the model with the run's adapter; a whole model is both.

    Args:
        prepared: Settings of the run.
        folder: The run folder.

    Returns:
        The base model, and the same model with its adapter in eval mode.

    Raises:
        ConfigurationError: If the folder of the adapter is not safe to read.

    Privacy:
        Nothing, no data touched: the adapter is released.
    """
    settings = prepared.settings
    if settings.trains_whole_model:
        whole = load_whole_model(prepared, folder.adapter)
        return whole, whole.model.eval()
    from peft import PeftModel

    from dpft.taskvectors.adapter_file import adapter_config

    adapter_config(folder.adapter)  # refuses what peft would import, open elsewhere or unpickle
    loaded = load_for(prepared.base_model, settings.architecture, prepared.task, settings.run.seed)
    with quiet_peft():
        return loaded, PeftModel.from_pretrained(loaded.model, str(folder.adapter)).eval()
