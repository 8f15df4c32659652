"""Owners of records: who they are, which of their records are kept, what a ledger sees of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpft.accounting import PoissonGaussian
from dpft.accounting.ledger import DigestKey, Ledger, Reservation
from dpft.errors import ConfigurationError
from dpft.users import (
    Users,
    charged_rows,
    first_of_each,
    owner_name,
    owners_in,
    without_owner,
)

SECRET = "Ada Lovelace"
MISSING = ["nan", "NaN", " <NA> ", "None", "null", "NULL", "\u200b", "\ufeff", "\ud800"]


def rows_of(owner: str, count: int) -> list[dict[str, Any]]:
    return [{"text": f"{owner} wrote {i}", "label": i % 2, "who": owner} for i in range(count)]


@pytest.mark.parametrize("nobody", [None, "", " \t", float("nan"), 1.0, True, ["x"], {}, *MISSING])
def test_records_without_an_owner_are_refused_by_row(nobody: object) -> None:
    rows = [{"who": SECRET, "text": SECRET}, {"who": nobody, "text": SECRET}]
    with pytest.raises(ConfigurationError, match=r"file=a\.csv row=2 column=who") as caught:
        owners_in(rows, "who", "file=a.csv")
    assert "Lovelace" not in str(caught.value)


def test_a_column_that_is_not_there_names_nobody() -> None:
    with pytest.raises(ConfigurationError, match="row=1 column=who"):
        owners_in([{"text": "x"}], "who")


def test_the_first_few_rows_are_named_and_the_rest_mentioned() -> None:
    with pytest.raises(ConfigurationError) as caught:
        owners_in([{}] * 9, "who")
    assert len(caught.value.messages) == 6
    assert "More rows" in caught.value.messages[-1]


def test_spellings_of_one_name_are_one_user() -> None:
    assert owner_name("Zoe\u0301  K") == owner_name(" Zo\u00e9 K ")
    assert owner_name(7) == owner_name("7") == owner_name(np.int64(7))
    assert owner_name("\ufeffAda\u200b\u00a0K") == owner_name("\uff21da K") == "Ada K"
    assert owner_name("1.0") != owner_name("1")  # numbers in text are names
    assert owner_name("ada") != owner_name("Ada")


def test_users_hold_the_positions_of_their_records() -> None:
    users = Users(["b", "a", "b", "c"])
    assert len(users) == 3
    assert [list(users.records_of(user)) for user in range(3)] == [[0, 2], [1], [3]]
    assert repr(users) == "Users()"


def test_no_more_than_the_largest_number_is_kept_of_each_user() -> None:
    rows = [*rows_of("ada", 5), *rows_of("bob", 2), *rows_of("eve", 3)]
    owners = owners_in(rows, "who")
    kept = first_of_each(rows, owners, 2)
    assert kept == sorted(kept)
    assert [owners[index] for index in kept] == ["ada"] * 2 + ["bob"] * 2 + ["eve"] * 2


def test_what_is_kept_of_a_user_depends_on_nobody_else() -> None:
    ada, bob = rows_of("ada", 9), rows_of("bob", 9)

    def kept_of_ada(rows: list[dict[str, Any]]) -> list[str]:
        kept = first_of_each(rows, owners_in(rows, "who"), 3)
        return sorted(rows[i]["text"] for i in kept if rows[i]["who"] == "ada")

    alone = kept_of_ada(ada)
    assert alone != sorted(row["text"] for row in ada[:3])  # an order that nobody chose
    assert kept_of_ada([*bob, *ada]) == alone
    mixed = [row for pair in zip(bob[::-1], ada[::-1], strict=True) for row in pair]
    assert kept_of_ada(mixed) == alone


def test_the_owner_is_no_input_of_a_model() -> None:
    assert without_owner(rows_of("ada", 1), "who") == [{"text": "ada wrote 0", "label": 0}]


def test_records_alone_are_charged_where_the_unit_is_a_record() -> None:
    rows = rows_of("ada", 2)
    assert charged_rows(rows, None) is rows


@pytest.mark.parametrize("same_user", [True, False])
def test_data_sets_that_share_a_user_alone_overlap_in_a_ledger(
    tmp_path: Path, same_user: bool
) -> None:
    path, key = tmp_path / "ledger.sqlite", DigestKey(b"k" * 32)
    first = rows_of("ada", 2)
    other = [{"text": "else", "label": 0, "who": "ada" if same_user else "eve"}]
    plan = PoissonGaussian(1.0, 0.1, 10, unit="user")
    with Ledger.open(path) as ledger:
        for name, rows in (("first", first), ("other", other)):
            digests = key.digests(charged_rows(rows, "who"))
            ledger.reserve(Reservation.of(f"run {name}", name, plan, digests))
        assert ledger.state.overlap("first", "other") == same_user
