"""What a method needs to know of a model: attention projections, heads and task types.

Tables only, keyed by transformers' model type. No torch in here.
"""

import dataclasses
from typing import TYPE_CHECKING

from dpft.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "ScalingTargets",
    "attention_targets",
    "has_biases",
    "head_modules",
    "scaling_targets",
    "stores_weights_transposed",
    "sublayer_targets",
    "task_type_of",
]


@dataclasses.dataclass(frozen=True)
class ScalingTargets:
    """The layers that (IA)³ scales, by the ends of their names.

    Args:
        outputs: Layers whose output is scaled: keys and values.
        inputs: Layers whose input is scaled: the output projection of the feed-forward network.
        excluded: Layers that match one of these but are not meant.
    """

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    excluded: tuple[str, ...] = ()


# Query and value projections, as in Hu et al. 2021 (2106.09685), section 4.2.
_ATTENTION: dict[str, tuple[str, ...]] = {
    "bert": ("query", "value"),
    "deberta": ("in_proj",),  # query, key and value in one matrix
    "deberta-v2": ("query_proj", "value_proj"),
    "distilbert": ("q_lin", "v_lin"),
    "gpt2": ("c_attn",),  # query, key and value in one matrix
    "llama": ("q_proj", "v_proj"),
    "mistral": ("q_proj", "v_proj"),
    "qwen2": ("q_proj", "v_proj"),
    "qwen3": ("q_proj", "v_proj"),
    "roberta": ("query", "value"),
    "t5": ("q", "v"),
}
_TRANSPOSED = frozenset({"gpt2"})  # transformers' Conv1D
# Fresh layers of the head beside `classifier` and `score`, which peft saves of its own accord.
_EXTRA_HEADS: dict[tuple[str, str], tuple[str, ...]] = {
    ("deberta", "SEQ_CLS"): ("pooler",),
    ("deberta-v2", "SEQ_CLS"): ("pooler",),
    ("distilbert", "SEQ_CLS"): ("pre_classifier",),
    ("t5", "SEQ_CLS"): ("classification_head",),
}
# Modules around which adapters of sub-layers stand, by placement: see `dpft.adapters.sublayers`.
# Cross-attention has none (reference implementation: cross_adapter=False).
_POST_NORM = r"(.*\.)?layer\.\d+\."
_T5_FEED_FORWARD = r"(.*\.)?(encoder\.block\.\d+\.layer\.1|decoder\.block\.\d+\.layer\.2)"
_LLAMA = {
    "houlsby": r"(.*\.)?layers\.\d+\.(self_attn\.o_proj|mlp\.down_proj)",
    "pfeiffer": r"(.*\.)?layers\.\d+",
    "feed_forward": r"(.*\.)?layers\.\d+\.mlp\.down_proj",
}
_BERT = {
    "houlsby": _POST_NORM + r"(attention\.)?output\.dropout",
    "pfeiffer": _POST_NORM + r"output\.LayerNorm",
    "feed_forward": _POST_NORM + r"output\.dropout",
}
_SUBLAYERS: dict[str, dict[str, str]] = {
    "bert": _BERT,
    "deberta": _BERT,
    "deberta-v2": _BERT,
    "distilbert": {
        "houlsby": _POST_NORM + r"(attention\.out_lin|ffn)",
        "pfeiffer": _POST_NORM + r"output_layer_norm",
        "feed_forward": _POST_NORM + "ffn",
    },
    "gpt2": {
        "houlsby": r"(.*\.)?h\.\d+\.(attn\.resid_dropout|mlp\.dropout)",
        "pfeiffer": r"(.*\.)?h\.\d+",
        "feed_forward": r"(.*\.)?h\.\d+\.mlp\.dropout",
    },
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "roberta": _BERT,
    "t5": {
        "houlsby": (
            r"(.*\.)?(encoder\.block\.\d+\.layer\.[01]|decoder\.block\.\d+\.layer\.[02])"
            r"\.dropout"
        ),
        "pfeiffer": _T5_FEED_FORWARD,
        "feed_forward": _T5_FEED_FORWARD + r"\.dropout",
    },
}
# Keys, values and the feed-forward network, as in Liu et al. 2022 (2205.05638), section 3.3.
_ATTENTION_OUTPUTS = ("attention.output.dense", "crossattention.output.dense")
_BERT_SCALING = ScalingTargets(("key", "value"), ("output.dense",), _ATTENTION_OUTPUTS)
_LLAMA_SCALING = ScalingTargets(("k_proj", "v_proj"), ("down_proj",))
_SCALING: dict[str, ScalingTargets] = {
    "bert": _BERT_SCALING,
    "deberta": ScalingTargets(("in_proj",), ("output.dense",), _ATTENTION_OUTPUTS),
    "deberta-v2": ScalingTargets(("key_proj", "value_proj"), ("output.dense",), _ATTENTION_OUTPUTS),
    "distilbert": ScalingTargets(("k_lin", "v_lin"), ("lin2",)),
    "gpt2": ScalingTargets(("c_attn",), ("mlp.c_proj",)),
    "llama": _LLAMA_SCALING,
    "mistral": _LLAMA_SCALING,
    "qwen2": _LLAMA_SCALING,
    "qwen3": _LLAMA_SCALING,
    "roberta": _BERT_SCALING,
    "t5": ScalingTargets(("k", "v"), ("wo",)),
}
_WITHOUT_BIASES = frozenset({"llama", "mistral", "qwen3", "t5"})
_TASK_TYPES: tuple[tuple[str, str], ...] = (  # ending of the class name -> peft's task type
    ("ForSequenceClassification", "SEQ_CLS"),
    ("ForTokenClassification", "TOKEN_CLS"),
    ("ForQuestionAnswering", "QUESTION_ANS"),
    ("ForConditionalGeneration", "SEQ_2_SEQ_LM"),
    ("ForCausalLM", "CAUSAL_LM"),
    ("LMHeadModel", "CAUSAL_LM"),
)


