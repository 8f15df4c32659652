"""Which metrics there are, by name; those of GLUE by task. Nothing heavy until one is asked for.

A metric is registered as the place of a function without arguments that returns its scorer.
"""

import difflib
import importlib
from typing import TYPE_CHECKING

from dpft.errors import ConfigurationError

if TYPE_CHECKING:
    from dpft.recipes.metrics.record_metric import RecordMetric
    from dpft.recipes.metrics.scorer import Scorer

__all__ = ["fewest_records", "glue_metric", "glue_tasks", "metric", "metrics", "register"]

_HERE = "dpft.recipes.metrics"
_METRICS: dict[str, str] = {}
# The figures of the leaderboard; the numbers of MNLI are accuracies on two sets of records.
_GLUE = {
    "ax": ("matthews_correlation",),
    "cola": ("matthews_correlation",),
    "mnli": ("accuracy",),
    "mnli_matched": ("accuracy",),
    "mnli_mismatched": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "qnli": ("accuracy",),
    "qqp": ("accuracy", "f1"),
    "rte": ("accuracy",),
    "sst2": ("accuracy",),
    "stsb": ("pearson", "spearmanr"),
    "wnli": ("accuracy",),
}
_NEEDS_A_MODEL = "It scores with a trained model that cannot be fetched without a network"
_ABSENT = {
    "bertscore": _NEEDS_A_MODEL,
    "bleurt": _NEEDS_A_MODEL,
    "meteor": "It needs WordNet, or the Java program METEOR 1.5 with its paraphrases",
    "moverscore": _NEEDS_A_MODEL,
}


def register(name: str, place: str) -> None:
    """Make a metric available under a name.

    Args:
        name: Name of the metric, new.
        place: "module:function" of a function without arguments that returns a `Scorer`.

    Raises:
        ConfigurationError: If the name is taken, or stands for a metric that this is not.

    Privacy:
        Nothing, no data touched.
    """
    if name in _METRICS or name in _ABSENT:
        raise ConfigurationError(
            f"Expected metric={name} to be new. A second registration would change what a name "
            "means. Choose another name."
        )
    _METRICS[name] = place


def metrics() -> tuple[str, ...]:
    """Return the names of all metrics, sorted.

    Privacy:
        Nothing, no data touched.
    """
    return tuple(sorted(_METRICS))


def glue_tasks() -> tuple[str, ...]:
    """Return the names of all tasks of GLUE, sorted.

    Privacy:
        Nothing, no data touched.
    """
    return tuple(sorted(_GLUE))


def metric(name: str) -> "RecordMetric":
    """Return a metric of `evaluate` that needs no network.

    Args:
        name: Name of a registered metric.

    Returns:
        A new metric, without records.

    Raises:
        ConfigurationError: If no metric of that name is registered.

    Privacy:
        As `RecordMetric`: what it computes may be published for public records only.

    Example:
        >>> metric("bleu").compute(predictions=["a b c d"], references=[["a b c d", "a"]])
        {'bleu': 100.0...}
    """
    from dpft.recipes.metrics.record_metric import RecordMetric

    return RecordMetric(name, _scorer(name))


def glue_metric(task: str) -> "RecordMetric":
    """Return the metric with exactly the figures that GLUE reports for a task.

    Args:
        task: Name of the task, as in `glue_tasks`. MNLI is reported twice, on matched and on
            mismatched records; its three names stand for the same figure.

    Returns:
        A new metric, without records.

    Raises:
        ConfigurationError: If GLUE has no such task.

    Privacy:
        As `RecordMetric`.

    References:
        Wang et al. 2018 (1804.07461), table 1.

    Example:
        >>> glue_metric("mrpc").compute(predictions=[1, 1, 0], references=[1, 0, 0])
        {'accuracy': 0.66..., 'f1': 0.66...}
    """
    from dpft.recipes.metrics.record_metric import RecordMetric
    from dpft.recipes.metrics.scorer import together

    if task not in _GLUE:
        raise _unknown("glue task", task, glue_tasks())
    return RecordMetric(f"glue_{task}", together(*(_scorer(figure) for figure in _GLUE[task])))


def fewest_records(name: str) -> int:
    """Return how many records a metric is defined for at least.

    Args:
        name: Name of a registered metric.

    Raises:
        ConfigurationError: If no metric of that name is registered.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> fewest_records("bleu"), fewest_records("cider")
        (1, 2)
    """
    return _scorer(name).fewest


def _scorer(name: str) -> "Scorer":
    if name in _ABSENT:
        raise ConfigurationError(
            f"Expected metric={name} to work offline. {_ABSENT[name]}. Run its own program on the "
            "saved predictions, or choose meteor_exact_stem, bleu or chrf."
        )
    if name not in _METRICS:
        raise _unknown("metric", name, metrics())
    module, function = _METRICS[name].split(":")
    made: Scorer = getattr(importlib.import_module(module), function)()
    return made


def _unknown(field: str, name: str, known: tuple[str, ...]) -> ConfigurationError:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Choose one of {', '.join(known)}."
    return ConfigurationError(
        f"Expected {field}={name} to be registered. A name that is not known is never guessed. "
        f"{hint}"
    )


for _name, _place in {
    "accuracy": "labels:accuracy_scorer",
    "bleu": "translation:bleu_scorer",
    "chrf": "translation:chrf_scorer",
    "cider": "cider:cider_scorer",
    "dart": "table_to_text:dart_scorer",
    "e2e": "table_to_text:e2e_scorer",
    "f1": "labels:f1_scorer",
    "matthews_correlation": "labels:matthews_scorer",
    "meteor_exact_stem": "meteor:meteor_exact_stem_scorer",
    "multi_bleu": "translation:multi_bleu_scorer",
    "nist": "nist:nist_scorer",
    "pearson": "correlation:pearson_scorer",
    "perplexity": "perplexity:perplexity_scorer",
    "rouge": "rouge:rouge_scorer",
    "rouge_l": "captions:rouge_l_scorer",
    "spearmanr": "correlation:spearman_scorer",
    "ter": "translation:ter_scorer",
}.items():
    register(_name, f"{_HERE}.{_place}")
