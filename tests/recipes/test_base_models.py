from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import base_model_path, chosen_base_model
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.tasks import build_task


def test_a_folder_with_a_model_is_taken(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert base_model_path(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("name", ["org/model", "model"])
def test_a_hub_name_is_left_as_it_is(name: str) -> None:
    assert base_model_path(name) == name


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "~/nowhere", "a/b/c", ""])
def test_a_path_without_a_model_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="nothing to load"):
        base_model_path(name)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"a folder with a config\.json"):
        base_model_path(str(tmp_path))


def test_the_decoder_of_the_package_says_how_to_make_it_if_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpft.recipes.base_models.DECODER_DIR", tmp_path)
    with pytest.raises(ConfigurationError, match=r"dpft\.recipes\.decoder\.pretrain --output"):
        base_model_path("embedded_decoder")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert base_model_path("embedded_decoder") == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "small"),
    [("text_classification", "embedded"), ("instruction", "embedded_decoder")],
)
def test_who_names_no_model_is_told_of_the_small_one(name: str, small: str) -> None:
    task = build_task(compose_settings([f"task={name}", "task.train=x.csv"]).task)
    with pytest.raises(ConfigurationError, match=f"or model={small}, the small one"):
        chosen_base_model(None, task)
