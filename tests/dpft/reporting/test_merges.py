"""A merge is reported with its expression, and with what its certificate says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.recipes import cli
from dpft.rendering import rounded_up
from dpft.reporting.merge_report import write_merge_report
from dpft.reporting.merges import read_merge
from dpft.verification import read_certificate

OTHER = "f" * 32


@pytest.fixture
def runs(tmp_path: Path, making: Callable[..., Path]) -> tuple[Path, Path]:
    return making(tmp_path / "one"), making(tmp_path / "two", run_id=OTHER)


@pytest.fixture
def merged(tmp_path: Path, runs: tuple[Path, Path], merging: Callable[..., Path]) -> Path:
    return merging(tmp_path / "merged", {"a": "1", "b": "-1/2"}, *runs)


def test_the_expression_is_read_as_it_was_written(merged: Path) -> None:
    merge = read_merge(merged)
    assert merge.formula == "a - 1/2 * b"
    assert [term.coefficient for term in merge.terms] == ["1", "-1/2"]
    assert merge.named == {"a": "1", "b": "-1/2"}


def test_the_report_states_expression_runs_and_the_composed_epsilon(
    merged: Path, tmp_path: Path
) -> None:
    epsilon = read_certificate(merged).epsilon(1e-5)
    _, markdown, written = write_merge_report(read_merge(merged), tmp_path / "report")
    text = markdown.read_text(encoding="utf-8")
    said = f"epsilon = {rounded_up(epsilon)} at delta = 1e-05"
    assert text.count(said) == 2
    assert "| Expression | a - 1/2 \\* b |" in text
    assert OTHER[:12] in text
    assert "No digest covers this file" in text
    assert "no settings file, no metrics" in text
    values: dict[str, Any] = json.loads(written.read_text())
    assert (values["kind"], values["expression"]) == ("merge", "a - 1/2 * b")
    assert values["epsilon"] == epsilon


def test_the_verb_reports_a_merge(merged: Path, tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["report", str(merged)]) == 0
    assert (merged / "report" / "report.html").is_file()
    assert cli.main(["report", str(merged)]) == 0  # the report in it is no part of it
    assert cli.main(["report", str(merged), "--output", str(merged)]) == 2
    assert cli.main(["report", str(merged), "--ledger", str(tmp_path / "x")]) == 2
    assert "to be unset for a merge alone" in capsys.readouterr().err


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "expression.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def test_an_expression_of_other_runs_is_refused(merged: Path) -> None:
    changed(merged, lambda fields: fields["terms"].pop())
    with pytest.raises(BrokenGuaranteeError, match="to name the runs of the certificate"):
        read_merge(merged)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(format="dpft-task-vector/2"),
        lambda fields: fields.update(terms=[]),
        lambda fields: fields["terms"][0].update(coefficient=1),
        lambda fields: fields["terms"][0].pop("runs"),
        lambda fields: fields["made_by"].update(expression=["a"]),
        lambda fields: fields["made_by"].update(expression={"a": 2}),
        lambda fields: fields.update(base=None),
        lambda fields: fields.pop("made_by"),
    ],
)
def test_an_expression_of_another_form_is_refused(
    merged: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    changed(merged, change)
    with pytest.raises(ConfigurationError, match="to describe a merge"):
        read_merge(merged)


def test_tensors_that_were_edited_are_refused(merged: Path) -> None:
    path = merged / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(BrokenGuaranteeError, match="to be as it was published"):
        read_merge(merged)


def test_the_format_is_the_one_that_task_vectors_are_saved_in() -> None:
    from dpft.reporting import kinds, merges
    from dpft.taskvectors import expression

    assert merges._FORMAT == expression._FORMAT
    assert kinds.EXPRESSION == expression.EXPRESSION
