"""Models and benchmarks by their names on the Hub: from its cache, or refused before anything."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pyarrow as pa
import pytest
from pyarrow import parquet

from dpft.accounting.inputs import InputRole, InputStatus
from dpft.errors import ConfigurationError
from dpft.recipes import cli
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.tasks import Split, Task, build_task
from dpft.recipes.tasks.glue_tasks import GLUE
from dpft.verification import read_certificate

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHORT = [
    "task=text_classification",
    "task.labels=[b,g]",
    "privacy.evaluation=public",
    "privacy.epochs=null",
    "privacy.steps=1",
    "privacy.expected_batch_size=8",
    "privacy.delta=1e-5",
    "architecture.max_length=32",
]
TABLES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "dart": (
        "Yale-LILY/dart",
        [
            {
                "tripleset": [["Mars Hill", "JOINED", "1973"]],
                "annotations": {"source": ["x", "x"], "text": ["It joined in 1973.", "In 1973."]},
            }
        ],
    ),
    "e2e": (
        "tuetschek/e2e_nlg",
        [{"meaning_representation": "name[Aromi]", "human_reference": "Aromi."}],
    ),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def put_in(cache: Path, name: str, files: Path) -> None:
    """Put a model where the Hub's client would have."""
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(files, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT, encoding="utf-8")


def trained(folder: Path, name: str, *overrides: str) -> Path:
    rows = [{"text": "good film", "label": "g"}, {"text": "a bad film", "label": "b"}] * 20
    for stem in ("train", "held_out"):
        text = "\n".join(map(json.dumps, rows))
        (folder / f"{stem}.jsonl").write_text(text, encoding="utf-8")
    files = [f"task.train={folder}/train.jsonl", f"task.validation={folder}/held_out.jsonl"]
    run = folder / name
    assert cli.main(["train", *SHORT, *files, *overrides, f"hydra.run.dir={run}"]) == 0
    return run


def test_a_model_in_the_cache_is_trained_and_evaluated_offline(
    cache: Path, tmp_path: Path, tiny_masked: Path
) -> None:
    put_in(cache, "org/tiny", tiny_masked)
    run = trained(tmp_path, "run", "model=org/tiny")
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    (entry,) = read_certificate(run).runs
    (base,) = (each for each in entry.inputs if each.role is InputRole.BASE_MODEL)
    assert (base.name, base.status) == ("tiny", InputStatus.PUBLIC)
    assert '"base model": "' in (run / "charges.jsonl").read_text(), "the digest of its weights"
    assert cli.main(["evaluate", str(run)]) == 0


@pytest.mark.slow
def test_a_certified_model_in_the_cache_brings_its_runs_along(
    cache: Path, tmp_path: Path, tiny_masked: Path
) -> None:
    first = trained(tmp_path, "first", f"model={tiny_masked}", "adapter=full")
    put_in(cache, "org/whole", first / "adapter")
    second = trained(tmp_path, "second", "model=org/whole", "privacy.dataset_id=others")
    runs = {run.run_id: run for run in read_certificate(second).runs}
    (before,) = (run.run_id for run in read_certificate(first).runs)
    (after,) = runs.keys() - {before}
    (base,) = (each for each in runs[after].inputs if each.role is InputRole.BASE_MODEL)
    assert base.status is InputStatus.CERTIFIED
    assert base.certificate is not None
    assert base.runs == (before,)


