"""Everything that a tracker is told, made of public values alone. No torch in here.

Texts that a user wrote (paths, templates, names of columns) are left out: a tracker may belong to
somebody else. What is sent is numbers, switches, names of choices and the data set's given name.
"""

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeAlias

from dpft.optim import Optim, learning_rate_factor
from dpft.privacy import PrivacyPlan
from dpft.progress import Progress

__all__ = ["Setting", "public_fields", "released_metrics", "run_settings", "step_values"]

Setting: TypeAlias = bool | int | float | str
_RELEASED = frozenset({"noisy", "public"})


def run_settings(plan: PrivacyPlan, optim: Optim | None) -> dict[str, Setting]:
    """Return what is sent before the first step.

    Args:
        plan: The plan of the run.
        optim: Its optimiser's settings, if they are known.

    Returns:
        Settings by name: `privacy.` as asked for, `plan.` as it will run, `optim.`.

    Privacy:
        Nothing, no data touched: all are fixed before training.
    """
    length = plan.length
    return {
        "guarantee": "differential privacy" if plan.is_private else "NOT PRIVATE",
        **public_fields("privacy", plan.privacy),
        "privacy.dataset_id": plan.privacy.dataset_id,
        "plan.adjacency": length.adjacency.value,
        "plan.unit": plan.privacy.covers.value,
        "plan.noise_multiplier": plan.noise_multiplier,
        "plan.num_records": length.num_records,
        "plan.sample_rate": length.sample_rate,
        "plan.steps": length.steps,
        **({} if optim is None else public_fields("optim", optim)),
    }


def public_fields(section: str, settings: Any) -> dict[str, Setting]:
    """Return the numbers, switches and choices of a settings class; texts are left out.

    Args:
        section: What stands before their names.
        settings: A dataclass.

    Returns:
        Values by name; those that are unset are left out.

    Privacy:
        Nothing, no data touched. A path or a template never passes
        (`test_texts_that_a_user_wrote_are_left_out`).
    """
    found = {
        f"{section}.{field.name}": _plain(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
    }
    return {name: value for name, value in found.items() if value is not None}


def step_values(plan: PrivacyPlan, optim: Optim | None, progress: Progress) -> dict[str, float]:
    """Return what is sent after a step.

    Args:
        plan: The plan of the run.
        optim: Its optimiser's settings; None leaves the learning rate out, since that of a foreign
            schedule may follow from a metric.
        progress: Where the run stands.

    Returns:
        Values by name; an infinite epsilon is left out, the settings say NOT PRIVATE.

    Privacy:
        A function of the plan and the number of the step: nothing of the sampled records enters,
        not even their number (`test_two_runs_on_different_records_send_the_same`).
    """
    values = {
        "spent_epsilon": progress.spent_epsilon,
        "target_epsilon": progress.target_epsilon,
        "noise_multiplier": plan.noise_multiplier,
        "expected_batch_size": float(plan.length.expected_batch_size),
    }
    if optim is not None:
        share = learning_rate_factor(optim, plan.length.steps, progress.step - 1)
        values["learning_rate"] = optim.learning_rate * share
    return _finite(values)


def released_metrics(
    values: Mapping[str, float], status: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Return those metrics that are public or carry noise already.

    Args:
        values: Metric by name.
        status: What each of them cost, as in metrics.json.

    Returns:
        Metrics by name; one without a status, or of another, is left out.

    Privacy:
        Released before, or public (`test_a_metric_that_was_not_released_is_never_sent`).
    """
    return _finite(
        {
            name: value
            for name, value in values.items()
            if status.get(name, {}).get("status") in _RELEASED
        }
    )


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _plain(value: Any) -> Setting | None:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple) and value and all(isinstance(item, int | float) for item in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, bool | int | float) else None
