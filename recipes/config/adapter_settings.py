"""The settings of every adapter method, under the option names of the method. No torch in here.

What an option does in full stands with the method, in `dpft.adapters`. One choice is no adapter:
`full` trains the model itself.
"""

from enum import Enum
from typing import Annotated, Any, TypeAlias

from pydantic import Field

from dpft.adapters import AdapterName
from dpft.configuration import validated

__all__ = [
    "ADAPTER_CLASSES",
    "AdapterSettings",
    "AttemptSettings",
    "BitfitSettings",
    "BottleneckSettings",
    "CompacterSettings",
    "FfaLoraSettings",
    "FullName",
    "FullSettings",
    "Ia3Settings",
    "LoraSettings",
    "PlacementName",
    "PrefixSettings",
    "PromptInitName",
    "PromptSettings",
    "PromptStart",
]

_Names: TypeAlias = tuple[str, ...]
_NonNegativeInt = Annotated[int, Field(ge=0)]
_Layers: TypeAlias = tuple[_NonNegativeInt, ...]
_Positive = Annotated[float, Field(gt=0)]
_PositiveInt = Annotated[int, Field(ge=1)]
_Probability = Annotated[float, Field(ge=0, lt=1)]
_Reduction = Annotated[float, Field(ge=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**63)]


class PlacementName(str, Enum):
    """Where adapters of sub-layers stand: after both, Pfeiffer's way, or after feed-forward."""

    FEED_FORWARD = "feed_forward"
    HOULSBY = "houlsby"
    PFEIFFER = "pfeiffer"


class PromptStart(str, Enum):
    """Where the rows of a prompt start: random numbers, words of the vocabulary, a public text."""

    RANDOM = "RANDOM"
    SAMPLE_VOCAB = "SAMPLE_VOCAB"
    TEXT = "TEXT"


class PromptInitName(str, Enum):
    """Where ATTEMPT's target starts: random numbers, a source, given tokens, or the vocabulary."""

    RANDOM = "random"
    SOURCE = "source"
    TEXT = "text"
    VOCABULARY = "vocabulary"


class FullName(str, Enum):
    """The choice that is no adapter: every weight of the model is trained."""

    FULL = "full"


@validated
class AttemptSettings:
    """ATTEMPT, for one task.

    Args:
        name: The method.
        num_virtual_tokens: Rows of every prompt.
        sources: Folders of prompts that were trained before. Unset: none.
        public_sources: Names of the folders that no private record went into.
        num_random_sources: Sources drawn from the vocabulary. Unset: four, or none with `sources`.
        train_sources: Whether sources are trained too.
        bottleneck: Width of the attention network.
        temperature: Divisor of its scores. Unset: e times the model's width.
        init: Where the target starts.
        init_source: Name of the source to start from. Unset: the first.
        init_text_ids: Tokens to start from; public.
        seed: Public seed of what is drawn.

    Privacy:
        Nothing, no data touched.
    """

    name: AdapterName = AdapterName.ATTEMPT
    num_virtual_tokens: _PositiveInt = 100
    sources: _Names | None = None
    public_sources: _Names | None = None
    num_random_sources: _NonNegativeInt | None = None
    train_sources: bool = False
    bottleneck: _PositiveInt = 100
    temperature: _Positive | None = None
    init: PromptInitName = PromptInitName.VOCABULARY
    init_source: str | None = None
    init_text_ids: tuple[int, ...] | None = None
    seed: _Seed = 0


@validated
class BitfitSettings:
    """BitFit: all biases are trained; there is nothing to choose.

    Args:
        name: The method.

    Privacy:
        Nothing, no data touched.
    """

    name: AdapterName = AdapterName.BITFIT


@validated
class BottleneckSettings:
    """Bottleneck adapters.

    Args:
        name: The method.
        placement: Where they stand.
        reduction_factor: The model's width by the adapter's.
        non_linearity: Activation, by its name in transformers. Unset: as the placement's paper.
        init_std: Standard deviation of the initial weights.
        zero_init_up: Whether the model starts unchanged.
        ln_before: Whether a LayerNorm stands before the adapter.
        ln_after: Whether a LayerNorm stands after it.
        target_modules: Ends of the names of the modules to adapt. Unset: as the placement says.
        layers_to_transform: Numbers of the blocks to adapt, from 0. Unset: all.

    Privacy:
        Nothing, no data touched.
    """

    name: AdapterName = AdapterName.BOTTLENECK
    placement: PlacementName = PlacementName.HOULSBY
    reduction_factor: _Reduction = 16
    non_linearity: str | None = None
    init_std: Annotated[float, Field(ge=0)] = 0.02
    zero_init_up: bool = False
    ln_before: bool = False
    ln_after: bool = False
    target_modules: _Names | None = None
    layers_to_transform: _Layers | None = None


