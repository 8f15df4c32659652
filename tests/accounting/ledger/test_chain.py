"""Entries follow each other by number, link and hash."""

import dataclasses

import pytest

from dpft.accounting.errors import ConfigurationError
from dpft.accounting.ledger.chain import START, Entry, Head, canonical

FIRST = Entry.after(START, "ledger", {"ledger_id": "a"})
SECOND = Entry.after(FIRST.head, "budget", {"epsilon": 8.0})


def test_an_entry_follows_the_head_it_was_made_for() -> None:
    assert FIRST.follows(START)
    assert SECOND.follows(FIRST.head)
    assert not SECOND.follows(START)


@pytest.mark.parametrize(
    "change",
    [{"seq": 3}, {"kind": "settle"}, {"payload": '{"epsilon":9.0}'}, {"previous": "0" * 64}],
    ids=str,
)
def test_any_edited_field_breaks_the_chain(change: dict[str, object]) -> None:
    assert not dataclasses.replace(SECOND, **change).follows(FIRST.head)  # type: ignore[arg-type]


def test_fields_cannot_move_into_one_another() -> None:
    one = Entry.after(START, "ab", {})
    other = dataclasses.replace(one, kind="a", payload="b{}")
    assert not other.follows(START)


def test_equal_values_are_written_alike() -> None:
    assert canonical({"b": 1, "a": [1.0]}) == canonical({"a": [1.0], "b": 1}) == '{"a":[1.0],"b":1}'


def test_a_quoted_head_is_read_back() -> None:
    assert Head.parse(f" {SECOND.head}\n") == SECOND.head


@pytest.mark.parametrize("text", ["", "7", f"{'0' * 63}:1", f"{'G' * 64}:1", f"1:{'0' * 64}"])
def test_anything_else_is_no_head(text: str) -> None:
    with pytest.raises(ConfigurationError, match="HASH:SEQ"):
        Head.parse(text)
