"""Names that people gave are text: nothing runs, nothing is loaded, no line or table breaks."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dpft.privacy import Privacy
from dpft.reporting.comparison import compare
from dpft.reporting.comparison_report import write_comparison_report
from dpft.reporting.facts import collect
from dpft.reporting.given import given, in_markdown, visible
from dpft.reporting.merge_report import write_merge_report
from dpft.reporting.merges import read_merge
from dpft.reporting.reading import read_run
from dpft.reporting.run_report import write_run_report
from dpft.reporting.section import Document, Link, Page, Section, Table
from dpft.reporting.writing import write_documents

NAMES = {
    "script": '<script>alert("x")</script>',
    "closing": "</title></style></td></table></svg><img src=x onerror=alert(1)>",
    "attribute": "\" onmouseover='alert(1)' x=\"",
    "jinja": "{{ 7919 * 7907 }}{% for x in y %}{# c #}",
    "pipes": "a | b || c \\| d",
    "lines": "a\n\n| c | d |\n# heading\n\n```\n<b>\r\n\u2028\x85\x0b- e",
    "overridden": "\u202e8.0 = nolispe\u2066\u200f\x00\x1b[31m",
    "hebrew": "שלום 123",
    "address": "[x](https://evil.example) https://evil.example/a www.evil.example",
    "markdown": "**b** _i_ `c` <https://evil.example> ![i](//evil.example/i.png) &lt;script&gt;",
    "mathematics": "$\\frac{1}{2}$",
    "long": "w" * 400,
}
# whole reports take seconds each: three names for all of them
WHOLE = [
    " ".join(name for kind, name in NAMES.items() if kind not in {"lines", "long"}),
    pytest.param(NAMES["lines"], marks=pytest.mark.slow),
    pytest.param(NAMES["long"], marks=pytest.mark.slow),
]
SAFE = {"href", "src", "xlink:href", "action", "formaction", "style", "srcset", "data", "poster"}
FORBIDDEN = {"script", "img", "iframe", "object", "embed", "link", "base", "form", "image", "b"}
VOID = {"meta"}


class Elements(HTMLParser):
    """The elements of a page, which have to be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def refuse_unsafe_html(text: str, plain: str) -> None:
    page = Elements(text)
    assert not FORBIDDEN & set(page.tags)
    assert sorted(set(page.tags)) == sorted(set(Elements(plain).tags))
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    targets = [value for name, value in page.attributes if name in SAFE - {"style"}]
    assert all(re.fullmatch(r"#[\w-]+|dataset-\d+\.html", target) for target in targets)
    styles = [value for name, value in page.attributes if name == "style"]
    assert not [value for value in styles if re.search(r"url\((?!#)|@import|expression", value)]
    assert not re.search("[\u202a-\u202e\u2066\u2067\u200e\u200f\x00\x1b]", text)


def refuse_unsafe_markdown(text: str, plain: str) -> None:
    assert not re.search(r"(?<!\\)<", text)
    assert not re.search(r"(?<!\\):// ?|(?<!\\)\]\((?!(?:figures/|dataset-)[\w.-]+\))", text)
    assert not re.search(r"www\.", text)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == len([line for line in plain.splitlines() if line.startswith("#")])
    assert len(text.splitlines()) == len(plain.splitlines())
    widths, expected = (
        [
            len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))
            for line in each.splitlines()
            if line[:1] == "|"
        ]
        for each in (text, plain)
    )
    assert widths == expected
    assert not re.search("[\u202a-\u202e\u2066\u2067\u200e\u200f\x00\x1b]", text)


def privacy(name: str) -> Privacy:
    return Privacy(
        delta=1e-5,
        noise_multiplier=2.0,
        num_records=1000,
        expected_batch_size=100,
        steps=30,
        accountant="rdp",
        dataset_id=name,
    )


@pytest.fixture
def named(tmp_path: Path, making: Callable[..., Path]) -> Callable[[str, str], Path]:
    """Make a run in which everything that can be named has one name: (name, id)."""

    def made(name: str, run_id: str) -> Path:
        folder = making(
            tmp_path / run_id,
            privacy(name),
            run_id=run_id * 32,
            labels=[name, f"{name} too"],
            clipping=name,
            generator="ChaCha20",
            sampler="Poisson",
            excluded=(name,),
        )
        path = folder / "metrics.json"
        fields = json.loads(path.read_text(encoding="utf-8"))
        for field in ("metrics", "metric_status"):
            (value,) = fields[field].values()
            fields[field] = {name: value}
        path.write_text(json.dumps(fields | {"task": name, "split": name}), encoding="utf-8")
        return folder

    return made


