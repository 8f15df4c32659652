"""The plan itself: a run that meets a demand, what it assumed, and its command."""

import dataclasses
from collections.abc import Sequence

from omegaconf import OmegaConf

from dpft.recipes.config.composition import compose_config, compose_settings, explained
from dpft.recipes.planning.candidates import (
    FEWEST_STEPS,
    LEAST_GAIN,
    MOST_EPOCHS,
    Candidate,
    candidates,
    chosen,
)
from dpft.recipes.planning.demand import LARGEST_DELTA, Demand
from dpft.recipes.planning.learning_rates import PublishedRun, nearest_run, scaled_learning_rate
from dpft.recipes.planning.memory import tokens_that_fit
from dpft.recipes.tasks import build_task
from dpft.recipes.tasks.traits import TaskKind, traits_of

__all__ = ["Plan", "Wish", "plan_for", "with_placeholders"]

_ROBERTA_BASE = 125_000_000
_NO_MODEL = "model=MODEL"
_UNIT = (
    "One record is protected, against being added or removed; num_records is public, and stated "
    "rather than counted."
)
_ONE_RUN = (
    "Epsilon covers one run by the PLD accountant under Poisson sampling; trials beforehand cost "
    "more (dpft tune)."
)
_LENGTH = (
    f"At least {FEWEST_STEPS} steps, the shortest published run (Li et al. 2022); batches are "
    "powers of two."
)
_WORK = (
    f"Work is doubled while that lowers the noise of a step by {LEAST_GAIN:.0%} or more: a limit "
    "of ours."
)
_TIME = (
    f"Time was not given: at most {MOST_EPOCHS} epochs, the longest published run (Yu et al. 2022)."
)
_SIZE = (
    f"The model's size was not given: {_ROBERTA_BASE // 10**6} million weights, those of "
    "RoBERTa-base."
)
_DEFAULT_MEMORY = "Memory was not given: the physical batch is left at its default."
_ESTIMATED_MEMORY = "The physical batch is an estimate from the model's size; it is only speed."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be trained.

    Args:
        task: Name of the task.
        adapter: Name of the method.
        model: Folder or Hub name. Unset: the task's default.

    Privacy:
        Nothing, no data touched.
    """

    task: str = "text_classification"
    adapter: str = "lora"
    model: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that meets a demand.

    Args:
        demand: What was to be met.
        found: Candidates, the largest batch first.
        choice: The one taken.
        learning_rate: For its batch.
        physical_batch: Records of the greatest length that are worked on at once; None if memory
            was not looked at.
        assumptions: Sentences: what was not given, and which rules were used.
        overrides: Arguments of ``dpft train`` that carry the plan out.
        placeholders: Those of them that the user has to fill in.

    Privacy:
        Nothing, no data touched.
    """

    demand: Demand
    found: tuple[Candidate, ...]
    choice: Candidate
    learning_rate: float
    physical_batch: int | None
    assumptions: tuple[str, ...]
    overrides: tuple[str, ...]
    placeholders: tuple[str, ...]


