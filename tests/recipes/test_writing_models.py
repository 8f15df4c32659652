"""Texts are written by models that can write."""

from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.tasks import Task, build_task
from dpft.recipes.writing_models import refuse_encoder


def task(name: str) -> Task:
    return build_task(compose_settings([f"task={name}", "task.train=x.csv"]).task)


def test_an_encoder_is_refused_where_a_text_is_to_be_written(tiny_masked: Path) -> None:
    for model in ("embedded", str(tiny_masked)):
        with pytest.raises(ConfigurationError, match=f"Expected model={model} to write texts"):
            refuse_encoder(model, task("instruction"))
        refuse_encoder(model, task("text_classification"))


def test_decoders_and_encoder_decoders_write(
    tiny_decoder: Path, tiny_encoder_decoder: Path
) -> None:
    for model in (tiny_decoder, tiny_encoder_decoder):
        refuse_encoder(str(model), task("table_to_text"))
