"""`dpft plan --dry-run` foresees memory and time from shapes, and says what it assumed."""

import json
from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.cli.plan import main
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.models import load
from dpft.recipes.planning import trial
from dpft.recipes.planning.forecast import physical_batch
from dpft.recipes.tasks import build_task

DRY = ["--dry-run", "--flops", "1e12"]
SMALL = ["architecture.max_length=16", "performance.token_budget=64"]


def test_the_bare_run_is_foreseen_with_all_its_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DRY, *SMALL, "--memory", "1", "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    settings = compose_settings(SMALL)
    labels = build_task(settings.task).labels
    model = load("embedded", settings.architecture, labels, 0).model
    assert fields["frozen"] == sum(parameter.numel() for parameter in model.parameters())
    assert fields["records"] == physical_batch(settings) == 4
    assert fields["fits"] is True
    memory = fields["memory"]
    assert memory["weights"] == 4 * fields["frozen"]
    assert memory["peak"] > memory["at_rest"] > memory["weights"]
    assert memory["private_pass"] >= memory["activations"] > 0
    assert fields["seconds_per_step"] == pytest.approx(fields["flops_per_step"] / 1e12)


def test_the_table_says_what_fits_and_what_was_assumed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = trial.Costs(1e9, 9e8, 1e6, 1e6, 1e6, 4e6, 3e9, 4e9, 1e8, 1e12)
    monkeypatch.setattr("dpft.recipes.planning.forecast.costs_of", lambda *_: costs)
    quantised = "architecture.quantisation=int8"
    line = [*DRY, *SMALL, "--shape", "llama-7b", "architecture.dtype=bfloat16", quantised]
    main([*line, "--memory", "2"])
    said = " ".join(capsys.readouterr().out.split())
    assert "1,000,000,000 frozen, 1,000,000 trained" in said
    assert "2 GiB does NOT fit; about 1 records" in said
    assert "stored as int8" in said
    assert "private pass 3.727 GiB, of it 2.794 GiB of activations" in said
    main([*line, "--memory", "8"])
    assert "8 GiB fits" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["--shape", "llama"], "Expected shape=llama to be one of"),
        (["--memory", "-1"], "Expected memory_gib=-1 to be a number > 0"),
        (["--flops", "many"], "Expected flops=many to be a number > 0"),
        (["architecture.dtpe=bfloat16"], r"architecture\.dtype"),
        (["architecture.family=infilling"], "architecture.family=infilling to be classifier"),
    ],
)
def test_what_cannot_be_foreseen_is_refused(line: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        main(["--dry-run", *line])


def test_labels_are_not_read_off_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reading(*_: object) -> None:
        raise AssertionError("records were read")

    monkeypatch.setattr("dpft.recipes.tasks.own_files.read_rows", reading)
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": "secret"}\n')
    line = ["--dry-run", "--shape", "llama-7b", "task=text_classification", f"task.train={path}"]
    with pytest.raises(ConfigurationError, match=r"task\.labels to be given in a dry run"):
        main(line)


@pytest.mark.parametrize("in_proportion", [True, False])
def test_blocks_are_said_to_be_alike_only_where_that_was_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, in_proportion: bool
) -> None:
    costs = trial.Costs(1e9, 9e8, 1e6, 1e6, 1e6, 4e6, 3e9, 4e9, 1e8, 1e12, in_proportion)
    monkeypatch.setattr("dpft.recipes.planning.forecast.costs_of", lambda *_: costs)
    main([*DRY, *SMALL, "--shape", "llama-7b"])
    assert ("Blocks are alike" in capsys.readouterr().out) is in_proportion


def test_a_speed_that_is_not_given_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = trial.Costs(1e9, 9e8, 1e6, 1e6, 1e6, 4e6, 3e9, 4e9, 1e8, 1e12)
    monkeypatch.setattr("dpft.recipes.planning.forecast.costs_of", lambda *_: costs)
    main(["--dry-run", *SMALL, "--shape", "llama-7b", "--json"])
    measured = json.loads(capsys.readouterr().out)["flops_per_second"]
    assert 1e6 < measured < 1e17
