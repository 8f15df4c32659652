"""Everything that must not be merged is refused on the command line, with exit code and reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.accounting import Adjacency, Partition, PoissonGaussian, Unit
from dpft.recipes import cli
from dpft.taskvectors.merging import DataAccess, registry
from dpft.verification import verify

Adapter = Callable[..., Path]
Merge = Callable[..., tuple[int, str]]
DRY = pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["merge", "dry run"])


@DRY
def test_another_base_model_is_refused(adapter: Adapter, merge: Merge, dry: list[str]) -> None:
    a, b = adapter("a"), adapter("b", base_model_name_or_path="other")
    code, said = merge("a + b", f"a={a}", f"b={b}", *dry)
    assert (code, "Expected base=" in said) == (2, True)
    code, said = merge("2*a", f"a={a}", "--base", "other", *dry)
    assert (code, "Expected base=" in said) == (2, True)


@DRY
def test_an_unknown_kind_of_adapter_is_refused(
    adapter: Adapter, merge: Merge, dry: list[str]
) -> None:
    a = adapter("a")
    path = a / "adapter_config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({"peft_type": "LOHA", "base_model_name_or_path": "tiny"}))
    code, said = merge("2*a", f"a={a}", *dry)
    assert (code, "Expected peft_type=LOHA" in said) == (2, True)
    path.write_text(json.dumps(fields | {"peft_type": "NOVEL"}))
    code, said = merge("2*a", f"a={a}", *dry)
    assert (code, "a configuration of peft" in said) == (2, True)


@DRY
def test_another_shape_is_refused(adapter: Adapter, merge: Merge, dry: list[str]) -> None:
    a, b = adapter("a"), adapter("b", fan_in_fan_out=True)
    code, said = merge("a + b", f"a={a}", f"b={b}", *dry)
    assert (code, "Expected layout" in said) == (2, True)


@DRY
def test_an_adapter_without_certificate_is_refused(
    uncertified: Callable[[str], Path], merge: Merge, dry: list[str]
) -> None:
    code, said = merge("2*a", f"a={uncertified('a')}", *dry)
    assert (code, "certificate" in said, "mark" in said) == (4, True, True)


def test_edited_tensors_are_refused(adapter: Adapter, merge: Merge) -> None:
    a = adapter("a")
    path = a / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    code, said = merge("2*a", f"a={a}", "--on-uncertified", "mark")
    assert (code, "NOT as certified" in said) == (4, True)


@DRY
def test_mixed_units_are_refused(adapter: Adapter, merge: Merge, dry: list[str]) -> None:
    users = PoissonGaussian(2.0, 0.1, 50, unit=Unit.USER)
    a, b = adapter("a"), adapter("b", run={"mechanism": users, "unit": Unit.USER})
    code, said = merge("a + b", f"a={a}", f"b={b}", *dry)
    assert (code, "unit" in said) == (2, True)


@DRY
def test_relations_that_cannot_be_computed_again_are_refused(
    adapter: Adapter, merge: Merge, dry: list[str]
) -> None:
    zeroed = PoissonGaussian(2.0, 0.1, 50, adjacency=Adjacency.ZERO_OUT)
    a, b = adapter("a", run={"num_records": None}), adapter("b", run={"mechanism": zeroed})
    code, said = merge("a + b", f"a={a}", f"b={b}", *dry)
    assert (code, "Expected num_records=None to be public" in said) == (2, True), said


@DRY
def test_nothing_is_written_into_an_adapter_that_is_merged(
    adapter: Adapter, merge: Merge, dry: list[str], tmp_path: Path
) -> None:
    a = adapter("a")
    (tmp_path / "link").symlink_to(a)
    for folder in (a, tmp_path / "link" / "deep"):
        inside = ["merge", "2*a", f"a={a}", "--output", str(folder / "out"), *dry]
        assert cli.main(inside) == 2
    assert all(finding.passed for finding in verify(a))


def test_disjointness_and_forgetting_by_assertion_are_refused(
    adapter: Adapter, merge: Merge, tmp_path: Path
) -> None:
    a = adapter("a")
    for key, why in {"disjoint": "no matter of assertion", "forgotten": "refunds nothing"}.items():
        path = tmp_path / f"{key}.yaml"
        path.write_text(f"{{models: [{{model: {a}}}], privacy: {{{key}: true}}}}")
        code, said = merge(path, "--dry-run")
        assert (code, why in said) == (2, True)


@DRY
def test_data_sets_of_other_names_are_not_taken_to_be_disjoint(
    adapter: Adapter, merge: Merge, dry: list[str]
) -> None:
    a, b = adapter("a"), adapter("b", run={"dataset_id": "others"})
    _, one = merge("2*a", f"a={a}", "--dry-run", "--json")
    code, both = merge("a + b", f"a={a}", f"b={b}", "--json", *dry)
    assert code == 0
    assert json.loads(both)["epsilon"] > 1.2 * json.loads(one)["epsilon"]


@DRY
def test_a_method_that_needs_data_is_refused(
    adapter: Adapter, merge: Merge, dry: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(registry._METHODS)
    registry.merge_method_names()
    nosy = registry.MergeMethod("nosy", DataAccess.STATISTICS, lambda *_: None)  # type: ignore[arg-type]  # never called
    monkeypatch.setattr(registry, "_METHODS", {**known, **registry._METHODS, "nosy": nosy})
    a = adapter("a")
    code, said = merge("2*a", f"a={a}", "--method", "nosy", *dry)
    assert (code, "Expected data to be Public(...) or Private(...)" in said) == (2, True)
    code, said = merge("2*a", f"a={a}", "--method", "regmean", *dry)
    assert (code, "to be registered" in said) == (2, True)
    code, said = merge("2*a", f"a={a}", "--method", "tie", *dry)
    assert (code, "Did you mean ties?" in said) == (2, True)


@DRY
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--normalize", "--method", "ties"], "Expected sum of weights"),
        (["--density", 0, "--method", "ties"], "Expected density=0.0"),
        (["--rank", 9], "Expected rank=9 <= 8"),
        (["--rank", 2, "--tolerance", 0.1], "Expected one of rank=2"),
        (["--tolerance", 1.5], "tol=1.5"),
        (["--method", "denoised"], "Expected noise_std to be stated"),
        (["--method", "denoised", "--noise-std", 1, 1], "never to have been trained"),
        (["--method", "noise_weighted", "--noise-std", 1], "to be 2, one for each vector"),
        (["--method", "ties", "--scale", "nan"], "Expected coefficient=nan"),
        (["--method", "ties", "--scale", "inf"], "Expected coefficient=inf"),
        (["--method", "ties", "--scale", 0], "Everything cancelled"),
        (["--scale", "1e308"], "Expected coefficient=a number above 1e308"),
    ],
)
def test_options_out_of_range_are_refused(
    adapter: Adapter, merge: Merge, dry: list[str], options: list[object], says: str
) -> None:
    a, b = adapter("a"), adapter("b")
    code, said = merge("a - 2*b", f"a={a}", f"b={b}", *options, *dry)
    assert (code, says in said) == (2, True), said


@DRY
def test_hashes_of_members_are_refused(adapter: Adapter, merge: Merge, dry: list[str]) -> None:
    part = Partition("members", "0123456789abcdef" * 4)
    code, said = merge("2*a", f"a={adapter('a', run={'partition': part})}", *dry)
    assert (code, "who is a member" in said) == (4, True)


@DRY
def test_noise_from_a_seed_is_refused_on_the_command_line(
    adapter: Adapter, merge: Merge, dry: list[str]
) -> None:
    a = adapter("a", run={"generator": "a fixed seed"})
    code, said = merge("2*a", f"a={a}", *dry)
    assert (code, "Noise from a seed" in said) == (4, True)


def test_shared_noise_is_refused_on_the_command_line(adapter: Adapter, merge: Merge) -> None:
    a, b = adapter("a", seed=5), adapter("b", seed=5)
    code, said = merge("a - b", f"a={a}", f"b={b}")
    assert (code, "shared noise" in said) == (4, True)


@DRY
def test_iterates_of_one_run_are_that_run_and_no_other(
    adapter: Adapter,
    merge: Merge,
    make_run: Callable[..., Any],
    dry: list[str],
    tmp_path: Path,
) -> None:
    run = make_run("one run")
    a, b = adapter("a", seed=5, runs=[run]), adapter("b", seed=6, runs=[run])
    code, shown = merge("0.5*a + 0.5*b", f"a={a}", f"b={b}", "--json", *dry)
    assert (code, json.loads(shown)["runs"]) == (0, ["one run"])
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    c = adapter("c", runs=[make_run("one run", num_records=2000, expected_batch_size=200)])
    code, said = merge("a + c", f"a={a}", f"c={c}", *dry)
    assert (code, "one run" in said) == (2, True), said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["a + b", "a=runs/a"], "Add --with b=DIR"),
        (["a", "a=runs/a", "b=runs/b"], "to be in the expression"),
        (["a", "a=runs/a", "a=runs/b"], "with each name once"),
        (["a", "a"], "to be NAME=DIR"),
        (["a - a", "a=runs/a"], "Everything cancelled"),
        (["a.b", "a=runs/a"], "Expected expression="),
        (["'./nowhere'"], "Expected folder=nowhere to exist"),
        (["merge.yaml", "a=runs/a"], "to stand in the file"),
    ],
)
def test_slips_are_named(merge: Merge, line: list[str], says: str) -> None:
    code, said = merge(*line)
    assert (code, says in said) == (2, True), said
