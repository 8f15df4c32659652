"""Forgetting: towards chance, not below it, and the controls stay."""

import copy

import pytest
import torch
from torch import nn

from dpft.recipes.editing.forgetting import GRID, chosen, forgotten, random_direction
from dpft.recipes.editing.judging import Judges
from dpft.recipes.tasks.corpora import CorpusName

FIRST = "0.weight"


def row(coefficient: float, target: float, control: float) -> dict[str, float]:
    return {"coefficient": coefficient, "target": target, "control": control}


def test_less_than_chance_is_not_taken_for_forgetting() -> None:
    grid = [row(0.5, 0.55, 1.0), row(1.0, 0.30, 0.99)]
    assert chosen(grid, 0.5) == 0.5


def test_a_coefficient_that_harms_the_controls_is_not_chosen() -> None:
    grid = [row(0.5, 0.8, 0.97), row(1.0, 0.5, 0.94)]
    assert chosen(grid, 0.5) == 0.5


def test_where_no_coefficient_keeps_the_controls_the_mildest_is_chosen() -> None:
    assert chosen([row(0.5, 0.5, 0.90), row(0.1, 0.7, 0.93)], 0.5) == 0.1


def test_a_random_direction_has_the_norm_of_the_edit_in_every_tensor() -> None:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    edited = copy.deepcopy(base)
    with torch.no_grad():
        edited.state_dict()[FIRST].add_(0.5)
    start, moved = base.state_dict(), edited.state_dict()
    drawn = random_direction(base, copy.deepcopy(edited), seed=1)(2.0).state_dict()
    norm = float((moved[FIRST] - start[FIRST]).norm())
    assert float((drawn[FIRST] - start[FIRST]).norm()) == pytest.approx(2 * norm, rel=1e-5)
    assert torch.equal(drawn["1.weight"], start["1.weight"])


def test_the_coefficient_is_not_chosen_on_test_records(judges: Judges) -> None:
    asked: list[float] = []

    def edit(coefficient: float) -> nn.Module:
        asked.append(coefficient)
        return judges.base

    found = forgotten(judges, CorpusName.TREC, [CorpusName.SST2], edit)
    assert asked == [*GRID, found["coefficient"]]
    assert [tried["coefficient"] for tried in found["kept_back"]] == list(GRID)


def test_an_edit_that_changes_nothing_forgets_nothing(judges: Judges) -> None:
    found = forgotten(judges, CorpusName.TREC, [CorpusName.SST2], lambda _: judges.base)
    assert found["target_after"] == found["target_before"]
    assert found["control"] == 1
    assert found["from_chance"] == pytest.approx(abs(found["target_before"] - 1 / 6))