def attention_targets(model_type: str) -> tuple[str, ...]:
    """Return the names of the query and value projections of an architecture.

    Args:
        model_type: transformers' model type, as in "bert".

    Returns:
        Names that match the ends of module names.

    Raises:
        ConfigurationError: If the architecture is not in the table.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> attention_targets("distilbert")
        ('q_lin', 'v_lin')
    """
    if model_type not in _ATTENTION:
        raise ConfigurationError(
            f"Expected model_type={model_type} to be one of {', '.join(sorted(_ATTENTION))}. "
            "Target modules are never guessed. Give adapter.target_modules=[NAME,...]: the ends "
            "of the names of the linear layers to adapt, as model.named_modules() shows them."
        )
    return _ATTENTION[model_type]


def has_biases(model_type: str) -> bool:
    """Return whether an architecture has biases outside of its head, as far as is known.

    Privacy:
        Nothing, no data touched.
    """
    return model_type not in _WITHOUT_BIASES


def head_modules(model_type: str, task_type: str | None) -> list[str] | None:
    """Return the layers of the head that peft would neither train nor save by itself.

    peft trains and saves `classifier` and `score` of every classification model.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.

    Returns:
        Names of modules; None where there are no others.

    Privacy:
        Nothing, no data touched.
    """
    return list(_EXTRA_HEADS.get((model_type, task_type or ""), ())) or None


def scaling_targets(model_type: str) -> ScalingTargets:
    """Return the layers that (IA)³ scales in an architecture.

    Args:
        model_type: transformers' model type, as in "bert".

    Returns:
        Ends of the names of the layers.

    Raises:
        ConfigurationError: If the architecture is not in the table.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> scaling_targets("llama").inputs
        ('down_proj',)
    """
    if model_type not in _SCALING:
        raise ConfigurationError(
            f"Expected model_type={model_type} to be one of {', '.join(sorted(_SCALING))}. Target "
            "modules are never guessed. Give adapter.target_modules=[NAME,...], the ends of the "
            "names of the linear layers to scale, as model.named_modules() shows them, and "
            "adapter.feedforward_modules=[NAME,...], those of them whose input is scaled."
        )
    return _SCALING[model_type]


def stores_weights_transposed(model_type: str) -> bool:
    """Return whether the projections keep their weights as [inputs, outputs].

    Privacy:
        Nothing, no data touched.
    """
    return model_type in _TRANSPOSED


def sublayer_targets(model_type: str, placement: str) -> str:
    r"""Return which modules of an architecture take an adapter around their sub-layer.

    Args:
        model_type: transformers' model type, as in "bert".
        placement: "houlsby", "pfeiffer" or "feed_forward".

    Returns:
        A regular expression of whole module names.

    Raises:
        ConfigurationError: If the architecture is not in the table.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> sublayer_targets("gpt2", "pfeiffer")
        '(.*\\.)?h\\.\\d+'
    """
    if model_type not in _SUBLAYERS:
        raise ConfigurationError(
            f"Expected model_type={model_type} to be one of {', '.join(sorted(_SUBLAYERS))}. "
            "Target modules are never guessed. Give adapter.target_modules=[NAME,...]: the ends of "
            "the names of the modules whose output the adapter shall change, as "
            "model.named_modules() shows them; for placement=pfeiffer on a model that normalises "
            "after the sum, the norm after the feed-forward layer."
        )
    return _SUBLAYERS[model_type][placement]


def task_type_of(model: "PreTrainedModel") -> str | None:
    """Return peft's task type of a model, inferred from the name of its class.

    Privacy:
        Nothing, no data touched.
    """
    name = type(model).__name__
    return next((task for ending, task in _TASK_TYPES if name.endswith(ending)), None)
