from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dpft.errors import ConfigurationError
from dpft.performance import Performance
from dpft.privacy import PrivacyMode
from dpft.recipes.config.composition import (
    compose_config,
    compose_settings,
    settings_from,
    settings_from_yaml,
    yaml_of,
)

CONF = Path(__file__).parents[2] / "recipes" / "config" / "conf"
PUBLISHED = {"asai2022", "bu2023", "li2022", "liu2022", "yu2022"}  # see test_experiments.py
FILES = sorted(file for file in CONF.rglob("*.yaml") if file.parent.name not in PUBLISHED)
NEEDED = {  # what a choice leaves to the user
    "instruction": ["task.train=train.jsonl"],
    "regression": ["task.train=train.csv"],
    "table_to_text": ["task.train=train.jsonl"],
    "text_classification": ["task.train=train.csv"],
    "text_pair": ["task.train=train.csv"],
}


def selecting(file: Path) -> list[str]:
    """Return the overrides that put a file of the tree into the configuration."""
    if file.parent == CONF:
        return []
    group, *folders = file.parent.relative_to(CONF).parts
    name = "/".join([*folders, file.stem])
    if group == "length":
        return [f"task={name}", *NEEDED.get(name, [])]
    return [f"{group}={name}", *(NEEDED.get(name, []) if group == "task" else [])]


def test_there_are_files_to_check() -> None:
    assert len(FILES) > 10


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_every_yaml_composes_and_validates(file: Path) -> None:
    settings = compose_settings(selecting(file))
    assert settings.privacy.delta == 1e-5


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_every_yaml_starts_with_the_command_that_runs_it(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = lines[1:] if lines[0] == "# @package _global_" else lines  # Hydra wants it first
    assert lines[0].startswith("# dpft train")


def commands() -> list[str]:
    lines = [line for file in FILES for line in file.read_text(encoding="utf-8").splitlines()[:2]]
    starts = [line.removeprefix("# dpft train") for line in lines if line.startswith("# dpft")]
    return sorted({line.strip() for line in starts if "[task=NAME]" not in line})


@pytest.mark.parametrize("command", commands())
def test_every_command_in_a_yaml_is_a_valid_command(command: str) -> None:
    compose_settings(command.split())


def test_no_argument_means_the_embedded_task() -> None:
    settings = compose_settings([])
    assert settings.task.name == "embedded"
    assert settings.model is None
    assert settings.performance == Performance()


def test_a_task_brings_its_own_choices() -> None:
    settings = compose_settings(["task=sst2"])
    assert (settings.privacy.expected_batch_size, settings.privacy.epochs) == (1024, 3)
    assert settings.privacy.dataset_id == "sst2"
    assert settings.architecture.dropout == 0.0


def test_the_choices_of_a_task_also_hold_without_privacy() -> None:
    settings = compose_settings(["task=sst2", "privacy=not_private"])
    assert settings.privacy.mode is PrivacyMode.NOT_PRIVATE
    assert settings.privacy.expected_batch_size == 1024


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("privacy.epsilonn=3", "privacy.epsilon"),
        ("privcy.epsilon=3", "privacy.epsilon"),
        ("optim.lr=3", "optim"),
        ("adapter.rr=3", "adapter.r"),
        ("task.dataseed=3", "task.data_seed"),
        ("run.sed=3", "run.seed"),
        ("modle=x", "model"),
        ("debg=short", "debug"),
    ],
)
def test_a_typo_suggests_the_nearest_key(override: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Did you mean {nearest}"):
        compose_settings([override])


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("task=ssst2", "task=sst2"),
        ("adapter=lorra", "adapter=lora"),
        ("architecture=infiling", "architecture=infilling"),
        ("experiment=sst2_minilm_lroa", "experiment=sst2_minilm_lora"),
        ("experiment=demo/table2txt", "experiment=demo/table2text"),
        ("experiment=dmeo/table2text", "experiment=demo/table2text"),
        ("experiment=table2text", "experiment=demo/table2text"),
        (
            "experiment=yu2022/sst2_roberta_bse_lora_eps6.7",
            r"experiment=yu2022/sst2_roberta_base_lora_eps6\.7",
        ),
    ],
)
def test_a_typo_in_a_choice_suggests_the_nearest(override: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Did you mean {nearest}\?"):
        compose_settings([override])


def test_a_choice_like_no_other_points_to_the_list() -> None:
    with pytest.raises(ConfigurationError, match=r"to be one of those in docs/recipes\.md\.$"):
        compose_settings(["experiment=zzz"])


def test_keys_of_the_chosen_task_are_suggested() -> None:
    with pytest.raises(ConfigurationError, match=r"Did you mean task\.label_column\?"):
        compose_settings(["task=text_classification", "task.labelcolumn=x"])


def test_all_missing_keys_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        compose_settings(["task=text_classification", "architecture.max_length=???"])
    assert len(caught.value.messages) == 2


def test_all_bad_values_are_named_at_once() -> None:
    overrides = ["privacy.delta=2", "run.seed=-1", "architecture.max_length=1"]
    with pytest.raises(ConfigurationError) as caught:
        compose_settings(overrides)
    fields = sorted(message.split("=")[0].split()[-1] for message in caught.value.messages)
    assert fields == ["architecture.max_length", "privacy.delta", "run.seed"]


@pytest.mark.parametrize("override", ["privacy.clipping=flatt", "adapter.name=lorra"])
def test_enumerations_take_their_values_only(override: str) -> None:
    with pytest.raises(ConfigurationError, match=override.split("=", maxsplit=1)[0]):
        compose_settings([override])


def test_a_name_that_is_not_the_chosen_task_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"task\.name=sst3 to be one of"):
        compose_settings(["task.name=sst3"])


def test_the_saved_settings_are_read_back_equal() -> None:
    overrides = ["task=sst2", "privacy.epsilon=3", "adapter.target_modules=[key,value]"]
    text = yaml_of(compose_config(overrides))
    assert "hydra" not in OmegaConf.create(text)
    assert settings_from_yaml(text) == compose_settings(overrides)


def test_another_file_is_not_taken_for_settings() -> None:
    with pytest.raises(ConfigurationError, match="to hold the settings of a run"):
        settings_from_yaml("a: 1")


def test_a_configuration_with_gaps_is_refused_before_anything_is_built() -> None:
    config = compose_config(["task=text_classification"])
    with pytest.raises(ConfigurationError, match=r"task\.train to be given"):
        settings_from(config)


def test_adapters_can_be_kept_to_upper_blocks_with_what_leaves_the_lower_ones_kept() -> None:
    settings = compose_settings(
        ["adapter=lora", "adapter.layers_to_transform=[4,5]", "performance.frozen_prefix=memory"]
    )
    assert settings.adapter_options()["layers_to_transform"] == [4, 5]
    assert settings.performance.frozen_prefix.value == "memory"
