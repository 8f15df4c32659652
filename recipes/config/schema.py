"""The settings of a training run that are not the library's own. No torch in here.

`Privacy`, `Optim` and `Performance` are used as the library declares them; the settings of a task
stand with the task, those of adapters in `adapter_settings`.
"""

import dataclasses
from enum import Enum
from typing import Annotated, Any

from pydantic import Field

from dpft.configuration import validated
from dpft.optim import Optim
from dpft.performance import Performance
from dpft.privacy import Privacy
from dpft.recipes.config.adapter_settings import AdapterSettings, FullSettings
from dpft.recipes.config.generation import Generation
from dpft.recipes.tasks import TaskSettings
from dpft.tracking import TrackerName

__all__ = [
    "Architecture",
    "DtypeName",
    "FamilyName",
    "HeadName",
    "PoolingName",
    "QuantisationName",
    "RunSettings",
    "TrainSettings",
]

_Probability = Annotated[float, Field(ge=0, lt=1)]
_PositiveInt = Annotated[int, Field(ge=1)]


class PoolingName(str, Enum):
    """How token states become one prediction: the `mean` of token logits, or the model's `head`."""

    HEAD = "head"
    MEAN = "mean"


class FamilyName(str, Enum):
    """How a model names a label; where a text is written, the model itself says how.

    `classifier`: by a head. `infilling`: a masked language model fills in the label's word.
    `ranked`: an encoder-decoder ranks the labels' words as answers, with the losses of T-Few.
    """

    CLASSIFIER = "classifier"
    INFILLING = "infilling"
    RANKED = "ranked"


class HeadName(str, Enum):
    """How the head starts: `fresh` from the seed, or from the task's `descriptions` of classes."""

    DESCRIPTIONS = "descriptions"
    FRESH = "fresh"


class DtypeName(str, Enum):
    """Number format of the weights."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class QuantisationName(str, Enum):
    """How the frozen weights of linear layers are stored; activations are never quantised.

    `int8`: one scale for each output channel, by torchao. `int4`: NF4 in blocks of 64, by
    bitsandbytes. Heads, embeddings and norms stay as they are.
    """

    INT4 = "int4"
    INT8 = "int8"
    NONE = "none"


@validated
class Architecture:
    """How the base model is loaded.

    Args:
        family: How the model names a label.
        pooling: How token states of a classifier become one prediction.
        head: How the head of a classifier starts.
        train_head: Whether it is trained; a frozen one is saved all the same.
        dtype: Number format of the weights.
        quantisation: How the frozen weights of linear layers are stored.
        activation_checkpointing: Whether blocks keep only their inputs and are computed again in
            the backward pass: less memory, about a third more work.
        offload_activations: Whether these inputs wait in the host's memory; needs
            activation_checkpointing, and does nothing without an accelerator.
        dropout: Probability, for every dropout field of the model's configuration.
        max_length: Longest input in tokens; what is longer is cut.
        pretrained: False draws the weights afresh from the seed, to show what pretraining gives.
        template: How infilling and ranking word a record, as in
            "{text} It was {mask}."; unset: that of the papers for the task.
        label_words: One word for each label, in order; unset: those of the papers.
        label_smoothing: Share of the target spread over the vocabulary where a text is learnt.

    Privacy:
        Nothing, no data touched.
    """

    family: FamilyName = FamilyName.CLASSIFIER
    pooling: PoolingName = PoolingName.MEAN
    head: HeadName = HeadName.FRESH
    train_head: bool = True
    dtype: DtypeName = DtypeName.FLOAT32
    quantisation: QuantisationName = QuantisationName.NONE
    activation_checkpointing: bool = False
    offload_activations: bool = False
    dropout: _Probability = 0.0
    max_length: Annotated[int, Field(ge=2)] = 128
    pretrained: bool = True
    template: str | None = None
    label_words: tuple[str, ...] | None = None
    label_smoothing: _Probability = 0.0


@validated
class RunSettings:
    """What concerns the run as a whole.

    Args:
        seed: Public seed of the initialisation. Never used for sampling or noise.
        log_every: Steps between two lines of run.log.
        checkpoint_every: Steps between two checkpoints. Unset: about ten in a run.
        resume: Folder of an interrupted run to continue; all else as when it started.
        trackers: What the run reports to, as in [tensorboard]; nothing by default.

    Privacy:
        Nothing, no data touched.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    log_every: _PositiveInt = 10
    checkpoint_every: _PositiveInt | None = None
    resume: str | None = None
    trackers: tuple[TrackerName, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything that fixes a training run.

    Args:
        task: Settings of the task, of the class that the task registered.
        architecture: How the base model is loaded.
        adapter: Settings of the adapter.
        privacy: The guarantee asked for.
        optim: Optimiser settings.
        performance: Speed and memory.
        run: What concerns the run as a whole.
        generation: How texts are written for held-out tables.
        model: Folder or Hub name of the base model. Unset: the task's default.

    Privacy:
        Nothing, no data touched.
    """

    task: TaskSettings
    architecture: Architecture
    adapter: AdapterSettings
    privacy: Privacy
    optim: Optim
    performance: Performance
    run: RunSettings
    generation: Generation = dataclasses.field(default_factory=Generation)
    model: str | None = None

    @property
    def trains_whole_model(self) -> bool:
        """Whether every weight is trained, without an adapter."""
        return isinstance(self.adapter, FullSettings)

    def adapter_options(self) -> dict[str, Any]:
        """Return the adapter's options under the method's names, without those that are unset."""
        options = {
            field.name: _plain(getattr(self.adapter, field.name))
            for field in dataclasses.fields(self.adapter)
            if field.name != "name"
        }
        return {name: value for name, value in options.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
