"""The examples of the pages run, in order, each page in a folder and a process of its own.

Fenced blocks in `python` and `bash` are run; `text` right after one of them is what it prints, up
to numbers and places. Whatever stands indented is not run: its commands are only read. Comments
right above a block say what is special about it:

    <!-- no-run: REASON -->            it is not run
    <!-- in tests: A -> B -->          the tests put B in place of A, to be quicker
    <!-- file: NAME -->                it is the content of a file
    <!-- exits with 3 -->              it is refused, with this exit code
    <!-- interrupted after 3 steps --> somebody presses Ctrl-C
"""

import dataclasses
import importlib
import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from dpft.recipes import cli
from dpft.recipes.config.composition import compose_settings

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_PAGES = {
    path.relative_to(_ROOT).as_posix(): path
    for path in [_ROOT / "README.md", *sorted(_DOCS.rglob("*.md"))]
}
_GIVEN = Path(__file__).parent / "given"
_RUNNER = Path(__file__).parent / "page_runner.py"

# What is not run, page by page. One more needs a reason beside it on the page, and a change here.
_NOT_RUN = {
    "docs/adapters.md": 1,
    "docs/start.md": 1,
    "docs/tutorials/classify.md": 1,
    "docs/tutorials/table_to_text.md": 1,
}

# A page for everybody shows the sizes and names that everybody has.
_REPLACED = {
    "README.md": {
        '"roberta-base"': "MODEL_DIR",
        ", ...]": "] * 60",
        "100_000": "60",
        "1024": "12",
        "epochs=10": "epochs=1",
    },
}
_RUN = ("python", "bash")
_SHOWN = ("text", "yaml", "csv", "json", "diff")
_BLOCK = re.compile(
    r"^(?P<marks>(?:<!-- [^\n]* -->\n)*)```(?P<language>[^\n`]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_INDENTED = re.compile(r"^    (dpft (?:.*\\\n)*.*)$", re.MULTILINE)
_NUMBERS = re.compile(r"[\w./:+-]*\d[\w./:+-]*|(?:/[\w.-]+)+|[━─┃│|┏┓┗┛┡┩┳┻╇┴┬┼┌┐└┘├┤ ]+")


@dataclasses.dataclass(frozen=True)
class _Example:
    line: int
    language: str
    code: str
    reason: str | None = None
    file: str | None = None
    exit_code: int = 0
    interrupted_after: int | None = None


def _marked(marks: str, code: str) -> tuple[str, dict[str, str | int]]:
    """Read the comments above a block: the code as the tests run it, and fields of the example."""
    fields: dict[str, str | int] = {}
    for mark in re.findall(r"<!-- (.*) -->", marks):
        match re.split(r": | with | after ", mark, maxsplit=1):
            case ["no-run", reason]:
                fields["reason"] = reason
            case ["file", name]:
                fields["file"] = name
            case ["exits", number]:
                fields["exit_code"] = int(number)
            case ["interrupted", text]:
                fields["interrupted_after"] = int(text.removesuffix(" steps"))
            case ["in tests", text]:
                code = _replaced(code, *text.split(" -> "))
            case _:
                raise ValueError(f"unknown comment: {mark}")
    return code, fields


def _replaced(code: str, old: str, new: str) -> str:
    assert old in code, f"{old} is not in\n{code}"
    return code.replace(old, new)


def _examples(text: str) -> Iterator[_Example]:
    for found in _BLOCK.finditer(text):
        language = found["language"].strip()
        if language.startswith("{"):
            continue
        line = text.count("\n", 0, found.start("code"))
        code, fields = _marked(found["marks"], found["code"])
        yield _Example(line, language, code, **fields)  # type: ignore[arg-type]  # read by _marked


def _examples_of(page: str) -> list[_Example]:
    text = _PAGES[page].read_text(encoding="utf-8")
    for old, new in _REPLACED.get(page, {}).items():
        text = _replaced(text, old, new)
    return list(_examples(text))


def _run_by_tests(page: str) -> list[_Example]:
    return [e for e in _examples_of(page) if e.language in _RUN and e.reason is None]


def _blocks(page: str) -> list[_Example]:
    given = _GIVEN / f"{_PAGES[page].stem}.py"
    examples = _run_by_tests(page)
    if given.is_file():
        return [_Example(0, "python", given.read_text(encoding="utf-8")), *examples]
    return examples


def _skeleton(text: str) -> str:
    """What stays of what is printed without numbers, places, rules of tables and ends of lines."""
    return " ".join(_NUMBERS.sub(" ", text).split())


def _shown(page: str) -> Iterator[tuple[int, str]]:
    """Each block that shows what the example before it prints, by the line of the example."""
    examples = _examples_of(page)
    for before, after in pairwise(examples):
        if after.language == "text" and before.language in _RUN and before.reason is None:
            yield before.line, after.code


@pytest.mark.parametrize("page", [page for page in _PAGES if _run_by_tests(page)])
def test_the_examples_of_a_page_run_and_print_what_it_shows(
    page: str,
    tmp_path: Path,
    beside_everything: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    blocks, printed = tmp_path / "blocks.json", tmp_path / "printed.json"
    blocks.write_text(json.dumps([dataclasses.asdict(block) for block in _blocks(page)]))
    folder = tmp_path / "page"
    folder.mkdir()
    done = beside_everything(_RUNNER.read_text(encoding="utf-8"), blocks, printed, cwd=folder)
    assert done.returncode == 0, done.stderr
    said = json.loads(printed.read_text())
    for line, shown in _shown(page):
        for part in re.split(r"\n|\.\.\.", shown):
            assert _skeleton(part) in _skeleton(said[str(line)]), f"line {line}: {said[str(line)]}"


@pytest.mark.parametrize("page", _PAGES)
def test_a_block_says_its_language(page: str) -> None:
    assert {example.language for example in _examples_of(page)} <= {*_RUN, *_SHOWN}


def test_what_is_not_run_is_counted_and_has_a_reason() -> None:
    found = {
        page: [e.reason for e in _examples_of(page) if e.reason is not None] for page in _PAGES
    }
    assert {page: len(reasons) for page, reasons in found.items() if reasons} == _NOT_RUN
    assert all(reason for reasons in found.values() for reason in reasons)


def _commands(page: str) -> Iterator[str]:
    """The commands of a page that no test runs: those that stand indented, or are marked so."""
    text = _PAGES[page].read_text(encoding="utf-8")
    marked = "".join(e.code for e in _examples_of(page) if e.reason and e.language == "bash")
    quoted = re.findall(r"^(dpft (?:.*\\\n)*.*)$", marked, re.MULTILINE)
    yield from (line.replace("\\\n", " ") for line in [*_INDENTED.findall(text), *quoted])


@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page in _PAGES for command in _commands(page)]
)
def test_a_command_that_is_not_run_is_understood(page: str, command: str) -> None:
    verb, *words = shlex.split(command, comments=True)[1:]
    assert verb in cli.VERBS
    words = [word for word in words if word != "..."]
    if verb == "train":
        if not {"-m", "--help"} & set(words):
            compose_settings([word.replace("$", "") for word in words])
    elif verb != "doctor":
        home = {"account": "account_question"}.get(verb, verb)
        is_foreseen = "--dry-run" in words  # among them stand settings, as for dpft train
        home = "plan_dry_run" if is_foreseen else home
        module = importlib.import_module(f"dpft.recipes.cli.{home}")
        parser = getattr(module, "parser", None) or module._parser
        made = parser()
        _ = made.parse_intermixed_args(words) if is_foreseen else made.parse_args(words)
