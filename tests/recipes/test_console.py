"""Names that strangers gave are text on a terminal too."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from dpft.errors import ConfigurationError
from dpft.recipes import cli
from dpft.recipes.cli.console import cell, plain


@pytest.mark.parametrize(
    "name", ["[/x]", "[red]a", "\x1b[2Jb", "a\u202eb", "\x9b2J", "[link=//x]c"]
)
def test_no_name_commands_the_terminal(name: str) -> None:
    out = io.StringIO()
    table = Table("name")
    table.add_row(cell(name))
    Console(file=out, force_terminal=True, width=80, color_system=None).print(table)
    shown = out.getvalue()
    assert not set(shown) & set("\x1b\x9b\u202e")
    assert plain(name) in shown


def test_lines_stay_lines() -> None:
    assert plain("a\nb\tü") == "a\nb[U+0009]ü"


def test_an_error_about_a_hostile_name_commands_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise ConfigurationError("Expected \x1b[2Jname")

    monkeypatch.setattr(cli, "_verb", lambda _: fail)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "Expected [U+001B][2Jname\n"


@pytest.mark.parametrize(
    "word",
    ["--config-dir=/tmp", "--con", "-cd", "--experimental-rerun=x.pickle", "+optim._target_=os.x"],
)
def test_settings_from_elsewhere_are_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", word]) == 2
    assert "could name classes" in capsys.readouterr().err
