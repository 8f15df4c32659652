import dataclasses

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.config.composition import compose_config
from dpft.recipes.tasks import build_task, register, settings_classes
from dpft.recipes.tasks.embedded import Embedded, EmbeddedSettings
from dpft.recipes.tasks.glue_tasks import GLUE


@dataclasses.dataclass(frozen=True)
class Nameless:
    name: str = "embeded"


def test_the_tasks_of_the_library_are_registered() -> None:
    own = {"instruction", "regression", "table_to_text", "text_classification", "text_pair"}
    assert {"corpus", "embedded", "sst2", *GLUE, *own} <= settings_classes().keys()


@pytest.mark.parametrize("name", sorted(settings_classes()))
def test_settings_carry_the_name_of_their_task(name: str) -> None:
    declared = settings_classes()[name]
    [field] = [field for field in dataclasses.fields(declared) if field.name == "name"]
    assert field.default in (name, dataclasses.MISSING)
    assert compose_config([f"task={name}"]).task.name == name


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ConfigurationError, match="task=embedded to be new"):
        register("embedded", EmbeddedSettings, Embedded)


def test_an_unregistered_task_is_never_guessed() -> None:
    with pytest.raises(ConfigurationError, match=r"Try embedded\."):
        build_task(Nameless())
