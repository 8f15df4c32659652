"""Several runs in one report: composed by their mechanisms, refused where they do not compare."""

import dataclasses
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.accounting import Adjacency, Certificate, PoissonGaussian
from dpft.accounting.ledger import Budget, Ledger, Plans, Reservation
from dpft.accounting.run_record import LedgerReference
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.privacy import Privacy
from dpft.recipes import cli
from dpft.rendering import rounded_up
from dpft.reporting.comparison import Comparison, compare
from dpft.reporting.comparison_report import write_comparison_report
from dpft.verification import read_certificate

MECHANISM = PoissonGaussian(2.0, 0.1, 30)
PRIVACY = Privacy(
    delta=1e-5,
    noise_multiplier=2.0,
    num_records=1000,
    expected_batch_size=100,
    steps=30,
    accountant="rdp",
    dataset_id="letters",
)
NOISIER = dataclasses.replace(PRIVACY, noise_multiplier=4.0)
DIGITS = dataclasses.replace(PRIVACY, dataset_id="digits")
NAMES = ("1" * 32, "2" * 32, "3" * 32, "4" * 32, "5" * 32)


@pytest.fixture
def runs(tmp_path: Path, making: Callable[..., Path]) -> tuple[Path, ...]:
    """Two seeds at one noise, one run at another, and one without privacy."""
    return (
        making(tmp_path / "a0", run_id=NAMES[0], seed=0, accuracy=0.7),
        making(tmp_path / "a1", run_id=NAMES[1], seed=1, accuracy=0.8),
        making(tmp_path / "b0", NOISIER, run_id=NAMES[2], epsilon=1.0, accuracy=0.6),
        making(tmp_path / "plain", run_id=NAMES[3], private=False, mechanism=None, accuracy=0.9),
    )


def composed(*folders: Path) -> float:
    first, *others = map(read_certificate, folders)
    return first.compose(*others).epsilon(1e-5)


def reported(comparison: Comparison, folder: Path) -> tuple[str, str, dict[str, Any]]:
    html, markdown, *_, values = write_comparison_report(comparison, folder)
    read = [path.read_text(encoding="utf-8") for path in (html, markdown, values)]
    return read[0], read[1], json.loads(read[2])


def test_the_total_is_the_composition_of_the_runs(runs: tuple[Path, ...], tmp_path: Path) -> None:
    comparison = compare(runs[:3])
    (spending,) = comparison.spendings
    assert spending.together.epsilon == composed(*runs[:3])
    assert comparison.together is not None
    assert comparison.together.epsilon == spending.together.epsilon
    assert spending.together.epsilon > max(each.claim.epsilon for each in spending.sources)
    assert spending.together.epsilon < sum(each.claim.epsilon for each in spending.sources)
    html, markdown, values = reported(comparison, tmp_path / "out")
    said = f"epsilon = {rounded_up(spending.together.epsilon)} at delta = 1e-05"
    assert said in html
    assert markdown.count(said) == 2  # at the top and in the table
    assert values["datasets"][0]["together"]["epsilon"] == spending.together.epsilon


def test_every_figure_is_that_of_a_certificate(runs: tuple[Path, ...], tmp_path: Path) -> None:
    _, markdown, values = reported(compare(runs[:3]), tmp_path / "out")
    for folder, found in zip(runs, values["datasets"][0]["folders"], strict=False):
        claimed = json.loads((folder / "certificate.json").read_text())["claims"][0]["epsilon"]
        assert found["epsilon"] == claimed
        assert found["epsilon"] == json.loads((folder / "metrics.json").read_text())["epsilon"]
        assert f"| dpft train | {rounded_up(claimed)} | 1e-05 | poisson" in markdown


def test_a_run_without_privacy_counts(runs: tuple[Path, ...], tmp_path: Path) -> None:
    comparison = compare(runs)
    (spending,) = comparison.spendings
    assert math.isinf(spending.together.epsilon)
    assert spending.private is not None
    assert spending.private.epsilon == composed(*runs[:3])
    html, markdown, values = reported(comparison, tmp_path / "out")
    assert markdown.startswith("**NOT PRIVATE**\n")
    assert "NOT PRIVATE. One of the runs" in html
    assert f"| Those with a guarantee | epsilon = {rounded_up(composed(*runs[:3]))} " in markdown
    assert values["datasets"][0]["together"]["epsilon"] is None