def document(name: str) -> Document:
    section = Section(
        title=name,
        texts=(name, f"before {name} after"),
        table=Table((name, "two"), ((name, name), ("a", name))),
        items=(name,),
        links=(Link(name, "dataset-1"),),
    )
    pairs = Section(title="pairs", table=Table((), ((name, name),)))
    page = Page(name, (section, pairs))
    return Document(stem="report", title=name, lead=name, is_private=True, pages=(page,))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_text_changes_a_document_wherever_it_stands(tmp_path: Path, name: str) -> None:
    pages = []
    for number, each in enumerate((name, "plain")):
        html, markdown, _ = write_documents([document(each)], {}, tmp_path / str(number))
        pages.append([path.read_text(encoding="utf-8") for path in (html, markdown)])
    refuse_unsafe_html(pages[0][0], pages[1][0])
    refuse_unsafe_markdown(pages[0][1], pages[1][1])
    assert f"{7919 * 7907}" not in pages[0][0] + pages[0][1]


@pytest.mark.parametrize("name", WHOLE, ids=["markup", "lines", "long"])
def test_the_report_of_a_run_stays_as_it_is(
    tmp_path: Path, named: Callable[[str, str], Path], name: str
) -> None:
    pages = []
    for number, each in enumerate((name, "plain")):
        facts = collect(read_run(named(each, str(number))))
        html, markdown, _ = write_run_report(facts, tmp_path / f"report {number}")
        pages.append([path.read_text(encoding="utf-8") for path in (html, markdown)])
    refuse_unsafe_html(pages[0][0], pages[1][0])
    refuse_unsafe_markdown(pages[0][1], pages[1][1])
    assert f"{7919 * 7907}" not in pages[0][0] + pages[0][1]


@pytest.mark.parametrize("name", WHOLE, ids=["markup", "lines", "long"])
def test_the_report_of_runs_and_merges_stays_as_it_is(
    tmp_path: Path,
    named: Callable[[str, str], Path],
    merging: Callable[..., Path],
    name: str,
) -> None:
    pages = []
    for number, each in enumerate((name, "plain")):
        runs = [named(each, f"{number}a"), named(f"{each} too", f"{number}b")]
        coefficients = {each: "1", f"{each} too": "-1/2"}
        options = {"family": each, "base": {"name": each, "digest": None}}
        merged = merging(tmp_path / f"merged {number}", coefficients, *runs, **options)
        out = tmp_path / f"report {number}"
        alone = write_merge_report(read_merge(merged), out / "alone")
        several = write_comparison_report(compare([*runs, merged]), out / "several")
        pages.append([path.read_text(encoding="utf-8") for path in (*alone, *several)])
        assert {path.name for path in several} >= {"dataset-1.html", "dataset-2.md", "report.json"}
    kinds = ["html", "md", "json", *["html", "md"] * 3, "json"]
    for kind, text, plain in zip(kinds, *pages, strict=True):
        if kind == "html":
            refuse_unsafe_html(text, plain)
        if kind == "md":
            refuse_unsafe_markdown(text, plain)


def test_folders_of_any_name_are_shown_as_text(tmp_path: Path, making: Callable[..., Path]) -> None:
    place = tmp_path / "<script>alert(1)<" / "x|y\u202e\n"
    run = making(place, privacy("letters"))
    other = making(tmp_path / "plain", privacy("letters"), run_id="f" * 32)
    html, markdown, _ = write_comparison_report(compare([run, other]), tmp_path / "out")
    plain = write_run_report(collect(read_run(other)), tmp_path / "plain report")
    assert "script" not in Elements(html.read_text(encoding="utf-8")).tags
    assert "x\\|y\\[U+202E\\]" in markdown.read_text(encoding="utf-8")
    assert "script" not in Elements(plain[0].read_text(encoding="utf-8")).tags


def test_no_name_can_turn_a_line_around() -> None:
    assert visible("8.0\u202e = nolispe") == "8.0[U+202E] = nolispe"
    assert visible("a\u2028b\x85c\nd\x00") == "a b c d[U+0000]"
    assert visible("zero\u200dwidth \u200c") == "zero\u200dwidth \u200c"


def test_a_name_from_right_to_left_stays_in_its_place() -> None:
    name = NAMES["hebrew"]
    assert given(name) == f"\u2068{name}\u2069"
    assert given(f"{name}\u2069 8") == f"\u2068{name} 8\u2069"  # it cannot end the isolate itself
    assert given("letters") == "letters"


def test_no_address_in_a_name_becomes_a_link() -> None:
    assert in_markdown("https://a.b www.c") == "https\\://a.b www\\.c"


@pytest.mark.slow
def test_files_that_no_certificate_covers_are_shown_as_text(
    tmp_path: Path, making: Callable[..., Path]
) -> None:
    hostile = " ".join(name for kind, name in NAMES.items() if kind not in {"lines", "long"})
    pages = []
    for number, name in enumerate((hostile, "plain")):
        folder = making(tmp_path / f"run {number}", privacy("letters"))
        path = folder / "environment.json"
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields |= {"python": name, "platform": name, "commit": name}
        path.write_text(json.dumps(fields), encoding="utf-8")
        facts = collect(read_run(folder))
        html, markdown, _ = write_run_report(facts, tmp_path / f"report {number}")
        pages.append([path.read_text(encoding="utf-8") for path in (html, markdown)])
    refuse_unsafe_html(pages[0][0], pages[1][0])
    refuse_unsafe_markdown(pages[0][1], pages[1][1])
