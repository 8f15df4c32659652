"""Equal values give equal text, and odd JSON is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import ConfigurationError
from dpft.accounting.canonical_json import canonical, digest_of, exactly, is_digest, parsed

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**64, 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_text_and_back_is_the_same_value_in_any_layout(value: object) -> None:
    text = canonical(value)
    assert parsed("text", text) == value
    assert canonical(parsed("text", json.dumps(value, indent=3))) == text
    assert text.isascii()


@pytest.mark.parametrize(
    "text",
    ["NaN", "[Infinity]", "-Infinity", '{"a":1,"a":1}', "{", "'a'", "1e400", "-1e400", "9" * 5000],
)
def test_odd_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parsed("text", text)


def test_a_digest_is_64_lower_case_digits() -> None:
    assert is_digest(digest_of("a"))
    assert digest_of("a") != digest_of("b")
    for wrong in ("0f" * 31, "0F" * 32, "0g" * 32, None, 0):
        assert not is_digest(wrong)


def test_fields_are_exactly_the_known_ones() -> None:
    assert exactly("pair", {"a": 1, "b": 2}, ["b", "a"]) == {"a": 1, "b": 2}
    wrong: list[object] = [{"a": 1}, {"a": 1, "b": 2, "c": 3}, {1: 2}, None, []]
    for fields in wrong:
        with pytest.raises(ConfigurationError, match="exactly the fields"):
            exactly("pair", fields, ["a", "b"])


def test_a_repeated_field_is_called_that() -> None:
    with pytest.raises(ConfigurationError, match="without repetition"):
        parsed("text", '{"a":1,"a":1}')
