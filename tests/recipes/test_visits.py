"""The embedded table-to-text task: notes say what tables say, and the splits share nobody."""

import subprocess
import sys

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.embedded.topics import Split
from dpft.recipes.embedded.visits import Visit, visits
from dpft.recipes.tasks import Split as Part
from dpft.recipes.tasks import build_task


def patients(found: list[Visit]) -> set[str]:
    return {value for visit in found for name, value in visit.table if name == "patient"}


def test_every_note_says_all_of_its_table_and_nothing_else() -> None:
    for visit in visits("train", 200):
        for note in visit.notes:
            assert all(value in note for _, value in visit.table)
            assert ("Dr " in note) == ("doctor" in dict(visit.table))
            assert "{" not in note


def test_notes_of_one_table_differ_and_some_tables_have_several() -> None:
    found = visits("train", 200)
    assert all(len(set(visit.notes)) == len(visit.notes) for visit in found)
    assert {len(visit.notes) for visit in found} == {1, 2, 3}


def test_the_same_seed_gives_the_same_visits_and_another_does_not() -> None:
    assert visits("train", 5, seed=3) == visits("train", 9, seed=3)[:5]
    assert visits("train", 5, seed=3) != visits("train", 5, seed=4)


def test_splits_share_no_patient() -> None:
    assert not patients(visits("train", 500)) & patients(visits("validation", 500))


def test_a_split_without_visits_and_a_negative_number_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="Expected split=public"):
        visits(Split.PUBLIC)
    with pytest.raises(ConfigurationError, match="Expected num_visits=-1 >= 0"):
        visits("train", -1)


def test_the_task_gives_one_row_for_each_note() -> None:
    task = build_task(compose_settings(["task=embedded_table_to_text"]).task)
    rows = task.load(Part.VALIDATION)
    assert len(rows) == sum(len(visit.notes) for visit in visits("validation"))
    assert rows[0]["text"].startswith("patient : ")


def test_the_generator_imports_no_torch() -> None:
    code = "import sys, dpft.recipes.embedded.visits, dpft.recipes.decoder; "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
