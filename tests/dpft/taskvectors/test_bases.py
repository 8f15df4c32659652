"""Which base models are known to be the same, and what is written of one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import ConfigurationError
from dpft.taskvectors import TaskVector
from dpft.taskvectors.bases import BaseIdentity, refuse_other_base

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BaseIdentity("a", "1"), BaseIdentity("b", "1")),
        (BaseIdentity("org/a", None), BaseIdentity("org/a", "1")),
    ],
)
def test_a_digest_decides_and_a_name_where_there_is_none(
    one: BaseIdentity, other: BaseIdentity
) -> None:
    refuse_other_base(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BaseIdentity("a", "1"), BaseIdentity("a", "2")),
        (BaseIdentity("", None), BaseIdentity("", None)),
        (BaseIdentity("a", None), BaseIdentity("b", "1")),
        (BaseIdentity("/here/model", None), BaseIdentity("/there/model", None)),
    ],
)
def test_what_is_not_known_to_be_one_is_refused(one: BaseIdentity, other: BaseIdentity) -> None:
    with pytest.raises(ConfigurationError, match="base"):
        refuse_other_base(one, other)


def test_folders_without_a_digest_have_no_public_name() -> None:
    assert BaseIdentity("/here/model", "1").published() == BaseIdentity("model", "1")
    assert BaseIdentity("/here/model", None).published() == BaseIdentity("", None)
    assert BaseIdentity("org/model", None).published() == BaseIdentity("org/model", None)


@pytest.mark.parametrize(
    "name",
    ["../anna/model", "~/anna/model", "C:\\Users\\anna\\model", "home/anna/model", "./model"],
)
def test_paths_of_another_machine_have_no_public_name_either(name: str) -> None:
    assert BaseIdentity(name, "1").published() == BaseIdentity("model", "1")
    assert BaseIdentity(name, None).published() == BaseIdentity("", None)


def test_no_path_of_the_machine_is_published(
    adapted: Callable[..., Any],
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = adapted("lora", 3)
    model.config._name_or_path = str(tmp_path / "model")
    vector = TaskVector.from_peft(model, certificate=certificate("a run"))
    vector.save(tmp_path / "vector")
    for path in (tmp_path / "vector").glob("*.json"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8"), path.name