def test_a_model_that_is_nowhere_is_refused_before_anything_is_written(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    assert cli.main(["train", "model=org/nothing"]) == 2
    said = capsys.readouterr().err
    assert "Expected model=org/nothing to be a folder, or a model in the Hub's cache" in said
    assert "no network" in said
    assert "hf download org/nothing" in said
    assert not list(home.iterdir())
    assert not list(cache.iterdir())


def test_a_benchmark_that_is_nowhere_names_the_ways_to_give_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    monkeypatch.chdir(tmp_path)
    for task, instead in (("sst2", "embedded"), ("rte", "embedded"), ("e2e", "embedded_table")):
        assert cli.main(["train", f"task={task}", "model=embedded"]) == 2
        said = capsys.readouterr().err
        assert "task.path" in said
        assert "DPFT_ASSETS" in said
        assert f"try task={instead}" in said
        assert "HF_HUB_OFFLINE" in said
    assert not list(tmp_path.iterdir())


@pytest.fixture
def on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, list[dict[str, Any]]], None]:
    """A Hub of Parquet files in a folder, that `datasets` reads as if it were the real one."""
    load, asked = datasets.load_dataset, tmp_path / "repositories"

    def from_folder(name: str, configuration: str | None, *, split: str, revision: Any) -> Any:
        assert revision in {None, "refs/convert/parquet"}
        file = asked / name / (configuration or "default") / f"{split}.parquet"
        place = str(tmp_path / "arrow")
        return load("parquet", data_files=str(file), split="train", cache_dir=place)

    def put(name: str, rows: list[dict[str, Any]]) -> None:
        file = asked / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), file)

    monkeypatch.setattr(datasets, "load_dataset", from_folder)
    for variable in ("DPFT_ASSETS", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    return put


def task_of(name: str) -> Task:
    task = build_task(compose_settings([f"task={name}"]).task)
    assert task.problems() == []
    return task


def glue_rows(name: str, label: object) -> list[dict[str, Any]]:
    texts = ("sentence",) if name == "sst2" else GLUE[name].texts
    return [{text: f"{text} of {name}" for text in texts} | {"label": label, "idx": 0}]


@pytest.mark.parametrize("name", sorted([*GLUE, "sst2"]))
def test_the_tasks_of_glue_are_read_from_the_hub(
    name: str, on_the_hub: Callable[[str, list[dict[str, Any]]], None]
) -> None:
    label = 2.5 if name == "stsb" else 1
    held_out = "validation_matched" if name == "mnli" else "validation"
    for split in ("train", held_out):
        on_the_hub(f"nyu-mll/glue/{name}/{split}", glue_rows(name, label))
    task = task_of(name)
    for row in (task.load(split)[0] for split in Split):
        assert row["label"] == label
        assert row["text"].endswith(f"of {name}")


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_from_the_hub(
    name: str, on_the_hub: Callable[[str, list[dict[str, Any]]], None]
) -> None:
    repository, rows = TABLES[name]
    for split in ("train", "validation"):
        on_the_hub(f"{repository}/default/{split}", rows)
    task = task_of(name)
    texts = [row["label"] for row in task.load(Split.TRAIN)]
    assert texts == (["It joined in 1973.", "In 1973."] if name == "dart" else ["Aromi."])
    assert [row["label"] for row in task.load(Split.VALIDATION)] == texts


def test_a_hidden_label_of_the_hub_is_refused_by_row(
    on_the_hub: Callable[[str, list[dict[str, Any]]], None],
) -> None:
    on_the_hub("nyu-mll/glue/rte/train", glue_rows("rte", -1))
    with pytest.raises(ConfigurationError, match="file=glue row=1 column=label"):
        task_of("rte").load(Split.TRAIN)


def test_a_repository_that_gives_nothing_is_an_error_of_ours(
    on_the_hub: Callable[[str, list[dict[str, Any]]], None],
) -> None:
    for name in ("sst2", "rte", "e2e"):
        with pytest.raises(ConfigurationError, match=r"The Hub does not give it \(\w+\)\. Set"):
            task_of(name).load(Split.TRAIN)


@pytest.mark.parametrize("name", ["sst2", "rte", "e2e", "dart"])
def test_a_folder_of_the_name_of_a_repository_is_not_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", None)
    monkeypatch.chdir(tmp_path)
    repository = TABLES[name][0] if name in TABLES else "nyu-mll/glue"
    (tmp_path / repository).mkdir(parents=True)

    task = build_task(compose_settings([f"task={name}"]).task)

    assert [f"Expected no folder {repository} here" in each for each in task.problems()] == [True]
    for split in Split:
        with pytest.raises(ConfigurationError, match="would count as public"):
            task.load(split)


def test_what_was_read_before_is_read_again_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    as_if_read(tmp_path, {"train": glue_rows("sst2", 0), "validation": glue_rows("sst2", 1)})
    task = task_of("sst2")
    assert [task.load(split)[0]["label"] for split in Split] == [0, 1]


def as_if_read(folder: Path, splits: dict[str, list[dict[str, Any]]]) -> None:
    """Leave the cache that `datasets` leaves after it has read SST-2 from the Hub."""
    files = {name: str(folder / f"{name}.parquet") for name in splits}
    for name, rows in splits.items():
        parquet.write_table(pa.Table.from_pylist(rows), files[name])
    datasets.load_dataset("parquet", data_files=files, cache_dir=str(folder / "made"))
    (made,) = (folder / "made" / "parquet").glob("*/*/*/dataset_info.json")
    place = folder / "cache" / "nyu-mll___glue" / "sst2" / "0.0.0" / COMMIT
    shutil.copytree(made.parent, place)
    for file in place.glob("parquet-*.arrow"):
        file.rename(place / file.name.replace("parquet-", "glue-"))
    info = json.loads((place / "dataset_info.json").read_text())
    info |= {"builder_name": "parquet", "dataset_name": "glue", "config_name": "sst2"}
    for name, split in info["splits"].items():
        split |= {"dataset_name": "glue", "name": name}
    (place / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
