"""E2E, DART and WebNLG are read as the papers write them, and references count as asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.tasks import Split, Task, build_task
from dpft.recipes.tasks.traits import TaskKind, traits_of

E2E = [
    ("name[The Vaults], eatType[pub], familyFriendly[yes]", "The Vaults is a pub."),
    ("name[The Vaults], eatType[pub], familyFriendly[yes]", "A pub, The Vaults."),
    ("name[Aromi], near[Café Sicilia]", "Aromi is near."),
]
TRIPLES = [
    {
        "tripleset": [["Mars Hill", "JOINED", "1973"], ["Mars Hill", "CITY_SERVED", "A"]],
        "annotations": [{"text": "It joined in 1973."}, {"text": "Joined: 1973."}],
    },
    {"tripleset": [["B", "c", "d"]], "annotations": [{"text": "B c d."}]},
]


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    for split in ("train", "validation", "test"):
        lines = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def e2e_rows(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"meaning_representation": mr, "human_reference": text} for mr, text in pairs]


def task(name: str, folder: Path, *overrides: str) -> Task:
    return build_task(compose_settings([f"task={name}", f"task.path={folder}", *overrides]).task)


def test_e2e_is_linearised_as_in_the_papers(tmp_path: Path) -> None:
    rows = task("e2e", written(tmp_path, e2e_rows(E2E))).load(Split.TRAIN)
    assert [row["text"] for row in rows] == [
        "name : The Vaults | Type : pub | family friendly : yes",
        "name : The Vaults | Type : pub | family friendly : yes",
        "name : Aromi | near : Café Sicilia",
    ]
    assert rows[1]["label"] == "A pub, The Vaults."


@pytest.mark.parametrize(("name", "relation"), [("dart", "joined"), ("webnlg", "JOINED")])
def test_triples_are_linearised_as_in_the_papers(name: str, relation: str, tmp_path: Path) -> None:
    rows = task(name, written(tmp_path, TRIPLES)).load(Split.TRAIN)
    assert len(rows) == 3
    assert rows[0]["text"].startswith(f"Mars Hill : {relation} : 1973 | Mars Hill : ")


def test_each_reference_is_a_record_or_all_of_a_table_are_one(tmp_path: Path) -> None:
    folder = written(tmp_path, e2e_rows(E2E))
    several, one = task("e2e", folder), task("e2e", folder, "task.references=one_record")
    assert traits_of(several).kind is traits_of(one).kind is TaskKind.TEXT
    assert traits_of(several).owner_field is None
    field = traits_of(one).owner_field
    assert field is not None
    owners = [row[field] for row in one.load(Split.TRAIN)]
    assert owners[0] == owners[1] != owners[2]
    notes = [traits_of(each).notes[0] for each in (several, one)]
    assert "task.references=several" in notes[0]
    assert "task.references=one_record" in notes[1]


def test_data_sets_share_an_owner_exactly_where_they_share_a_table(tmp_path: Path) -> None:
    owners = []
    for place, pairs in (("first", E2E), ("second", E2E[2:]), ("third", [("name[B]", "B.")])):
        (tmp_path / place).mkdir()
        folder = written(tmp_path / place, e2e_rows(pairs))
        found = task("e2e", folder, "task.references=one_record")
        owners.append({row[traits_of(found).owner_field or ""] for row in found.load(Split.TRAIN)})
    assert len(owners[0] & owners[1]) == 1
    assert not owners[2] & (owners[0] | owners[1])


def test_a_slot_that_is_malformed_is_refused_by_row(tmp_path: Path) -> None:
    folder = written(tmp_path, e2e_rows([*E2E, ("name The Secret", "x")]))
    with pytest.raises(ConfigurationError, match="row=4 column=meaning_representation") as caught:
        task("e2e", folder).load(Split.TRAIN)
    assert "Secret" not in str(caught.value)


def test_an_empty_reference_is_refused_in_training_and_scores_nothing(tmp_path: Path) -> None:
    empty = {"tripleset": [["a", "b", "c"]], "annotations": [{"text": " "}, {"text": "A."}]}
    found = task("dart", written(tmp_path, [TRIPLES[0], empty]))
    with pytest.raises(ConfigurationError, match="row=2 column=annotations to hold text"):
        found.load(Split.TRAIN)
    assert [row["label"] for row in found.load(Split.VALIDATION)][-1] == "A."
    assert len(found.load(Split.VALIDATION)) == 3


def test_fewer_tables_are_judged_if_asked_for(tmp_path: Path) -> None:
    rows = e2e_rows([(f"name[{number}]", "x") for number in range(10)])
    found = task("e2e", written(tmp_path, rows), "task.judged=3")
    assert len(found.load(Split.VALIDATION)) == 3


def test_without_files_the_embedded_task_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    problems = build_task(compose_settings(["task=dart"]).task).problems()
    assert len(problems) == 1
    assert "task=embedded_table_to_text" in problems[0]
