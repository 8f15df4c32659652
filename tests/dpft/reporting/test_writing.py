"""HTML, Markdown and JSON say the same, escape names, and load nothing."""

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.privacy import Privacy
from dpft.rendering import percent_rounded_up, rounded_up
from dpft.reporting.facts import Facts, collect
from dpft.reporting.reading import read_run
from dpft.reporting.run_report import write_run_report

FORGED = '<script>alert("x")</script>|**a**'
PRIVACY = Privacy(
    delta=1e-5,
    noise_multiplier=2.0,
    num_records=1000,
    expected_batch_size=100,
    steps=30,
    accountant="rdp",
    dataset_id=FORGED,
)


class Reader(HTMLParser):
    """Collects elements, attributes and text, and checks that elements are closed in order."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def folder(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("reports")
    write_run_report(facts, where)
    return where


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["report.html", "report.md"])
@pytest.mark.parametrize(
    "statement",
    [
        "one record of the training data",
        "(add or remove)",
        "the best attacker can detect at most",
        "poisson gaussian: noise of 2 times the clip norm, rate 0.1, 30 steps",
        "ChaCha20",
        "Copies of the",
        "records equal a loop",
        "0.7 to 0.8",
        "public: taken on records declared public",
        "52.7",
        "0f" * 32,
        "torch",
        "the run is in no ledger",
    ],
)
def test_the_report_states(folder: Path, name: str, statement: str) -> None:
    text = read(folder / name)
    assert statement in (Reader(text).text if name.endswith("html") else text)


def test_epsilon_is_the_same_everywhere(folder: Path, facts: Facts) -> None:
    written = json.loads(read(folder / "report.json"))
    published = json.loads(read(facts.sources.folder.certificate))
    assert written["epsilon"] == published["claims"][0]["epsilon"]
    assert written["epsilon"] == json.loads(read(facts.sources.folder.metrics))["epsilon"]
    said = f"epsilon = {rounded_up(facts.epsilon)} at delta = 1e-05"
    assert f"**{said}**" in read(facts.sources.folder.report)
    for name in ("report.html", "report.md"):
        assert read(folder / name).count(said) == 2  # at the top and in the table
    assert rounded_up(facts.epsilon) in read(folder / "figures" / "by_step.svg")


def test_the_attack_is_the_one_that_the_run_stated(folder: Path, facts: Facts) -> None:
    detected = percent_rounded_up(facts.certificate.attack_bound(0.01, facts.delta).rate)
    assert f"detects at most {detected}" in read(facts.sources.folder.report)
    assert f"| 1% | {detected} |" in read(folder / "report.md")


def test_the_page_loads_nothing_and_runs_nothing(folder: Path) -> None:
    page = read(folder / "report.html")
    reader = Reader(page)
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "image", "style:import"}
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name == "src"]
    links = [value for name, value in reader.attributes if name in {"href", "xlink:href"}]
    assert all(link.startswith("#") for link in links)
    assert "://" not in page
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page


def test_a_name_with_html_is_text(tmp_path: Path, making: Callable[..., Path]) -> None:
    run = making(tmp_path / "run", PRIVACY, labels=[FORGED, "</td>"], sampler=f"Poisson {FORGED}")
    html, markdown, _ = write_run_report(collect(read_run(run)), tmp_path / "report")
    reader = Reader(read(html))
    assert "script" not in reader.tags
    assert reader.text.count(FORGED) >= 4
    assert "<script>" not in read(html)
    assert "<script>" not in read(markdown).replace("\\<script\\>", "")
    assert "**a**" not in read(markdown)


def test_equal_runs_give_equal_bytes(folder: Path, facts: Facts, tmp_path: Path) -> None:
    write_run_report(facts, tmp_path)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_reports_name_no_place_on_the_machine(folder: Path, facts: Facts) -> None:
    for name in ("report.html", "report.md", "report.json"):
        assert "xyzzy" not in read(folder / name)
        assert str(facts.sources.folder.path) not in read(folder / name)


def test_an_unsafe_run_says_so_first_and_has_no_figures(
    tmp_path: Path, making: Callable[..., Path]
) -> None:
    run = making(tmp_path / "run", private=False, mechanism=None)
    html, markdown, written = write_run_report(collect(read_run(run)), tmp_path / "report")
    assert read(markdown).startswith("**NOT PRIVATE**\n")
    assert "NOT PRIVATE. The weights may reveal any record" in Reader(read(html)).text
    assert "<svg" not in read(html)
    fields = json.loads(read(written))
    assert fields["epsilon"] is None
    assert fields["private"] is False
    assert math.isinf(collect(read_run(run)).epsilon)


def test_the_report_of_the_run_itself_is_not_overwritten(facts: Facts) -> None:
    before = read(facts.sources.folder.report)
    with pytest.raises(ConfigurationError, match="to be another folder"):
        write_run_report(facts, facts.sources.folder.path)
    assert read(facts.sources.folder.report) == before
