from pathlib import Path

import pytest

from dpft.accounting import PoissonGaussian, Unit, unit_of
from dpft.accounting.selection import TrialCount
from dpft.errors import ConfigurationError
from dpft.privacy import ClippingStyle
from dpft.recipes.candidates import MAY_VARY, candidates_of, prepare_tuning
from dpft.recipes.config.composition import settings_from_yaml

GRID = ["privacy.steps=2", "optim.learning_rate=1e-3,5e-3"]


def test_candidates_are_the_points_of_the_grid() -> None:
    found = candidates_of([*GRID, "run.seed=range(0,2)"])
    points = [(each.settings.optim.learning_rate, each.settings.run.seed) for each in found]
    assert points == [(1e-3, 0), (1e-3, 1), (5e-3, 0), (5e-3, 1)]
    assert {each.settings.privacy.steps for each in found} == {2}


def test_groups_may_vary_with_their_own_settings() -> None:
    found = candidates_of(["adapter=lora,bitfit"])
    assert [each.settings.adapter.name.value for each in found] == ["lora", "bitfit"]
    styles = {
        each.settings.privacy.clipping for each in candidates_of(["privacy.clipping=flat,auto_s"])
    }
    assert styles == set(ClippingStyle)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("privacy.epsilon=1,2", "privacy.epsilon"),
        ("privacy.noise_multiplier=1,2", "privacy.noise_multiplier"),
        ("privacy.steps=1,2", "privacy.steps"),
        ("privacy.expected_batch_size=8,16", "privacy.expected_batch_size"),
        ("privacy=default,not_private", "privacy"),
        ("privacy.dataset_id=a,b", "privacy.dataset_id"),
        ("privacy.evaluation_epsilon=1,2", "privacy.evaluation_epsilon"),
        ("task=embedded,sst2", "task"),
        ("task.data_seed=0,1", "task.data_seed"),
        ("experiment=null,sst2_minilm_lora", "experiment"),
        ("run.checkpoint_every=1,2", "run.checkpoint_every"),
        ("adapter.sources=[a],[b]", "adapter.sources"),
        ("model=a,b", "model"),
    ],
)
def test_settings_that_change_the_mechanism_are_refused_by_name(override: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        candidates_of([*GRID, override])
    (message,) = caught.value.messages
    assert message.startswith(f"Expected {key} to have one value.")
    assert all(allowed in message for allowed in MAY_VARY)


def test_a_setting_that_may_vary_is_known_by_its_whole_name() -> None:
    with pytest.raises(ConfigurationError, match=r"Expected privacy\.clip_normal to have one"):
        candidates_of(["privacy.clip_normal=1,2"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["privacy.steps=2"], "at least one setting with several values"),
        (["optim.learning_rate=interval(0,1)"], "to list its values"),
        (["optim.learning_rate=-1,2"], r"optim\.learning_rate=-1"),
        (["optim.lr=1,2"], "Did you mean"),
        ([*GRID, "run.resume=runs/a"], r"run\.resume=runs/a to be unset"),
    ],
)
def test_a_grid_that_cannot_be_tried_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        candidates_of(overrides)


def test_the_saved_settings_are_those_of_the_trial_and_say_how_it_was_chosen() -> None:
    candidate = candidates_of(GRID)[1]
    privacy = candidate.settings.privacy
    trial = type(privacy)(delta=privacy.delta, noise_multiplier=1.25, steps=2)
    text = candidate.yaml_of_trial(trial, {"grid": GRID})
    settings = settings_from_yaml(text)
    assert (settings.privacy.epsilon, settings.privacy.noise_multiplier) == (None, 1.25)
    assert settings.optim.learning_rate == 5e-3
    assert "optim.learning_rate=1e-3,5e-3" in text
    assert candidate.settings.privacy.epsilon == 8.0


def test_trials_share_records_and_noise_but_not_the_clipping() -> None:
    overrides = ["privacy.steps=2", "privacy.clip_norm=0.5,1"]
    prepared = prepare_tuning(overrides, TrialCount(3))
    assert len(prepared.trials) == len(prepared.candidates) == 2
    assert len({id(each.rows) for each in prepared.trials}) == 1
    assert len(prepared.trials[0].rows) == 6000
    assert [each.privacy.clip_norm for each in prepared.trials] == [0.5, 1.0]
    noise = prepared.plan.trial.noise_multiplier
    assert {each.privacy.noise_multiplier for each in prepared.trials} == {noise}
    mechanisms = {each.privacy.plan(6000).mechanism() for each in prepared.trials}
    assert mechanisms == {prepared.plan.training.base}
    assert prepared.plan.epsilon <= 8.0


@pytest.mark.parametrize("row", ["first", "last"])
def test_no_candidate_cuts_a_text_without_a_word(row: str, tmp_path: Path) -> None:
    lines = [f"letter {i},{'yes' if i % 2 else 'no'}" for i in range(20)]
    lines.insert(0 if row == "first" else 20, f"{'secret words ' * 20},no")
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    asked = own_files(tmp_path, "task.user_column=null")
    number = 1 if row == "first" else 21
    place = rf"file=train\.csv row={number} column=text to have at most architecture\.max_length=16"
    with pytest.raises(ConfigurationError, match=place) as caught:
        prepare_tuning([*asked, "architecture.max_length=100,16"], TrialCount(3))
    assert "secret" not in str(caught.value)


def test_a_selection_for_users_samples_users(tmp_path: Path) -> None:
    lines = [f"letter {i},{'yes' if i % 2 else 'no'},u{i % 10}" for i in range(40)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label,who", *lines]))
    asked = own_files(tmp_path, "task.group_by=who")
    prepared = prepare_tuning([*asked, "optim.learning_rate=1,2"], TrialCount(3))
    base = prepared.plan.training.base
    assert isinstance(base, PoissonGaussian)
    assert (base.unit, base.sample_rate) == (Unit.USER, 4 / 10)
    assert unit_of(prepared.plan.training) is Unit.USER
    assert {each.privacy.samples_users for each in prepared.trials} == {True}


def own_files(folder: Path, *overrides: str) -> list[str]:
    (folder / "other.csv").write_text("text,label\npublic,no\nopen,yes\n")
    files = [f"task.train={folder / 'train.csv'}", f"task.validation={folder / 'other.csv'}"]
    rate = ["privacy.expected_batch_size=4", "privacy.steps=2", "privacy.delta=1e-3"]
    public = ["model=embedded", "privacy.epochs=null", "privacy.evaluation=public"]
    return ["task=text_classification", "task.labels=[no,yes]", *files, *rate, *public, *overrides]
