"""The table of adapters: which cells it has, and that the command line takes them."""

from pathlib import Path

import pytest

from benchmarks.adapter_utility import Cell, table, table_cells, trial_cells
from dpft.adapters import AdapterName
from dpft.recipes.config.composition import compose_settings


def test_every_adapter_is_tried_and_shown() -> None:
    names = [name.value for name in AdapterName]
    trials = list(trial_cells(Path("records")))
    assert sorted({cell.adapter for cell in trials}) == sorted(names)
    found = [{"adapter": cell.adapter, "learning_rate": 1.0, "accuracy": 0.5} for cell in trials]
    assert sorted(cell.adapter for cell in table_cells(found)) == sorted(names)


def test_the_best_trial_gives_the_learning_rate() -> None:
    found = [
        {"adapter": "lora", "learning_rate": 1e-2, "accuracy": 0.8},
        {"adapter": "lora", "learning_rate": 4e-3, "accuracy": 0.7},
    ]
    (cell,) = table_cells(found)
    assert cell.learning_rate == pytest.approx(1e-2 * (20 / 66) ** 0.5, rel=0.01)


@pytest.mark.parametrize("cell", [*trial_cells(Path("records"))], ids=lambda cell: cell.name)
def test_the_command_line_takes_every_cell(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPFT_ASSETS", "assets")
    assert compose_settings(cell.overrides()).privacy.steps == 20
    for_table = Cell(cell.adapter, cell.learning_rate)
    assert compose_settings(for_table.overrides()).privacy.epsilon == 8


def test_the_table_shows_each_cell() -> None:
    cell = {"adapter": "ia3", "learning_rate": 0.02, "accuracy": 0.84, "epsilon": 7.99, "steps": 66}
    assert table([cell]).splitlines()[2] == "| ia3 | 0.02 | 0.8400 | 7.990 | 66 |"
