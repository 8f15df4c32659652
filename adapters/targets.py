"""What a method needs to know of a model: attention projections, heads and task types.

Tables only, keyed by transformers' model type. No torch in here.
"""

from typing import TYPE_CHECKING

from dpft.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["attention_targets", "head_modules", "stores_weights_transposed", "task_type_of"]

# Query and value projections, as in Hu et al. 2021 (2106.09685), section 4.2.
_ATTENTION: dict[str, tuple[str, ...]] = {
    "bert": ("query", "value"),
    "distilbert": ("q_lin", "v_lin"),
    "gpt2": ("c_attn",),  # query, key and value in one matrix
    "llama": ("q_proj", "v_proj"),
    "mistral": ("q_proj", "v_proj"),
    "qwen2": ("q_proj", "v_proj"),
    "roberta": ("query", "value"),
    "t5": ("q", "v"),
}
_TRANSPOSED = frozenset({"gpt2"})  # transformers' Conv1D
# Fresh layers of the head beside `classifier` and `score`, which peft saves of its own accord.
_EXTRA_HEADS: dict[tuple[str, str], tuple[str, ...]] = {
    ("distilbert", "SEQ_CLS"): ("pre_classifier",),
    ("t5", "SEQ_CLS"): ("classification_head",),
}
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


def stores_weights_transposed(model_type: str) -> bool:
    """Return whether the projections keep their weights as [inputs, outputs].

    Privacy:
        Nothing, no data touched.
    """
    return model_type in _TRANSPOSED


def task_type_of(model: "PreTrainedModel") -> str | None:
    """Return peft's task type of a model, inferred from the name of its class.

    Privacy:
        Nothing, no data touched.
    """
    name = type(model).__name__
    return next((task for ending, task in _TASK_TYPES if name.endswith(ending)), None)