def plan_for(demand: Demand, wish: Wish) -> Plan:
    """Plan a run.

    Args:
        demand: Data, guarantee and hardware.
        wish: What is to be trained.

    Returns:
        The plan. ``dpft train`` with its overrides has exactly its noise multiplier.

    Raises:
        ConfigurationError: If the demand cannot be met, or task or method are not known.

    Privacy:
        Nothing, no data touched (`test_the_printed_command_trains_with_the_planned_noise`).

    Example:
        >>> plan = plan_for(Demand(num_records=67_349, epsilon=1.0), Wish(task="sst2"))
        >>> plan.choice.expected_batch_size, plan.choice.steps
        (2048, 205)
    """
    target = _target_of(wish)
    parameters = demand.parameters or _ROBERTA_BASE
    like = nearest_run(wish.adapter, parameters, writes_text=target.writes_text)
    found = candidates(demand)
    choice = chosen(found)
    learning_rate = scaled_learning_rate(like, choice.expected_batch_size)
    tokens = _tokens(demand, parameters, target)
    return Plan(
        demand=demand,
        found=tuple(found),
        choice=choice,
        learning_rate=learning_rate,
        physical_batch=None if tokens is None else tokens // target.max_length,
        assumptions=(*_about_data(demand), *_about_rules(demand, like), *_about_model(demand)),
        overrides=(
            *target.overrides,
            *_privacy(demand, choice),
            f"optim.learning_rate={learning_rate:g}",
            *([] if tokens is None else [f"performance.token_budget={tokens}"]),
        ),
        placeholders=target.placeholders,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Target:
    """What a wish comes to: the overrides that choose it, and what the plan must know of it."""

    overrides: tuple[str, ...]
    placeholders: tuple[str, ...]
    writes_text: bool
    max_length: int


def _target_of(wish: Wish) -> _Target:
    filled = _filled_in(wish)
    chosen_by = [f"task={wish.task}", f"adapter={wish.adapter}", *filled]
    settings = compose_settings(chosen_by)
    task = build_task(settings.task)
    to_name = wish.model is None and task.default_model() is None
    model = [_NO_MODEL] if to_name else [f"model={_quoted(wish.model)}"] if wish.model else []
    return _Target(
        overrides=(*chosen_by, *model),
        placeholders=(*filled, *([_NO_MODEL] if to_name else [])),
        writes_text=traits_of(task).kind is TaskKind.TEXT,
        max_length=settings.architecture.max_length,
    )


def _tokens(demand: Demand, parameters: int, target: _Target) -> int | None:
    if demand.memory_gib is None:
        return None
    longest, writes_text = target.max_length, target.writes_text
    return tokens_that_fit(demand.memory_gib, parameters, longest, writes_text=writes_text)


def _filled_in(wish: Wish) -> list[str]:
    """Return placeholders for what a task leaves to the user."""
    overrides = [f"task={wish.task}"]
    return with_placeholders(overrides)[len(overrides) :]


def with_placeholders(overrides: Sequence[str]) -> list[str]:
    """Return overrides followed by placeholders for what a task leaves to the user.

    Args:
        overrides: As for ``dpft train``.

    Raises:
        ConfigurationError: If one of them names what is not there.

    Privacy:
        Nothing, no data touched.
    """
    with explained(overrides):
        config = compose_config(overrides)
    missing = [key for key in OmegaConf.missing_keys(config) if not key.startswith("hydra.")]
    return [*overrides, *(f"{key}=train.jsonl" for key in sorted(missing))]


def _privacy(demand: Demand, choice: Candidate) -> list[str]:
    return [
        f"privacy.num_records={demand.num_records}",
        f"privacy.epsilon={demand.epsilon!r}",
        f"privacy.delta={demand.chosen_delta!r}",
        f"privacy.expected_batch_size={choice.expected_batch_size}",
        "privacy.epochs=null",
        f"privacy.steps={choice.steps}",
    ]


def _about_data(demand: Demand) -> list[str]:
    said = [_UNIT, _ONE_RUN]
    if demand.delta is None:
        said.append(
            f"delta was not given: 1/(10 N), at most {LARGEST_DELTA:g}, rounded down to "
            f"{demand.chosen_delta:g}."
        )
    return said


def _about_rules(demand: Demand, like: PublishedRun) -> list[str]:
    rate = (
        f"Learning rate: {like.learning_rate:g} at batch {like.batch}, from {like.source}, times "
        "the root of the ratio of batches."
    )
    return [_LENGTH, _WORK, rate, *([_TIME] if demand.hours is None else [])]


def _about_model(demand: Demand) -> list[str]:
    return [
        *([_SIZE] if demand.parameters is None else []),
        _DEFAULT_MEMORY if demand.memory_gib is None else _ESTIMATED_MEMORY,
    ]


def _quoted(text: str) -> str:
    """Return a value as Hydra reads it: in quotes where it holds more than plain signs."""
    plain = all(sign.isalnum() or sign in "._/-" for sign in text)
    escaped = text.replace("'", r"\'")
    return text if plain else f"'{escaped}'"