def test_only_runs_that_differ_in_their_seed_are_repetitions(
    runs: tuple[Path, ...], tmp_path: Path, making: Callable[..., Path]
) -> None:
    other = making(tmp_path / "c0", run_id=NAMES[4], labels=["a", "b"], accuracy=0.5)
    (spending,) = compare([*runs, other]).spendings
    (utility,) = spending.utilities
    assert utility.metric == "accuracy"
    grouped = {point.runs: point for point in utility.points}
    assert set(grouped) == {("a0", "a1"), ("b0",), ("plain",), ("c0",)}
    repeated = grouped["a0", "a1"]
    assert repeated.mean == pytest.approx(0.75)
    assert repeated.deviation == pytest.approx(statistics.stdev([0.7, 0.8]))
    assert grouped["b0",].deviation is None
    assert math.isinf(grouped["plain",].epsilon)
    # the noise alone tells a0 from b0, the labels tell c0 from both
    assert grouped["b0",].series == repeated.series != grouped["c0",].series
    assert "task.labels=a, b" in utility.series
    assert "not private" in utility.series


def test_a_page_for_each_data_set_and_an_index(
    runs: tuple[Path, ...], tmp_path: Path, making: Callable[..., Path]
) -> None:
    digits = making(tmp_path / "d0", DIGITS, run_id=NAMES[4])
    comparison = compare([runs[0], digits])
    assert [each.dataset for each in comparison.spendings] == ["digits", "letters"]
    written = write_comparison_report(comparison, tmp_path / "out")
    assert [path.name for path in written] == [
        f"{stem}.{kind}" for stem in ("report", "dataset-1", "dataset-2") for kind in ("html", "md")
    ] + ["report.json"]
    index = written[0].read_text(encoding="utf-8")
    assert '<a href="dataset-1.html">digits</a>' in index
    both = f"epsilon = {rounded_up(composed(runs[0], digits))} at delta = 1e-05"
    assert both in index  # names do not say that nobody is in both
    assert both not in (tmp_path / "out" / "dataset-2.html").read_text(encoding="utf-8")


def test_a_merge_stands_with_its_runs_and_costs_nothing_more(
    runs: tuple[Path, ...], tmp_path: Path, merging: Callable[..., Path]
) -> None:
    merged = merging(tmp_path / "merged", {"a": "1", "b": "-1/2"}, *runs[:2])
    (spending,) = compare([runs[0], runs[1], merged]).spendings
    assert spending.together.epsilon == composed(*runs[:2])
    assert spending.together.epsilon == spending.sources[2].claim.epsilon
    _, markdown, values = reported(compare([runs[0], runs[1], merged]), tmp_path / "out")
    said = f"epsilon = {rounded_up(spending.together.epsilon)} at delta = 1e-05"
    assert "### Task vector: merged" in markdown
    assert "| Expression | a - 1/2 \\* b |" in markdown
    assert f"{NAMES[0][:12]} (on letters, here a0)" in markdown
    assert f"| Composed | {said} |" in markdown
    assert values["datasets"][0]["folders"][2]["expression"] == "a - 1/2 * b"


def test_a_merge_brings_the_runs_behind_it(
    runs: tuple[Path, ...], tmp_path: Path, merging: Callable[..., Path]
) -> None:
    merged = merging(tmp_path / "merged", {"a": "1", "b": "1"}, *runs[1:3])
    (spending,) = compare([runs[0], merged]).spendings
    assert spending.together.epsilon == composed(*runs[:3])


REPLACED = PoissonGaussian(2.0, 0.1, 30, adjacency=Adjacency.ZERO_OUT)


def test_runs_of_other_relations_are_refused(
    runs: tuple[Path, ...], tmp_path: Path, making: Callable[..., Path]
) -> None:
    own = read_certificate(runs[0]).adjacency
    other = next(each for each in (Adjacency.ADD_OR_REMOVE, Adjacency.ZERO_OUT) if each is not own)
    mechanism = dataclasses.replace(MECHANISM, adjacency=other)
    folder = making(tmp_path / "z", run_id=NAMES[4], mechanism=mechanism, adjacency=other)
    with pytest.raises(ConfigurationError) as caught:
        compare([runs[0], folder])
    message = str(caught.value)
    assert "adjacency of all runs on dataset=letters" in message
    assert f"{own.value} in a0" in message
    assert f"{other.value} in z" in message