@validated
class CompacterSettings:
    """Compacter; Compacter++ with `placement=feed_forward`.

    Args:
        name: The method.
        placement: Where the adapters stand.
        reduction_factor: The model's width by the adapter's.
        phm_dim: Number of Kronecker products.
        phm_rank: Rank within the blocks.
        shared_rule: Whether all layers share one rule.
        factorised_rule: Whether a rule is kept in two factors.
        phm_init_range: Standard deviation of the initial rule. Unset: as the authors' code.
        non_linearity: Activation, by its name in transformers.
        target_modules: Ends of the names of the modules to adapt. Unset: as the placement says.
        layers_to_transform: Numbers of the blocks to adapt, from 0. Unset: all.

    Privacy:
        Nothing, no data touched.
    """

    name: AdapterName = AdapterName.COMPACTER
    placement: PlacementName = PlacementName.HOULSBY
    reduction_factor: _Reduction = 32
    phm_dim: _PositiveInt = 4
    phm_rank: _PositiveInt = 1
    shared_rule: bool = True
    factorised_rule: bool = False
    phm_init_range: _Positive | None = None
    non_linearity: str = "gelu_new"
    target_modules: _Names | None = None
    layers_to_transform: _Layers | None = None


@validated
class FfaLoraSettings:
    """FFA-LoRA: LoRA with a public first factor that is not trained.

    Args:
        name: The method.
        r: Rank.
        lora_alpha: The update is scaled by lora_alpha / r.
        lora_dropout: Probability of dropout before the first factor.
        use_rslora: Whether it is scaled by lora_alpha / sqrt(r) instead.
        seed: Public seed of the first factor.
        target_modules: Ends of the names of the layers to adapt. Unset: query and value.
        layers_to_transform: Numbers of the blocks to adapt, from 0. Unset: all.

    Privacy:
        Nothing, no data touched.
    """

    name: AdapterName = AdapterName.FFA_LORA
    r: _PositiveInt = 8
    lora_alpha: _PositiveInt = 16
    lora_dropout: _Probability = 0.0
    use_rslora: bool = False
    seed: _Seed = 0
    target_modules: _Names | None = None
    layers_to_transform: _Layers | None = None


@validated
class FullSettings:
    """Full fine-tuning: every weight is trained; there is nothing to choose.

    Args:
        name: The choice.

    Privacy:
        Nothing, no data touched.
    """

    name: FullName = FullName.FULL


@validated
class Ia3Settings:
    """(IA)³.

    Args:
        name: The method.
        target_modules: Ends of the names of the layers to scale. Unset: key, value, feed-forward.
        feedforward_modules: Those of them whose input is scaled. Given with `target_modules`.

    Privacy:
        Nothing, no data touched.
    """

    name: AdapterName = AdapterName.IA3
    target_modules: _Names | None = None
    feedforward_modules: _Names | None = None


@validated
class LoraSettings:
    """LoRA, under peft's names.

    Args:
        name: The method.
        r: Rank.
        lora_alpha: The update is scaled by lora_alpha / r.
        lora_dropout: Probability of dropout before the first factor.
        use_rslora: Whether it is scaled by lora_alpha / sqrt(r) instead.
        use_dora: Whether the norms of the weights are trained too.
        target_modules: Ends of the names of the layers to adapt. Unset: query and value.
        layers_to_transform: Numbers of the blocks to adapt, from 0. Unset: all.

    Privacy:
        Nothing, no data touched.
    """

    name: AdapterName = AdapterName.LORA
    r: _PositiveInt = 8
    lora_alpha: _PositiveInt = 16
    lora_dropout: _Probability = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    target_modules: _Names | None = None
    layers_to_transform: _Layers | None = None


@validated
class PrefixSettings:
    """Prefix tuning.

    Args:
        name: The method.
        num_virtual_tokens: Positions that are put before every layer's keys and values.
        prefix_projection: Whether a network makes the prefix.
        encoder_hidden_size: Its width. Unset: the model's.

    Privacy:
        Nothing, no data touched.
    """

    name: AdapterName = AdapterName.PREFIX
    num_virtual_tokens: _PositiveInt = 10
    prefix_projection: bool = False
    encoder_hidden_size: _PositiveInt | None = None


@validated
class PromptSettings:
    """Prompt tuning.

    Args:
        name: The method.
        num_virtual_tokens: Rows that are put before the input.
        prompt_tuning_init: Where they start; what is drawn comes from `run.seed`.
        prompt_tuning_init_text: Public text to start from.
        tokenizer_name_or_path: Its tokenizer.

    Privacy:
        Nothing, no data touched.
    """

    name: AdapterName = AdapterName.PROMPT
    num_virtual_tokens: _PositiveInt = 20
    prompt_tuning_init: PromptStart = PromptStart.SAMPLE_VOCAB
    prompt_tuning_init_text: str | None = None
    tokenizer_name_or_path: str | None = None


AdapterSettings: TypeAlias = (
    AttemptSettings
    | BitfitSettings
    | BottleneckSettings
    | CompacterSettings
    | FfaLoraSettings
    | FullSettings
    | Ia3Settings
    | LoraSettings
    | PrefixSettings
    | PromptSettings
)
"""Settings of any one method; each names its method in `name`."""

ADAPTER_CLASSES: dict[str, type[Any]] = {
    AdapterName.ATTEMPT.value: AttemptSettings,
    AdapterName.BITFIT.value: BitfitSettings,
    AdapterName.BOTTLENECK.value: BottleneckSettings,
    AdapterName.COMPACTER.value: CompacterSettings,
    AdapterName.FFA_LORA.value: FfaLoraSettings,
    FullName.FULL.value: FullSettings,
    AdapterName.IA3.value: Ia3Settings,
    AdapterName.LORA.value: LoraSettings,
    AdapterName.PREFIX.value: PrefixSettings,
    AdapterName.PROMPT.value: PromptSettings,
}
"""Settings class of every method, by its name."""
