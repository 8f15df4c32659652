import json
import os
import platform
import sys
from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.run_folder import RunFolder, environment, write_whole

NEEDED = (
    "config.yaml",
    "metrics.json",
    "certificate.json",
    "report.md",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)


def finished_run(path: Path) -> Path:
    (path / "adapter").mkdir(parents=True)
    for name in NEEDED:
        (path / name).write_text("{}")
    return path


def test_an_absent_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path / "a" / "b").path.is_dir()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path).path == tmp_path


def test_a_folder_with_another_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    finished_run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigurationError, match="to be absent or empty"):
        RunFolder.create(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigurationError, match="to be absent or empty"):
        RunFolder.create(tmp_path / "run")


@pytest.mark.parametrize("missing", NEEDED)
def test_an_unfinished_run_is_not_opened(tmp_path: Path, missing: str) -> None:
    (finished_run(tmp_path) / missing).unlink()
    with pytest.raises(ConfigurationError, match=f"to hold {missing}"):
        RunFolder.open(tmp_path)


def test_a_finished_run_is_opened(tmp_path: Path) -> None:
    assert RunFolder.open(finished_run(tmp_path)).adapter == tmp_path / "adapter"


def test_an_unfinished_run_is_reopened_and_a_finished_one_is_not(tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    with pytest.raises(ConfigurationError, match="to be unfinished"):
        RunFolder.reopen(tmp_path / "run")
    (tmp_path / "run" / "charges.jsonl").touch()
    for missing in ("metrics.json", "report.md", "certificate.json"):
        (tmp_path / "run" / missing).unlink()
        assert RunFolder.reopen(tmp_path / "run").path == tmp_path / "run"


def test_without_a_configuration_a_run_is_finished_without_metrics(tmp_path: Path) -> None:
    finished_run(tmp_path)
    (tmp_path / "metrics.json").unlink()
    assert not RunFolder(tmp_path).is_finished
    (tmp_path / "config.yaml").unlink()
    assert RunFolder(tmp_path).is_finished


@pytest.mark.parametrize("name", ["config.yaml", ".config.yaml.draft", "run.log"])
def test_what_is_written_before_the_first_step_is_taken_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert RunFolder.reopen(tmp_path).path == tmp_path
    (tmp_path / "another").touch()
    with pytest.raises(ConfigurationError, match="absent or empty"):
        RunFolder.reopen(tmp_path)


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace = os.replace
    monkeypatch.setattr("dpft.run_folder.make_durable", lambda path: events.append(path.name))

    def replacing(draft: Path, path: Path) -> None:
        events.append("replace")
        replace(draft, path)

    monkeypatch.setattr(os, "replace", replacing)
    write_whole(tmp_path / "report.md", "x")
    assert events == [".report.md.draft", "replace", tmp_path.name]


def test_environment_names_neither_host_nor_user_nor_folders() -> None:
    found = environment()
    assert set(found) == {"python", "platform", "versions", "commit"}
    assert found["platform"] == f"{sys.platform} {platform.machine()}"
    assert str(Path(__file__).parents[2]) not in json.dumps(found)


def test_environment_holds_the_versions_a_result_depends_on() -> None:
    versions = environment()["versions"]
    assert all(
        versions[name] for name in ("dpft", "torch", "transformers", "peft", "dp-accounting")
    )


def test_infinite_epsilon_becomes_null_since_json_has_no_infinity(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path)
    folder.write_metrics({"epsilon": float("inf"), "steps": 3})
    assert json.loads(folder.metrics.read_text()) == {"epsilon": None, "steps": 3}


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_metrics({"metrics": {"accuracy": float("nan")}})
    assert list(tmp_path.iterdir()) == []
