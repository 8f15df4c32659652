"""The grid of steps: its table, and that an interrupted run goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import grid, growth, step
from benchmarks.cases import Case, Family, Method
from benchmarks.measuring import Interval
from benchmarks.step import Row
from dpft.recipes.models import quiet_peft

_Run = Callable[..., tuple[str, dict[str, Any]]]


def test_each_shape_is_a_column_and_a_failure_a_dash() -> None:
    one = Interval(1.0, 0.9, 1.1)
    rows = [
        Row("GPT-2 full B=8 T=32", "dpft", 1, cpu=one),
        Row("GPT-2 full B=8 T=32", "opacus ghost", 1, failure="refused"),
        Row("GPT-2 full B=64 T=32", "dpft", 1, cpu=one),
    ]
    assert grid.pivoted(rows).splitlines()[0::2] == [
        "| trained | engine | B=8 T=32 | B=64 T=32 |",
        "| GPT-2 full | dpft | 1 [0.9, 1.1] | 1 [0.9, 1.1] |",
    ]
    assert grid.pivoted(rows).splitlines()[3] == "| GPT-2 full | opacus ghost | - |  |"


def test_grid_holds_every_adapter_all_weights_and_the_tied_head_at_six_shapes() -> None:
    cases = set(grid.GRID.cases)
    assert len(grid.GRID.cases) == len(cases) == 6 * (2 * len(Method) - 1)
    assert Case(Family.GPT2, Method.TIED_HEAD, 64, 512) in cases


def test_cells_that_are_saved_are_not_measured_again(
    run: _Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = ("--only", "GPT-2 tied head B=8 T=128", "--no-memory", "--engines", "dpft")
    first, _ = run(lambda arguments: step.main(arguments, grid.GRID), *only)
    rows = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["rows"]
    assert [row["engine"] for row in rows] == ["plain", "dpft"]
    monkeypatch.setattr(step, "interleaved", None)
    again, _ = run(lambda arguments: step.main(arguments, grid.GRID), *only)
    assert again == first


def test_large_batches_get_fewer_rounds(run: _Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "_TOKENS", 1)
    monkeypatch.setattr(step, "_FEWEST_ROUNDS", 1)
    _, result = run(step.main, "--only", "MiniLM IA3", "--no-memory", "--engines", "dpft")
    assert {row["rounds"] for row in result["rows"]} == {1}  # of the two that are asked for


def test_gradients_of_records_that_do_not_fit_are_not_tried(
    run: _Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_MOST_BYTES", 1)
    _, result = run(
        step.main, "--only", "MiniLM LoRA B=32 T=64", "--no-memory", "--engines", "dpft,hooks"
    )
    rows = {row["engine"]: row for row in result["rows"]}
    assert rows["dpft"]["cpu"] is not None
    assert rows["opacus hooks"]["failure"].startswith("MemoryError")


def test_growth_changes_one_thing_at_a_time() -> None:
    middle, *others = growth.GROWTH.cases
    for case in others:
        changed = [name for name, value in vars(case).items() if value != vars(middle)[name]]
        assert len(changed) == 1
    assert len({case.name for case in growth.GROWTH.cases}) == len(growth.GROWTH.cases)


def test_a_model_of_another_size_has_layers_and_width_of_its_own() -> None:
    case = Case(Family.MINILM, Method.FULL, 1, 16, size=(2, 128))
    config: Any = case.problem("cpu").model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (2, 128, 2)


def test_rank_of_lora_is_that_of_the_case() -> None:
    small, large = (Case(Family.GPT2, Method.LORA, 1, 8, quick=True, rank=rank) for rank in (1, 4))
    with quiet_peft():
        assert large.problem("cpu").trainable == 4 * small.problem("cpu").trainable
