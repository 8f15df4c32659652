"""Attacks on models of public records: refused on others, and held against the guarantee."""

import dataclasses
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from dpft.accounting.auditing import Attacked
from dpft.errors import ConfigurationError
from dpft.recipes import membership, membership_output
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.membership import (
    MembershipAudit,
    MembershipSettings,
    Population,
    attack_models,
    public_records,
)
from dpft.recipes.membership_output import (
    above_the_guarantee,
    draw_membership,
    membership_as_json,
)
from dpft.recipes.preparation import Prepared, prepare_evaluation

FEW = MembershipSettings(
    epsilon=0.5,
    delta=1e-3,
    models=6,
    records=100,
    expected_batch_size=20,
    steps=30,
    learning_rate=0.2,
)


def hard() -> Population:
    """Labels by chance: what is right about them can only be remembered."""
    random = np.random.default_rng(1)
    features = random.standard_normal((FEW.records, 120))
    return Population(features, random.integers(2, size=FEW.records), 2)


@cache
def audited() -> MembershipAudit:
    """Models that are the same whenever they are made, so that no margin is left to chance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpft.randomness.secrets.token_bytes", Random(7).randbytes)
        return attack_models(hard(), FEW)


def test_models_without_privacy_give_their_records_away() -> None:
    values = membership_as_json(audited(), FEW)

    assert values["non_private"]["loss"]["area_under_curve"] > 0.7
    assert values["private"]["loss"]["area_under_curve"] < 0.62
    assert values["above_the_guarantee"] == []
    assert set(values["limit"]) == {"0.001", "0.01", "0.1"}


def test_models_without_noise_are_found_above_the_guarantee() -> None:
    included = np.random.default_rng(2).random((40, 100)) < 0.5
    perfect = Attacked(included.astype(float), included)
    plan = dataclasses.replace(FEW, epsilon=0.5).privacy(private=True).plan(FEW.records // 2)

    found = MembershipAudit({"loss": perfect}, {"loss": perfect}, plan)

    assert "loss at 0.01 false alarms" in above_the_guarantee(found)


def test_the_figure_shows_both_kinds_and_the_best_attacker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(membership_output, "_limit", lambda _, rate: min(1.0, 3 * rate))

    svg = draw_membership(audited()).svg

    for part in ("likelihood ratio, not private", "loss, private", "best attacker, epsilon = "):
        assert part in svg


def test_models_with_and_without_privacy_have_the_same_settings() -> None:
    private, plain = (FEW.privacy(private=each).plan(FEW.records // 2) for each in (True, False))

    assert private.is_private
    assert not plain.is_private
    assert private.length.steps == plain.length.steps
    assert private.length.sample_rate == plain.length.sample_rate


def test_a_confidence_is_the_logit_of_the_right_class() -> None:
    import torch

    logits = torch.tensor([[2.0, 0.5, -1.0]])
    chance = torch.softmax(logits, -1)[0, 1]

    found = membership._logit_of_truth(logits, torch.tensor([1]))

    assert found == pytest.approx([float(torch.log(chance / (1 - chance)))], abs=1e-6)


def prepared(**changes: Any) -> Prepared:
    found = prepare_evaluation(compose_settings([]))
    return dataclasses.replace(found, **changes)


class _Undeclared:
    """A task that is like the embedded one, but knows nothing of its records."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return None if name == "evaluation" else getattr(self._task, name)


def test_records_that_are_not_known_to_be_public_are_refused() -> None:
    own = prepared()
    undeclared: Any = _Undeclared(own.task)

    with pytest.raises(ConfigurationError, match="Every shadow"):
        public_records(dataclasses.replace(own, task=undeclared), 10)


def test_more_records_than_there_are_are_refused() -> None:
    own = prepared()

    with pytest.raises(ConfigurationError, match="at most 5"):
        public_records(dataclasses.replace(own, held_out=own.held_out[:5]), 10)


def test_features_are_of_the_held_out_records_alone() -> None:
    found = public_records(prepared(), 8)

    assert found.features.shape == (8, 128)
    assert np.square(found.features).mean() == pytest.approx(1.0, abs=1e-5)
    assert found.classes == 5


def test_too_few_models_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="models=3"):
        MembershipSettings(models=3)


def test_no_named_ledger_hears_of_public_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.sqlite"
    monkeypatch.setenv("DPFT_LEDGER", str(mine))

    attack_models(hard(), dataclasses.replace(FEW, models=4, steps=1))

    assert not mine.exists()
