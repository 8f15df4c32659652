"""The public list of settings that a selection draws from, and its plan. No torch in here.

A setting with several values, as in `optim.learning_rate=1e-3,5e-3`, is a dimension of a grid; the
candidates are its points. Only what leaves the mechanism of a trial as it is may have several.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from dpft.accounting.selection import TrialCount
from dpft.errors import ConfigurationError
from dpft.privacy import Privacy
from dpft.recipes.config.composition import compose_config, explained, settings_from, yaml_of
from dpft.recipes.config.schema import TrainSettings
from dpft.recipes.preparation import Prepared, prepare_evaluation, refuse_long
from dpft.recipes.tasks import Split
from dpft.tuning import TuningPlan, plan_tuning

__all__ = ["MAY_VARY", "Candidate", "PreparedTuning", "candidates_of", "prepare_tuning"]

MAY_VARY = (
    "adapter",
    "architecture",
    "optim",
    "privacy.clip_norm",
    "privacy.clipping",
    "run.seed",
)
"""Settings that may have several values, with all below them. Noise is relative to the clip norm,
and nothing else here enters the accounting. Base models and source prompts may not: some have a
certificate of their own, and that of the choice would have to hold those of all candidates."""
_ACCOUNTANT = "privacy.accountant=rdp"  # the only one that bounds a selection; others are refused
_SOURCES = ("adapter.sources", "adapter.public_sources")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One point of the grid.

    Args:
        config: Its composed configuration.
        settings: The same, validated.

    Privacy:
        Public: fixed before any record is read.
    """

    config: DictConfig
    settings: TrainSettings

    def yaml_of_trial(self, privacy: Privacy, tuning: dict[str, object]) -> str:
        """Return the resolved settings as the trial ran, and how it was chosen.

        Args:
            privacy: The plan of a trial: a noise multiplier instead of a target.
            tuning: Public facts about the selection, written under `tune`.

        Privacy:
            Nothing, no data touched: settings are public.
        """
        config = self.config.copy()
        OmegaConf.set_struct(config, value=False)
        config.privacy.epsilon = None
        config.privacy.noise_multiplier = privacy.noise_multiplier
        config.tune = tuning
        return yaml_of(config)


@dataclasses.dataclass(frozen=True)
class PreparedTuning:
    """A selection whose settings and records were found sound.

    Args:
        overrides: What was asked for.
        candidates: The points of the grid.
        trials: A prepared run for each of them, with the noise of a trial.
        plan: What the selection will do.

    Privacy:
        Holds raw records.
    """

    overrides: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    trials: tuple[Prepared, ...]
    plan: TuningPlan


def candidates_of(overrides: Sequence[str]) -> tuple[Candidate, ...]:
    """Return all points of a grid, composed and validated.

    Args:
        overrides: As for `dpft train -m`; at least one setting has several values.

    Returns:
        The candidates, in the order of the grid.

    Raises:
        ConfigurationError: If no setting has several values, one that has them changes what a
            trial costs, or a candidate is not valid.

    Privacy:
        Nothing, no data touched. Every candidate has the same mechanism
        (`test_settings_that_change_the_mechanism_are_refused_by_name`).
    """
    with explained(overrides):
        parsed = OverridesParser.create().parse_overrides([_ACCOUNTANT, *overrides])
    _refuse_grid(parsed)
    points = itertools.product(*map(_values, parsed))
    candidates = tuple(_candidate(point) for point in points)
    for candidate in candidates:
        _refuse_other_mechanism(candidate.settings, candidates[0].settings)
    return candidates


def prepare_tuning(overrides: Sequence[str], count: TrialCount) -> PreparedTuning:
    """Check settings and files of all candidates, read the records once, and fix the plan.

    Args:
        overrides: As for `candidates_of`.
        count: The distribution of the number of trials.

    Returns:
        The prepared selection.

    Raises:
        ConfigurationError: If anything is wrong.

    Privacy:
        Reads raw records; nothing is released.
    """
    candidates = candidates_of(overrides)
    first = prepare_evaluation(candidates[0].settings)
    rows = first.task.load(Split.TRAIN)
    _refuse_long(first, candidates, rows)
    first = first.with_rows(rows)
    plan = plan_tuning(first.privacy, first.intake.count, count)
    prepared = tuple(
        dataclasses.replace(
            first,
            settings=each.settings,
            privacy=_as_clipped_by(each.settings.privacy, plan.trial.privacy),
        )
        for each in candidates
    )
    return PreparedTuning(tuple(overrides), candidates, prepared, plan)


def _refuse_long(
    first: Prepared, candidates: Sequence[Candidate], rows: list[dict[str, Any]]
) -> None:
    """Raise if a candidate would cut a text without a word: candidates may differ in length."""
    seen = []
    for each in candidates:
        if each.settings.architecture not in seen:
            seen.append(each.settings.architecture)
            prepared = dataclasses.replace(first, settings=each.settings)
            refuse_long(prepared, rows, Split.TRAIN)
            refuse_long(prepared, first.held_out, Split.VALIDATION)


def _candidate(point: Sequence[str]) -> Candidate:
    with explained(point):
        config = compose_config(point)
        return Candidate(config, settings_from(config))


def _values(override: Override) -> list[str]:
    """Return an override once for each of its values."""
    if not override.is_sweep_override():
        assert override.input_line is not None, "parsed from text"
        return [override.input_line]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _refuse_grid(overrides: Sequence[Override]) -> None:
    swept = [override for override in overrides if override.is_sweep_override()]
    problems = [
        f"Expected {override.input_line} to list its values. Trials are drawn from a public list. "
        f"Write {override.key_or_group}=A,B,C."
        for override in swept
        if not (override.is_choice_sweep() or override.is_range_sweep())
    ]
    problems += [_changes_mechanism(each.key_or_group) for each in swept if not _may_vary(each)]
    if not swept:
        problems.append(
            "Expected at least one setting with several values. There is nothing to choose from. "
            "Give some as in optim.learning_rate=1e-3,5e-3."
        )
    if problems:
        raise ConfigurationError(problems)


def _may_vary(override: Override) -> bool:
    key = override.key_or_group
    allowed = any(key == prefix or key.startswith(f"{prefix}.") for prefix in MAY_VARY)
    return allowed and key not in _SOURCES


def _changes_mechanism(key: str) -> str:
    return (
        f"Expected {key} to have one value. The candidates would differ in what a trial costs or "
        f"starts from. Give several values to {', '.join(MAY_VARY)} and what is below them only."
    )


def _refuse_other_mechanism(settings: TrainSettings, first: TrainSettings) -> None:
    """A group may bring other settings than its own: what was composed is compared too."""
    if settings.run.resume is not None:
        raise ConfigurationError(
            f"Expected run.resume={settings.run.resume} to be unset. A selection keeps nothing "
            "that could be resumed, since that would tell the number of trials. Start it anew."
        )
    if settings.run.trackers:
        raise ConfigurationError(
            "Expected run.trackers to be empty. Nothing of a trial may be told but of the one that "
            "is chosen. Leave run.trackers out."
        )
    same_privacy = _as_clipped_by(settings.privacy, first.privacy) == settings.privacy
    if settings.task != first.task or not same_privacy:
        raise ConfigurationError(_changes_mechanism("privacy and task"))


def _as_clipped_by(privacy: Privacy, other: Privacy) -> Privacy:
    """Return another guarantee with the clipping of this one."""
    clipping = {"clip_norm": privacy.clip_norm, "clipping": privacy.clipping}
    return dataclasses.replace(other, **clipping)  # type: ignore[arg-type]  # the fields' own values