def test_a_run_given_twice_is_refused(
    runs: tuple[Path, ...], tmp_path: Path, merging: Callable[..., Path]
) -> None:
    import shutil

    copy = shutil.copytree(runs[0], tmp_path / "copy")
    for again in (runs[0], copy):
        with pytest.raises(ConfigurationError, match="to be given once"):
            compare([runs[0], runs[1], again])
    merged = merging(tmp_path / "merged", {"a": "1"}, runs[0])
    copied = shutil.copytree(merged, tmp_path / "copied")
    with pytest.raises(ConfigurationError, match="copied to be given once, it is merged again"):
        compare([merged, copied])


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with two runs on the letters, of which the first is in a report."""
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as opened:
        budget = Budget(epsilon=20.0, delta=1e-5, plans=Plans.FIXED)
        opened.set_budget("letters", budget)
        opened.reserve(Reservation.of("one", "letters", MECHANISM))
    return path


def charged_in(ledger: Path) -> LedgerReference:
    with Ledger.read(ledger) as opened:
        return LedgerReference(opened.head.hash, opened.head.seq)


def test_what_is_left_counts_runs_that_were_not_given(
    tmp_path: Path, ledger: Path, making: Callable[..., Path]
) -> None:
    entry = charged_in(ledger)
    with Ledger.open(ledger) as opened:
        opened.reserve(Reservation.of("two", "letters", MECHANISM))
    folder = making(tmp_path / "run", run_id=NAMES[0], ledger=entry)
    other = making(tmp_path / "other", run_id=NAMES[1], ledger=entry)
    comparison = compare([folder], ledger)
    ((state,),) = [each.budgets for each in comparison.spendings]
    assert state.planned_epsilon is not None
    assert state.planned_epsilon > comparison.spendings[0].together.epsilon
    both = Certificate(read_certificate(folder).runs + read_certificate(other).runs)
    assert state.planned_epsilon <= both.epsilon(1e-5)  # by the tightest accountant
    _, markdown, values = reported(comparison, tmp_path / "out")
    assert "| Runs that it charged | 2 |" in markdown
    assert "| Budget | epsilon = 20 at delta = 1e-05, fixed plans |" in markdown
    assert state.spent_share is not None
    used = math.ceil(state.spent_share * 1000) / 10
    assert f"{used:g} % used up, {100 - used:.3g} % left" in markdown
    assert values["datasets"][0]["ledger"][0]["budget_epsilon"] == 20.0


def test_a_ledger_that_does_not_know_a_run_is_refused(
    tmp_path: Path, ledger: Path, making: Callable[..., Path], merging: Callable[..., Path]
) -> None:
    known = making(tmp_path / "known", run_id=NAMES[0], ledger=charged_in(ledger))
    unknown = making(tmp_path / "unknown", run_id=NAMES[1])
    merged = merging(tmp_path / "merged", {"a": "1", "b": "1"}, known, unknown)
    compare([known], ledger)
    for folders in ([known, unknown], [known, merged]):
        with pytest.raises(BrokenGuaranteeError, match=f"charged the run {NAMES[1]}"):
            compare(folders, ledger)
    with pytest.raises(ConfigurationError, match="to exist"):
        compare([known], tmp_path / "nowhere")


def test_the_verb_needs_a_place_for_several(
    runs: tuple[Path, ...], tmp_path: Path, capsys: Any
) -> None:
    two = [str(folder) for folder in runs[:2]]
    assert cli.main(["report", *two]) == 2
    assert "Expected output to be given" in capsys.readouterr().err
    assert cli.main(["report", *two, "--output", str(runs[0])]) == 2
    assert cli.main(["report", *two, "--output", str(runs[1] / "adapter")]) == 2
    assert cli.main(["report", *two, "--output", str(tmp_path / "out")]) == 0
    assert cli.main(["report", *two, two[0], "--output", str(tmp_path / "again")]) == 2
    assert not (tmp_path / "again").exists()
    names = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert names == ["report.html", "report.json", "report.md", "spent_1.svg"]
