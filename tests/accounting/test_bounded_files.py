"""What is read is bounded, and no device or pipe is ever opened."""

import os
from pathlib import Path

import pytest

from dpft.accounting.bounded_files import bounded_bytes, bounded_text
from dpft.accounting.errors import ConfigurationError


def test_a_file_is_read_up_to_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"four")
    assert bounded_bytes(path, 4) == b"four"
    with pytest.raises(ConfigurationError, match="at most 3 bytes"):
        bounded_bytes(path, 3)


def test_text_keeps_its_line_ends_and_is_in_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes("ü\r\n".encode())
    assert bounded_text(path) == "ü\r\n"
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="text in UTF-8"):
        bounded_text(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nowhere", Path("/dev/zero")):
        with pytest.raises(ConfigurationError, match="to be a file"):
            bounded_bytes(path, 1)
