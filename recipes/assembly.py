"""Model, adapter and loss of a prepared run, as training and audit put them together."""

from typing import TYPE_CHECKING

from dpft import adapters
from dpft.engine.attachment import PerRecordLoss
from dpft.losses import (
    CausalLanguageModelling,
    Classification,
    Regression,
    SequenceToSequence,
)
from dpft.recipes.config.adapter_settings import FullSettings
from dpft.recipes.config.schema import HeadName
from dpft.recipes.heads import start_from_descriptions
from dpft.recipes.models import LoadedModel, load_for
from dpft.recipes.preparation import Prepared
from dpft.recipes.tasks.traits import TaskKind

if TYPE_CHECKING:
    from peft import PeftConfig

__all__ = ["adapter_of", "load_model", "loss_of"]


def load_model(prepared: Prepared) -> LoadedModel:
    """Load the base model of a run, with its head as the settings want it.

    Args:
        prepared: The prepared run.

    Raises:
        ConfigurationError: If the model cannot be loaded.

    Privacy:
        Nothing, no record is read.
    """
    settings = prepared.settings
    architecture = settings.architecture
    loaded = load_for(prepared.base_model, architecture, prepared.task, settings.run.seed)
    if architecture.head is HeadName.DESCRIPTIONS:
        start_from_descriptions(loaded, prepared.task.descriptions)
    return loaded


def adapter_of(prepared: Prepared, loaded: LoadedModel) -> "PeftConfig | None":
    """Return peft's configuration of the adapter, None where every weight is trained.

    Args:
        prepared: The prepared run.
        loaded: Its model.

    Raises:
        ConfigurationError: If the adapter does not fit the model.

    Privacy:
        Nothing, no record is read.
    """
    settings = prepared.settings
    if isinstance(settings.adapter, FullSettings):
        return None
    return adapters.config(
        settings.adapter.name,
        loaded.model.config,
        loaded.task_type,
        **settings.adapter_options(),
    )


def loss_of(loaded: LoadedModel, smoothing: float) -> PerRecordLoss:
    """Return the loss of one record: squared error for a number, else cross-entropy.

    Args:
        loaded: The model, which knows its task.
        smoothing: Of labels, in [0, 1), where texts are written.

    Privacy:
        Nothing, no record is read; each loss is a function of its own record.
    """
    if loaded.kind is TaskKind.TEXT:
        made = SequenceToSequence if loaded.has_encoder else CausalLanguageModelling
        return made(label_smoothing=smoothing)
    if loaded.answers is not None:
        return loaded.answers.loss
    regression = loaded.kind is TaskKind.REGRESSION
    return Regression(loaded.pooling) if regression else Classification(loaded.pooling)
