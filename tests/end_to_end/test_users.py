"""Guarantees for users from a small file to a certificate, by the command line."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from dpft.accounting import Certificate, PoissonGaussian, Unit, UserPoissonGaussian
from dpft.recipes import cli

USERS, STEPS, BATCH = 12, 2, 3
COMMON = [
    "task=text_classification",
    "model=embedded",
    "privacy.delta=1e-3",
    f"privacy.steps={STEPS}",
    "privacy.epochs=null",
    f"privacy.expected_batch_size={BATCH}",
    "architecture.max_length=32",
    "adapter.r=1",
]


def write(path: Path, owners: Sequence[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "kind", "patient"])
        for number, owner in enumerate(owners):
            writer.writerow([f"visit {number} went well", ("no", "yes")[number % 2], owner])
    return path


def owners_of(users: int = USERS) -> list[str]:
    """Return the owners of records: user k has 1 + k mod 4 of them."""
    return [f"p{user}" for user in range(users) for _ in range(1 + user % 4)]


def train(folder: Path, *overrides: str, owners: Sequence[str] | None = None) -> int:
    file = write(folder / "notes.csv", owners_of() if owners is None else owners)
    columns = ["task.text_column=note", "task.label_column=kind", f"task.train={file}"]
    place = f"hydra.run.dir={folder / 'run'}"
    return cli.main(["train", *COMMON, *columns, place, *overrides])


def certificate_of(folder: Path) -> Certificate:
    return Certificate.from_json((folder / "run" / "certificate.json").read_text())


def test_users_are_sampled_whole_and_the_certificate_says_so(tmp_path: Path) -> None:
    assert train(tmp_path, "task.group_by=patient", "privacy.epsilon=8") == 0
    certificate = certificate_of(tmp_path)
    (run,) = certificate.runs
    assert certificate.unit is run.unit is Unit.USER
    assert (run.num_records, run.expected_batch_size) == (USERS, BATCH)
    assert isinstance(run.mechanism, PoissonGaussian)
    assert run.mechanism.sample_rate == BATCH / USERS
    assert run.sampler.startswith("Poisson: every user, with all records")
    assert 7.9 < certificate.epsilon(1e-3) <= 8
    report = (tmp_path / "run" / "report.md").read_text()
    assert "| Unit of privacy | one user of the training data |" in report
    assert "each user's joint gradient" in report
    assert "the number of users is declared public" in report
    assert "several records of one person" not in report
    assert "unit one user" in (tmp_path / "run" / "adapter" / "README.md").read_text()
    assert "one user" in (tmp_path / "run" / "adapter" / "README.md").read_text()
    labels = "The set of labels: it was read off the training records and declared public."
    assert labels in run.excluded
    assert labels in report
    assert any(said.startswith("Users told apart otherwise") for said in run.excluded)


def test_a_largest_number_of_records_is_enforced_and_covered(tmp_path: Path) -> None:
    settings = ["task.user_column=patient", "task.max_records_per_user=2"]
    assert train(tmp_path, *settings, "task.labels=[no,yes]") == 0
    (run,) = certificate_of(tmp_path).runs
    assert run.unit is Unit.USER
    assert isinstance(run.mechanism, UserPoissonGaussian)
    assert run.mechanism.records_per_user == 2
    kept = sum(min(2, 1 + user % 4) for user in range(USERS))
    assert run.num_records == kept
    assert run.mechanism.sample_rate == BATCH / kept
    assert "at most 2 of each user" in (tmp_path / "run" / "report.md").read_text()


def test_both_ways_at_once_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "task.group_by=patient", "task.max_records_per_user=2") == 2
    assert "only one of task.group_by=patient" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["task.max_records_per_user=2", "task.user_column=patient"])
def test_a_number_needs_owners_and_owners_a_number(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, setting) == 2
    assert "together" in capsys.readouterr().err


def test_a_record_that_belongs_to_nobody_is_named_by_file_row_and_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "task.group_by=patient", owners=["p1", "p2", " ", "p3"]) == 2
    said = capsys.readouterr().err
    assert "file=notes.csv row=3 column=patient" in said
    assert "visit" not in said
    assert not (tmp_path / "run").exists()


def test_the_unit_is_decided_by_the_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "privacy.unit=user") == 2
    assert "privacy.unit=user to be what the task says" in capsys.readouterr().err


def test_a_noisy_metric_for_users_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = ["privacy.evaluation=noisy", "privacy.evaluation_epsilon=1"]
    assert train(tmp_path, "task.group_by=patient", *noisy) == 2
    assert "not noisy" in capsys.readouterr().err


def test_a_delta_of_one_by_users_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are 30 records: 1/30 < 0.05 < 1/12, and users are what counts."""
    assert train(tmp_path, "task.group_by=patient", "privacy.delta=0.09") == 2
    assert "delta=0.09 < 1/num_records=0.0833" in capsys.readouterr().err


def test_a_run_without_privacy_takes_users_as_well(tmp_path: Path) -> None:
    assert train(tmp_path, "privacy=not_private", "task.group_by=patient") == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["private"] is False
