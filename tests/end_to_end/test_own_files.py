"""Every kind of own file, from the file to an adapter, by the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from dpft.recipes import cli
from dpft.recipes.embedded import MODEL_DIR

COMMON = [
    "privacy.delta=1e-3",
    "privacy.steps=1",
    "privacy.epochs=null",
    "privacy.expected_batch_size=4",
    "architecture.max_length=24",
]
ROWS = [
    {
        "text": f"question {i}",
        "text2": f"answer {i}",
        "label": ("no", "yes")[i % 2],
        "target": i / 12,
        "instruction": f"say {i}",
        "response": f"it is {i}",
        "table": [["number", str(i)], ["kind", "small"]],
        "user": f"u{i % 6}",
    }
    for i in range(24)
]


def run(folder: Path, task: str, *overrides: str, rows: list[dict[str, Any]] | None = None) -> int:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS if rows is None else rows)))
    place = [f"task.train={file}", f"hydra.run.dir={folder / 'run'}"]
    return cli.main(["train", f"task={task}", *COMMON, *place, *overrides])


def language_model(folder: Path, kind: str) -> Path:
    """Save a tiny model that writes texts, with the tokenizer of the embedded encoder."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL_DIR)
    words = len(tokenizer)
    if kind == "gpt2":
        decoder = transformers.GPT2Config(
            vocab_size=words, n_embd=8, n_layer=1, n_head=2, n_positions=32
        )
        transformers.GPT2LMHeadModel(decoder).save_pretrained(folder)
    else:
        both = transformers.T5Config(  # type: ignore[call-arg]  # passed on by theirs
            vocab_size=words,
            d_model=8,
            d_kv=4,
            d_ff=8,
            num_layers=1,
            num_heads=2,
            decoder_start_token_id=0,
        )
        transformers.T5ForConditionalGeneration(both).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_pairs_are_classified(tmp_path: Path) -> None:
    columns = ["task.first_column=text", "task.second_column=text2"]
    assert run(tmp_path, "text_pair", "model=embedded", "task.labels=[no,yes]", *columns) == 0
    assert "first_texts, second_texts" in (tmp_path / "run" / "adapter" / "README.md").read_text()


def test_numbers_are_predicted_and_judged_by_correlations(tmp_path: Path) -> None:
    public = ["task.second_column=text2", "privacy.evaluation=public"]
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("\n".join(map(json.dumps, ROWS[:8])))
    settings = [*public, f"task.validation={held_out}", "model=embedded", "task.truncate=true"]
    assert run(tmp_path, "regression", *settings) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert set(metrics) == {"pearson", "spearmanr"}
    assert "were cut (task.truncate=true)" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("task", "kind", "auto"),
    [
        ("instruction", "gpt2", "AutoModelForCausalLM"),
        ("table_to_text", "t5", "AutoModelForSeq2SeqLM"),
    ],
)
def test_texts_are_written(task: str, kind: str, auto: str, tmp_path: Path) -> None:
    model = language_model(tmp_path / "base", kind)
    owners = ["task.group_by=user", "privacy.expected_batch_size=2"]
    assert run(tmp_path, task, f"model={model}", "adapter.r=1", *owners) == 0
    adapter = tmp_path / "run" / "adapter"
    assert auto in (adapter / "README.md").read_text()
    assert (adapter / "adapter_model.safetensors").is_file()
    certificate = json.loads((adapter / "certificate.json").read_text())
    assert "user" in json.dumps(certificate)


def test_a_text_that_is_too_long_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, {**ROWS[0], "text": "private words " * 20}]
    assert run(tmp_path, "text_classification", "model=embedded", rows=rows) == 2
    said = capsys.readouterr().err
    assert "file=rows.jsonl row=25 column=text to have at most architecture.max_length=24" in said
    assert "private words" not in said
    assert not (tmp_path / "run").exists()
