"""Digests find the same records again, in any order, and tell nothing without their key."""

import stat
from pathlib import Path

import pytest

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger import DigestKey, RecordDigests, private_folder

KEY = DigestKey(b"k" * 32)
ROWS = [{"text": "Grüße an alle", "label": 1}, {"text": "zwei", "label": 0}]


def test_order_labels_columns_and_white_space_do_not_matter() -> None:
    same = [
        {"label": 7, "sentence": " zwei\n"},
        {"sentence": "Gru\u0308\u00dfe  an\talle", "label": 0},
    ]
    assert KEY.digests(same) == KEY.digests(ROWS)


def test_other_texts_are_other_records() -> None:
    assert KEY.digests([{"text": "Zwei"}]).digests.isdisjoint(KEY.digests(ROWS).digests)
    joined = KEY.digests([{"a": "x y", "b": "z"}])
    assert joined != KEY.digests([{"a": "x", "b": "y z"}])


def test_rows_without_texts_are_compared_as_a_whole() -> None:
    one = KEY.digests([{"input_ids": [1, 2], "labels": 0}])
    assert one == KEY.digests([{"labels": 0, "input_ids": (1, 2)}])
    assert one != KEY.digests([{"labels": 1, "input_ids": [1, 2]}])


def test_another_key_gives_other_digests_and_another_name() -> None:
    other = DigestKey(b"o" * 32)
    assert other.key_id != KEY.key_id
    assert other.digests(ROWS).digests.isdisjoint(KEY.digests(ROWS).digests)


def test_bytes_are_read_back_and_sorted() -> None:
    digests = KEY.digests(ROWS)
    assert RecordDigests.from_bytes(KEY.key_id, digests.to_bytes()) == digests
    assert KEY.digests(reversed(ROWS)).to_bytes() == digests.to_bytes()
    assert len(digests.to_bytes()) == 16


def test_neither_key_nor_digests_are_shown() -> None:
    assert "kkk" not in repr(KEY)
    digests = KEY.digests(ROWS)
    assert not any(repr(digest)[2:-1] in repr(digests) for digest in digests.digests)


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    ledger = tmp_path / "l" / "ledger.sqlite"
    key = DigestKey.load(ledger, folder)
    assert DigestKey.load(ledger, folder) == key
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_key_beside_the_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="different folders"):
        DigestKey.load(tmp_path / "ledger.sqlite", tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(LedgerError, match="different folders"):
        DigestKey.load(tmp_path / "ledger.sqlite", tmp_path / "link")
    with pytest.raises(LedgerError, match="different folders"):
        DigestKey.load(tmp_path / "ledger.sqlite", tmp_path / "project" / "private")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_ledger_in_the_home_is_no_reason_to_refuse_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DPFT_PRIVATE")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    DigestKey.load(tmp_path / "ledger.sqlite")
    monkeypatch.setenv("DPFT_PRIVATE", "~")
    with pytest.raises(LedgerError, match="different folders"):
        DigestKey.load(tmp_path / "ledger.sqlite")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    DigestKey.load(tmp_path / "l" / "ledger.sqlite", tmp_path / "private")
    (file,) = (tmp_path / "private").iterdir()
    file.chmod(0o640)
    with pytest.raises(LedgerError, match="mode 0640"):
        DigestKey.load(tmp_path / "l" / "ledger.sqlite", tmp_path / "private")


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    DigestKey.load(tmp_path / "l" / "ledger.sqlite", tmp_path / "private")
    (file,) = (tmp_path / "private").iterdir()
    file.write_bytes(b"short")
    with pytest.raises(LedgerError, match="32 bytes"):
        DigestKey.load(tmp_path / "l" / "ledger.sqlite", tmp_path / "private")


def test_a_place_that_is_no_folder_is_an_error_of_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="Set DPFT_PRIVATE"):
        DigestKey.load(tmp_path / "a" / "ledger.sqlite", tmp_path / "file" / "private")


def test_where_the_key_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DPFT_PRIVATE", str(tmp_path / "p"))
    assert private_folder() == tmp_path / "p"
    monkeypatch.delenv("DPFT_PRIVATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert private_folder() == tmp_path / "dpft"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert private_folder() == tmp_path / ".local" / "state" / "dpft"


def test_what_has_no_fixed_form_is_refused() -> None:
    with pytest.raises(LedgerError, match="got object"):
        KEY.digests([{"image": object()}])
