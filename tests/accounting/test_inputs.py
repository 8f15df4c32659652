"""What a run started from is public, certified or unknown, and says which."""

from typing import Any

import pytest

from dpft.accounting import ConfigurationError
from dpft.accounting.inputs import Input, InputRole, InputStatus

DIGEST = "0f" * 32
CERTIFIED = {"status": "certified", "certificate": DIGEST, "runs": ("a", "b")}


def given(**changes: Any) -> Input:
    return Input(**{"name": "base", "role": "base_model", "status": "public", **changes})


def test_fields_and_back_is_the_same_input() -> None:
    for each in (given(), given(**CERTIFIED), given(status=InputStatus.UNKNOWN)):
        assert Input.from_fields(each.fields()) == each
    assert given().role is InputRole.BASE_MODEL


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"role": "friend"},
        {"status": "trusted"},
        {"certificate": DIGEST},
        {"runs": ("a",)},
        {**CERTIFIED, "certificate": None},
        {**CERTIFIED, "certificate": DIGEST.upper()},
        {**CERTIFIED, "runs": ()},
        {**CERTIFIED, "runs": ("b", "a")},
        {**CERTIFIED, "runs": ("a", "a")},
        {**CERTIFIED, "runs": ["a"]},
        {**CERTIFIED, "status": "unknown"},
    ],
    ids=str,
)
def test_an_input_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        given(**change)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="exactly the fields"):
        Input.from_fields(given().fields() | {"discount": 1})
