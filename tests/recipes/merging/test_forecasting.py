"""A dry run finds from headers what the merge would find, and reads no tensor."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.recipes.merging.forecasting import forecast
from dpft.recipes.merging.request import request_of_expression
from dpft.taskvectors import adapter_file, reading

Adapter = Callable[..., Path]
Merge = Callable[..., tuple[int, str]]
WEIGHTS = "adapter_model.safetensors"
OPTIONS: list[list[object]] = [
    [],
    ["--rank", 3],
    ["--method", "ties", "--density", 0.5],
    ["--method", "ties", "--rank", 2],
    ["--method", "noise_weighted"],
    ["--dtype", "float16"],
]


def characters_read() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(lines[0].removeprefix("rchar:"))


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("a tensor is read")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_dry_run_forecasts_what_is_written(
    adapter: Adapter, merge: Merge, options: list[object], tmp_path: Path
) -> None:
    a, b = adapter("a"), adapter("b", rank=2)
    line = ["a - 0.5*b", f"a={a}", f"b={b}", "--json", *options]
    code, shown = merge(*line, "--dry-run")
    assert code == 0
    assert not (tmp_path / "out").exists()
    foreseen = json.loads(shown)
    done = json.loads(merge(*line)[1])
    known = ("expression", "method", "epsilon", "delta", "runs", "exact", "ranks", "tensor_bytes")
    assert {name: foreseen[name] for name in known} == {name: done[name] for name in known}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] <= foreseen["ranks"][1]
    held = (tmp_path / "out" / WEIGHTS).stat().st_size
    assert held - 8000 < foreseen["tensor_bytes"] < held


@pytest.mark.parametrize("method", ["linear", "ties", "dare", "noise_weighted"])
@pytest.mark.parametrize("line", ["a - x + b", "a + x + b", "2*a - x"])
def test_a_dry_run_charges_what_the_merge_charges_for_copies(
    adapter: Adapter, merge: Merge, method: str, line: str, tmp_path: Path
) -> None:
    """Copies cancel in sums alone: other methods look at each of them."""
    a, b = adapter("a"), adapter("b")
    shutil.copytree(a, tmp_path / "x")
    given = [f"a={a}", f"x={tmp_path / 'x'}", *([f"b={b}"] if "b" in line else [])]
    command = [line, *given, "--method", method, "--density", 0.5, "--json"]
    foreseen, done = (json.loads(merge(*command, *dry)[1]) for dry in (["--dry-run"], []))
    for name in ("runs", "binding", "epsilon", "ranks", "tensor_bytes"):
        assert foreseen[name] == done[name], name


@pytest.mark.parametrize("changed", [{"lora_alpha": 16}, {"use_rslora": True}])
def test_the_same_tensors_at_another_scaling_are_another_delta(
    adapter: Adapter, merge: Merge, changed: dict[str, object], tmp_path: Path
) -> None:
    a = adapter("a")
    shutil.copytree(a, tmp_path / "x")
    path = tmp_path / "x" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    for dry in (["--dry-run"], []):
        assert merge("a - x", f"a={a}", f"x={tmp_path / 'x'}", *dry)[0] == 0


@pytest.mark.parametrize(
    ("shape", "why"), [([2**62, 2**62], "a shape that no memory holds"), ([4, 8], "to fill its")]
)
def test_a_shape_that_does_not_fill_its_bytes_is_found_from_the_header(
    adapter: Adapter, merge: Merge, shape: list[int], why: str
) -> None:
    a = adapter("a")
    content = (a / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    next(each for name, each in header.items() if "lora" in name)["shape"] = shape
    text = json.dumps(header).encode()
    (a / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    code, said = merge("2*a", f"a={a}", "--dry-run")
    assert (code, why in said) == (4, True), said


def test_what_a_tolerance_decides_is_said_to_be_a_bound(adapter: Adapter, merge: Merge) -> None:
    a, b = adapter("a"), adapter("b")
    code, shown = merge("a + b", f"a={a}", f"b={b}", "--tolerance", 0.1, "--dry-run")
    assert (code, "upper bounds" in shown) == (0, True)


def test_a_dry_run_reads_no_tensor(
    large: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every way to tensors is closed, and the process reads less than it would take."""
    a, b = large("a"), large("b")
    request = request_of_expression("a - b", [f"a={a}", f"b={b}"])
    for module, name in [(adapter_file, "safe_open"), (adapter_file, "load_file")]:
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(reading, "load_file", refuse)
    monkeypatch.setattr("dpft.verification.tensors_digest", refuse)
    size = (a / WEIGHTS).stat().st_size
    assert size > 150 * 2**20
    before = characters_read()
    summary = forecast(request, tmp_path / "out")
    assert characters_read() - before < size / 100
    assert summary.ranks == (32, 32)
    assert summary.modules == 224
    assert summary.tensor_bytes > 2 * 150 * 2**20
    assert summary.exact


def test_a_dry_run_of_large_adapters_takes_little_processor_time(
    large: Callable[[str], Path], tmp_path: Path
) -> None:
    a, b = large("a"), large("b")
    request = request_of_expression("a + b", [f"a={a}", f"b={b}"])
    began = time.process_time()
    forecast(request, tmp_path / "out")
    assert time.process_time() - began < 30  # a bound against hashing or filling tensors, no timing


def test_a_cut_file_is_found_from_its_header(large: Callable[[str], Path], merge: Merge) -> None:
    a = large("a")
    with (a / WEIGHTS).open("r+b") as file:
        file.truncate((a / WEIGHTS).stat().st_size - 4096)
    code, said = merge("2*a", f"a={a}", "--dry-run")
    assert code == 4
    assert "whole safetensors file" in said


def test_tensors_of_another_adapter_are_found_only_by_reading_them(
    adapter: Adapter, merge: Merge
) -> None:
    a = adapter("a")
    content = bytearray((a / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (a / WEIGHTS).write_bytes(content)
    code, shown = merge("2*a", f"a={a}", "--dry-run")
    assert code == 0
    assert "Not known before tensors are read" in shown
    code, said = merge("2*a", f"a={a}")
    assert code == 4
    assert "tensors" in said


def test_a_certificate_that_the_header_does_not_name_is_refused(
    adapter: Adapter, merge: Merge
) -> None:
    a, b = adapter("a"), adapter("b")
    (a / "certificate.json").write_bytes((b / "certificate.json").read_bytes())
    code, said = merge("2*a", f"a={a}", "--dry-run")
    assert code == 4
    assert "another certificate" in said


def test_an_existing_folder_is_refused(adapter: Adapter, merge: Merge, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert merge("2*a", f"a={adapter('a')}", "--dry-run")[0] == 2
