"""The exactness table compares with the right sum, and tells a wrong one."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import taskvector_exactness
from benchmarks.taskvector_cases import CASES, OPERATIONS, Trained, trained
from benchmarks.taskvector_contenders import PeftSum, ours, peft_sums
from benchmarks.taskvector_exactness import measured, methods_table, table
from benchmarks.taskvector_mergekit import MERGEKIT_SUMS, MergekitSum, export
from benchmarks.taskvector_models import outputs_of, probe_for
from benchmarks.taskvector_references import changes_in, reference_of, summed

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's, about its own merging
EXACT = 1e-11  # relative, in float64; the forward pass itself rounds
_ROOT = Path(__file__).parents[2]
_RESULTS = _ROOT / "docs" / "results" / "taskvector_exactness.json"
_COMMITTED = json.loads(_RESULTS.read_text(encoding="utf-8"))["rows"]
_BY_NAME = {case.name: case for case in CASES}
_ROWS = ("LoRA, same rank and alpha", "DoRA", "(IA)³ on Conv1D", "Compacter", "prefix, one start")


@pytest.fixture(scope="module")
def row() -> Callable[[str], Trained]:
    """Return a maker of the models of a row, each made once: (name)."""
    made: dict[str, Trained] = {}

    def by_name(name: str) -> Trained:
        if name not in made:
            made[name] = trained(_BY_NAME[name], quick=True)
        return made[name]

    return by_name


def _off(found: torch.Tensor, wanted: torch.Tensor, alone: torch.Tensor) -> float:
    return float((found - wanted).norm() / (wanted - alone).norm())


def test_names_of_rows_are_unique() -> None:
    assert len(_BY_NAME) == len(CASES)


@pytest.mark.parametrize("name", [*_ROWS, "BitFit", "LoRA on embeddings", "prompt, one start"])
def test_the_reference_of_one_adapter_is_its_own_forward_pass(
    name: str, row: Callable[[str], Trained]
) -> None:
    made = row(name)
    probe = probe_for(made.case.base)
    reference = reference_of(made, probe)
    with torch.no_grad():
        own = outputs_of(copy.deepcopy(made.models["b"]).double()(**probe))
    assert _off(own, reference({"b": 1.0}), reference({})) < EXACT


@pytest.mark.parametrize("name", _ROWS)
def test_our_sums_are_those_of_the_reference(name: str, row: Callable[[str], Trained]) -> None:
    made = row(name)
    probe = probe_for(made.case.base)
    reference, contender = reference_of(made, probe), ours(made, probe, torch.float64)
    for weights in (OPERATIONS["c + b - a"], OPERATIONS["0.3 a"]):
        found = contender(weights)
        assert not isinstance(found, str)
        assert _off(found.outputs, reference(weights), reference({})) < EXACT


def test_a_wrong_sum_is_seen(row: Callable[[str], Trained]) -> None:
    made = row(_ROWS[0])
    probe = probe_for(made.case.base)
    reference, alone = reference_of(made, probe), reference_of(made, probe)({})
    weights = OPERATIONS["a - b"]
    found = peft_sums(made, probe, {"a - b": weights}, [PeftSum("cat"), PeftSum("linear")])
    right, wrong = found["cat"]["a - b"], found["linear"]["a - b"]
    assert not isinstance(right, str)
    assert not isinstance(wrong, str)
    assert _off(right.outputs, reference(weights), alone) < 1e-6
    assert _off(wrong.outputs, reference(weights), alone) > 0.1


def test_a_row_is_measured_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taskvector_exactness, "OPERATIONS", {"-a": {"a": -1.0}})
    monkeypatch.setattr(taskvector_exactness, "_MORE_PEFT", (PeftSum("cat"),))
    found = measured(CASES[0], quick=True)
    assert found["dpft, float64"]["-a"]["outputs"] < EXACT
    assert found["dpft"]["-a"]["weights"] < 1e-6
    assert found["peft cat"]["-a"]["outputs"] < 1e-6
    assert table({CASES[0].name: found}).splitlines()[-1].startswith("| LoRA, same")
    assert "dpft, into the weights" in methods_table(found)


def test_refusals_are_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taskvector_exactness, "OPERATIONS", {"a": {"a": 1.0}})
    found = measured(_BY_NAME["LoRA, PiSSA"], quick=True)
    assert found["dpft"]["a"]["refused"].startswith(
        "ConfigurationError: Expected init_lora_weights"
    )
    assert "| refused |" in table({"LoRA, PiSSA": found}).splitlines()[-1]


def test_mergekit_is_asked_for_the_same_sums(tmp_path: Path, row: Callable[[str], Trained]) -> None:
    """With its weighted sum of what is exported, the changes come out: no mergekit is needed."""
    from safetensors.torch import load_file

    made, weights = row("DoRA"), OPERATIONS["c + b - a"]
    assert export(made, tmp_path, {"0": MERGEKIT_SUMS[0].config(weights)})
    base = load_file(tmp_path / "base" / "model.safetensors")
    wanted = summed({n: changes_in(made.base, m) for n, m in made.models.items()}, weights)
    for place, change in wanted.items():
        merged = sum(
            weight * (load_file(tmp_path / name / "model.safetensors")[place] - base[place])
            for name, weight in weights.items()
        )
        assert isinstance(merged, torch.Tensor)
        assert torch.allclose(merged.double(), change, atol=1e-6)


def test_what_is_no_change_of_weights_is_not_exported(
    tmp_path: Path, row: Callable[[str], Trained]
) -> None:
    assert not export(row("Compacter"), tmp_path / "none", {})
    assert not (tmp_path / "none").exists()


def test_a_linear_merge_of_models_leaves_the_rest_to_the_base() -> None:
    config: Mapping[str, Any] = MergekitSum("linear", normalize=False).config({"a": 1.0, "b": -0.5})
    given = {each["model"]: each["parameters"]["weight"] for each in config["models"]}
    assert given == {"./a": 1.0, "./b": -0.5, "./base": 0.5}


def test_weights_that_were_not_touched_have_no_change(row: Callable[[str], Trained]) -> None:
    made = row(_ROWS[0])
    assert isinstance(made.base, nn.Module)
    assert all(".attention.self." in place for place in changes_in(made.base, made.models["a"]))


def test_committed_results_have_no_error_of_ours() -> None:
    assert set(_COMMITTED) == set(_BY_NAME)
    for name, found in _COMMITTED.items():
        for column, bound in {"dpft": 1e-5, "dpft, float64": EXACT}.items():
            errors = [one.get("outputs") for one in found[column].values()]
            refused = name == "LoRA, PiSSA"
            assert all(error is None if refused else error < bound for error in errors), name


def test_the_document_shows_the_committed_results() -> None:
    text = (_ROOT / "docs" / "taskvectors.md").read_text(encoding="utf-8")
    assert table(_COMMITTED) in text
    assert methods_table(_COMMITTED[CASES[0].name]) in text
