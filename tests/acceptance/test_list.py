"""The acceptance list is whole: every point stands in it with what holds it."""

import re
from pathlib import Path

import pytest
import yaml

POINTS = [str(number) for number in range(1, 16)]
FAILURES = [f"S{number}" for number in range(1, 8)]


@pytest.fixture(scope="module")
def rows(repository: Path) -> dict[str, list[str]]:
    """The cells of each row of the page, by the first."""
    text = (repository / "docs" / "acceptance.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (S?\d+) \|(.*)\|$", text, re.MULTILINE)
    assert len(found) == len(dict(found))
    return {point: [cell.strip() for cell in cells.split("|")] for point, cells in found}


def test_every_point_and_every_silent_failure_has_a_row(rows: dict[str, list[str]]) -> None:
    assert list(rows) == POINTS + FAILURES


@pytest.mark.parametrize("point", [each for each in POINTS + FAILURES if each not in {"3", "15"}])
def test_every_row_names_a_test(point: str, rows: dict[str, list[str]]) -> None:
    assert re.search(r"`test_\w+`", " ".join(rows[point]))


def test_the_weekly_check_takes_the_newest_releases_and_runs_what_everybody_runs(
    repository: Path,
) -> None:
    text = (repository / ".github" / "workflows" / "weekly.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    steps = [step.get("run", "") for step in workflow["jobs"]["latest"]["steps"]]
    assert steps[-1] == "make check"
    assert any("> constraints.txt" in step for step in steps)
    day_of_week = workflow[True]["schedule"][0]["cron"].split()[-1]  # YAML reads `on` as true
    assert day_of_week.isdigit()
