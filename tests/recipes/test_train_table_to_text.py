"""`dpft train` on tables, with tiny models: what is learnt, what is written, what is refused."""

import json
from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes import cli
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.models import load_for
from dpft.recipes.preparation import prepare
from dpft.recipes.tasks import Split, build_task
from dpft.recipes.tasks.traits import traits_of
from dpft.recipes.text_targets import prompt_tokens

SHORT = [
    "privacy.epochs=null",
    "privacy.steps=2",
    "privacy.expected_batch_size=8",
    "privacy.delta=1e-5",
    "generation.beams=2",
    "generation.max_new_tokens=5",
]
ROWS = [
    {"table": "patient : Ada", "text": "Ada came."},
    {"table": "patient : Ada", "text": "It was Ada who came."},
    {"table": "patient : Bob | town : Luton", "text": "Bob of Luton came."},
]


def files(folder: Path, rows: list[dict[str, str]] = ROWS) -> list[str]:
    train, validation = folder / "rows.jsonl", folder / "held_out.jsonl"
    for path in (train, validation):
        path.write_text("\n".join(map(json.dumps, rows * 20)), encoding="utf-8")
    return ["task=table_to_text", f"task.train={train}", f"task.validation={validation}"]


@pytest.fixture(params=["decoder", "encoder_decoder"])
def model(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"tiny_{request.param}")
    return found


def test_a_run_learns_scores_and_keeps_its_texts(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = [*files(tmp_path), f"model={model}", "privacy.evaluation=public", *SHORT]
    assert cli.main(["train", *overrides, f"hydra.run.dir={run}"]) == 0
    found = json.loads((run / "metrics.json").read_text())
    assert set(found["metrics"]) == {"bleu"}
    written = [json.loads(line) for line in (run / "generations.jsonl").read_text().splitlines()]
    assert [row["input"] for row in written] == [
        {"text": "patient : Ada"},
        {"text": "patient : Bob | town : Luton"},
    ]
    assert set(written[0]["references"]) == {"Ada came.", "It was Ada who came."}
    assert "references of one table are records of their own" in (run / "report.md").read_text()
    assert cli.main(["evaluate", str(run)]) == 0


def test_references_of_one_table_are_one_unit_if_asked_for(tmp_path: Path) -> None:
    shared = [*files(tmp_path), "model=x/y", *SHORT]
    several = compose_settings([*shared, "task.references=several"])
    one = compose_settings([*shared, "task.references=one_record"])
    assert traits_of(build_task(several.task)).owner_field is None
    task = build_task(one.task)
    field = traits_of(task).owner_field
    assert field is not None
    assert len({row[field] for row in task.load(Split.TRAIN)}) == 2
    assert "one_record" in traits_of(task).notes[0]


def test_a_text_longer_than_the_model_is_refused_by_row(tiny_decoder: Path, tmp_path: Path) -> None:
    rows = [ROWS[0], {"table": "patient : Ada", "text": "secret words " * 30}]
    overrides = [*files(tmp_path, rows), f"model={tiny_decoder}", "architecture.max_length=40"]
    with pytest.raises(
        ConfigurationError, match=r"row=2 column=table\+text to have at most"
    ) as caught:
        prepare(compose_settings([*overrides, *SHORT]))
    assert "secret" not in str(caught.value)


def test_an_empty_text_is_refused_by_row(tmp_path: Path, tiny_decoder: Path) -> None:
    rows = [ROWS[0], {"table": "patient : Ada", "text": " "}]
    with pytest.raises(ConfigurationError, match="row=2 column=text to hold text"):
        prepare(compose_settings([*files(tmp_path, rows), f"model={tiny_decoder}", *SHORT]))


def test_a_figure_of_private_texts_is_refused(tmp_path: Path, tiny_decoder: Path) -> None:
    overrides = [*files(tmp_path), f"model={tiny_decoder}", *SHORT]
    noisy = ["privacy.evaluation=noisy", "privacy.evaluation_epsilon=1"]
    with pytest.raises(ConfigurationError, match="evaluation=noisy"):
        prepare(compose_settings([*overrides, *noisy]))


def test_the_loss_is_on_the_text_alone(tiny_decoder: Path, tmp_path: Path) -> None:
    prepared = prepare(compose_settings([*files(tmp_path), f"model={tiny_decoder}", *SHORT]))
    loaded = load_for(str(tiny_decoder), prepared.settings.architecture, prepared.task, 0)
    row = loaded.encode(prepared.rows, prepared.task).records[0]
    start = row["input_ids"].index(loaded.tokenizer.bos_token_id)
    assert loaded.tokenizer.decode(row["input_ids"][:start]) == "patient : Ada"
    assert row["labels"][: start + 1] == [-100] * (start + 1)
    assert row["labels"][start + 1 :] == row["input_ids"][start + 1 :]
    assert loaded.tokenizer.decode(row["labels"][start + 1 : -1]) == " Ada came."
    assert row["labels"][-1] == loaded.tokenizer.eos_token_id


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_a_table_that_is_cut_keeps_the_token_that_starts_the_text(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    rows = [{"table": "patient : Ada | " * 20, "text": "Ada came."}]
    shared = [*files(tmp_path, rows), f"model={folder}", "architecture.max_length=20", *SHORT]
    prepared = prepare(compose_settings([*shared, "task.truncate=true"]))
    loaded = load_for(str(folder), prepared.settings.architecture, prepared.task, 0)
    row = loaded.encode(prepared.rows, prepared.task).records[0]
    assert len(row["input_ids"]) == 20
    last = row["input_ids"][-1 if loaded.has_encoder else row["labels"].count(-100) - 1]
    [whole] = prompt_tokens(
        prepared.rows[:1], prepared.traits, loaded.tokenizer, has_encoder=loaded.has_encoder
    )
    assert last == whole[-1]


def test_a_table_with_all_its_references_is_trained_on_as_one_unit(
    tiny_decoder: Path, tmp_path: Path
) -> None:
    rows = [
        {"table": f"patient : {number}", "text": f"{number} {verb}."}
        for number in range(20)
        for verb in ("came", "went")
    ]
    run = tmp_path / "run"
    overrides = [*files(tmp_path, rows), f"model={tiny_decoder}", "task.references=one_record"]
    assert cli.main(["train", *overrides, *SHORT, f"hydra.run.dir={run}"]) == 0
    assert json.loads((run / "metrics.json").read_text())["num_records"] == 20
    assert "a table with all of its references" in (run / "report.md").read_text()
