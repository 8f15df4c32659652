"""`dpft merge` writes what it says, whole or not at all, and peft loads it."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from dpft.accounting import Certificate
from dpft.recipes import cli
from dpft.taskvectors import TaskVector, storing
from dpft.verification import read_certificate, verify

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
Adapter = Callable[..., Path]
Merge = Callable[..., tuple[int, str]]


def outputs(model: Any) -> torch.Tensor:
    words = torch.randint(3, 40, (3, 6), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        states = model(input_ids=words, attention_mask=torch.ones_like(words)).last_hidden_state
    assert isinstance(states, torch.Tensor)
    return states


def expected(base: Callable[[], Any], vector: TaskVector) -> torch.Tensor:
    model = base()
    for place, part in vector.delta.parts.items():  # the sum by hand, not by what is tested
        low: Any = part
        with torch.no_grad():
            model.get_parameter(place).add_(low.left @ low.right)
    return outputs(model)


def test_plain_peft_loads_the_exact_sum(
    adapter: Adapter, merge: Merge, base: Callable[[], Any], tmp_path: Path
) -> None:
    a, b, c = adapter("a"), adapter("b", rank=2), adapter("c", use_rslora=True)
    assert merge("a + b - 0.5*c", "--with", f"a={a}", "--with", f"b={b}", f"c={c}")[0] == 0
    loaded = outputs(PeftModel.from_pretrained(base(), str(tmp_path / "out")).eval())
    vectors = [TaskVector.load(folder) for folder in (a, b, c)]
    applied = (vectors[0] + vectors[1] - 0.5 * vectors[2]).apply_to(base())
    assert torch.allclose(loaded, outputs(applied), atol=1e-5)
    assert (loaded - outputs(base())).abs().max() > 0.1


_ALONE = """
import sys
import torch, transformers
from peft import PeftModel
base, adapter, out = sys.argv[1:]
model = PeftModel.from_pretrained(transformers.BertModel.from_pretrained(base), adapter).eval()
words = torch.randint(3, 40, (3, 6), generator=torch.Generator().manual_seed(2))
with torch.no_grad():
    states = model(input_ids=words, attention_mask=torch.ones_like(words)).last_hidden_state
torch.save(states, out)
assert not any(name.partition(".")[0] == "dpft" for name in sys.modules)
"""


@pytest.mark.slow
def test_a_process_without_this_library_loads_the_sum(
    adapter: Adapter, merge: Merge, base: Callable[[], Any], tmp_path: Path
) -> None:
    a, b = adapter("a"), adapter("b", rank=2)
    assert merge("a - b", f"a={a}", f"b={b}")[0] == 0
    base().save_pretrained(tmp_path / "base")
    places = [str(tmp_path / name) for name in ("base", "out", "states")]
    subprocess.run([sys.executable, "-c", _ALONE, *places], check=True, cwd=tmp_path)
    loaded = torch.load(tmp_path / "states")
    assert torch.allclose(loaded, expected(base, TaskVector.load(tmp_path / "out")), atol=1e-5)


def test_the_certificate_of_a_merge_is_the_union(
    adapter: Adapter, merge: Merge, tmp_path: Path
) -> None:
    a, b = adapter("a"), adapter("b")
    assert merge(f"'{a}' - '{b}'")[0] == 0
    findings = verify(tmp_path / "out")
    assert all(finding.passed for finding in findings), findings
    runs = {run.run_id for run in read_certificate(tmp_path / "out").runs}
    assert runs == {"run of a", "run of b"}
    assert cli.main(["certificate", "verify", str(tmp_path / "out")]) == 0


def test_what_cancels_leaves_no_run(adapter: Adapter, merge: Merge, tmp_path: Path) -> None:
    a, b = adapter("a"), adapter("b")
    assert merge("(a + b) - b", f"a={a}", f"b={b}")[0] == 0
    assert [run.run_id for run in read_certificate(tmp_path / "out").runs] == ["run of a"]


def test_an_analogy_is_the_third_and_the_difference(
    adapter: Adapter, merge: Merge, tmp_path: Path
) -> None:
    folders = {name: adapter(name) for name in "abc"}
    given = [f"{name}={folder}" for name, folder in folders.items()]
    assert merge("analogy(a, b, c)", *given)[0] == 0
    terms = json.loads((tmp_path / "out" / "expression.json").read_text())["terms"]
    assert sorted(term["coefficient"] for term in terms) == ["-1", "1", "1"]


def test_a_compressed_merge_reports_the_exact_error_of_every_matrix(
    adapter: Adapter, merge: Merge, tmp_path: Path
) -> None:
    a, b = adapter("a"), adapter("b")
    code, shown = merge("a + b", f"a={a}", f"b={b}", "--rank", 4, "--json")
    assert code == 0
    summary = json.loads(shown)
    whole, kept = TaskVector.load(a) + TaskVector.load(b), TaskVector.load(tmp_path / "out")
    for place, error in summary["errors"].items():
        full, low = (vector.delta.parts[place].dense().double() for vector in (whole, kept))  # type: ignore[union-attr]  # no networks here
        assert error == pytest.approx(float((full - low).norm() / full.norm()), rel=1e-4)
        assert kept.delta.parts[place].rank == 4  # type: ignore[union-attr]  # as above
    assert len(summary["errors"]) == 4
    assert 0.1 < summary["error"] < 0.9
    made_by = json.loads((tmp_path / "out" / "expression.json").read_text())["made_by"]
    assert made_by["errors"] == summary["errors"]


def test_a_tolerance_decides_the_ranks_and_peft_loads_them(
    adapter: Adapter, merge: Merge, base: Callable[[], Any], tmp_path: Path
) -> None:
    a, b = adapter("a"), adapter("b")
    code, shown = merge("a + 0.1*b", f"a={a}", f"b={b}", "--tolerance", 0.1, "--json")
    assert code == 0
    assert all(error <= 0.1 for error in json.loads(shown)["errors"].values())
    loaded = TaskVector.load(tmp_path / "out")
    assert {part.rank for part in loaded.delta.parts.values()} < set(range(4, 8))  # type: ignore[union-attr]  # matrices
    model = PeftModel.from_pretrained(base(), str(tmp_path / "out")).eval()
    assert torch.allclose(outputs(model), expected(base, loaded), atol=1e-5)


@pytest.mark.parametrize("method", ["ties", "dare", "svd_aligned", "noise_weighted"])
def test_every_method_is_the_one_of_the_library(
    adapter: Adapter, merge: Merge, method: str, tmp_path: Path
) -> None:
    from dpft.taskvectors import MergeOptions
    from dpft.taskvectors import merge as merged

    a, b = adapter("a"), adapter("b")
    options = ["--density", 0.5, "--seed", 3, "--scale", 0.7]
    assert merge("a - 2*b", f"a={a}", f"b={b}", "--method", method, *options)[0] == 0
    direct = merged(
        [TaskVector.load(a), TaskVector.load(b)],
        method,
        MergeOptions(weights=(1.0, -2.0), density=0.5, seed=3, scaling_coef=0.7),
    )
    written = TaskVector.load(tmp_path / "out")
    for place, part in direct.delta.parts.items():
        ours: Any = written.delta.parts[place]
        assert torch.allclose(ours.dense(), part.dense(), atol=1e-5), place  # type: ignore[union-attr]  # matrices
    assert all(finding.passed for finding in verify(tmp_path / "out"))


def test_a_configuration_file_gives_what_the_expression_gives(
    adapter: Adapter, merge: Merge, tmp_path: Path
) -> None:
    a, b = adapter("a"), adapter("b")
    path = tmp_path / "merge.yaml"
    models = f"[{{model: {a}}}, {{model: {b}, parameters: {{weight: -0.5}}}}]"
    path.write_text(f"{{models: {models}, base_model: tiny, dtype: bfloat16}}", encoding="utf-8")
    assert merge(path)[0] == 0
    (tmp_path / "out").rename(tmp_path / "one")
    assert merge("a - 0.5*b", f"a={a}", f"b={b}", "--dtype", "bfloat16")[0] == 0
    weights = "adapter_model.safetensors"
    one, other = (tmp_path / name / "expression.json" for name in ("one", "out"))
    assert json.loads(one.read_text())["terms"] == json.loads(other.read_text())["terms"]
    sizes = [(tmp_path / name / weights).stat().st_size for name in ("one", "out")]
    assert sizes[0] == sizes[1]
    assert {part.left.dtype for part in TaskVector.load(tmp_path / "one").delta.parts.values()} == {  # type: ignore[union-attr]  # matrices
        torch.bfloat16
    }


def test_the_model_card_states_the_guarantee_and_no_path(
    adapter: Adapter, merge: Merge, tmp_path: Path
) -> None:
    a, b = adapter("a"), adapter("b")
    assert merge(f"'{a}' - '{b}'")[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    certificate = read_certificate(tmp_path / "out")
    assert f"epsilon = {certificate.epsilon(1e-4):.2f}"[:13] in card
    assert "refunds nothing" in card
    assert "run of b" in card
    everything = [p.read_bytes() for p in (tmp_path / "out").iterdir()]
    assert not any(str(tmp_path).encode() in content for content in everything)


def test_marked_adapters_make_the_result_not_private(
    adapter: Adapter, uncertified: Callable[[str], Path], merge: Merge, tmp_path: Path
) -> None:
    a, b = adapter("a"), uncertified("b")
    code, shown = merge("a - b", f"a={a}", f"b={b}", "--on-uncertified", "mark")
    assert code == 0
    assert shown.splitlines()[0] == "NOT PRIVATE"
    assert "**NOT PRIVATE**" in (tmp_path / "out" / "README.md").read_text()
    assert read_certificate(tmp_path / "out").epsilon(1e-5) == math.inf


def test_nothing_is_overwritten(adapter: Adapter, merge: Merge, tmp_path: Path) -> None:
    a = adapter("a")
    assert merge("2*a", f"a={a}")[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    code, said = merge("3*a", f"a={a}")
    assert code == 2
    assert "not to exist" in said
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("failing", ["write_stream", "write_note", "make_durable"])
def test_a_failure_leaves_nothing(
    adapter: Adapter, tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    a = adapter("a")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(storing, failing, fail)
    target = tmp_path / "new" / "deep" / "out"
    assert cli.main(["merge", "2*a", f"a={a}", "--output", str(target)]) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "options",
    [
        ["1e300*a + b"],
        ["1e6*a + b", "--dtype", "float16"],
        ["1e300*a + b", "--rank", 2],
        ["1e300*a + b", "--method", "ties"],
    ],
    ids=str,
)
def test_what_overflows_is_refused(
    adapter: Adapter, merge: Merge, options: list[object], tmp_path: Path
) -> None:
    a, b = adapter("a"), adapter("b")
    code, said = merge(*options, f"a={a}", f"b={b}")
    assert (code, "to be finite" in said) == (2, True), said
    assert not (tmp_path / "out").exists()


def test_weights_by_noise_are_not_called_the_sum(
    adapter: Adapter, merge: Merge, tmp_path: Path
) -> None:
    a, b = adapter("a"), adapter("b")
    levels = ["--method", "noise_weighted", "--noise-std", "1e-200", "2e-200"]
    code, shown = merge("a + b", f"a={a}", f"b={b}", *levels)
    assert (code, "not the sum itself" in shown) == (0, True)
    terms = json.loads((tmp_path / "out" / "expression.json").read_text())["terms"]
    assert sorted(float(Fraction(term["coefficient"])) for term in terms) == [0.4, 1.6]


def test_the_result_can_be_merged_again(adapter: Adapter, merge: Merge, tmp_path: Path) -> None:
    a, b = adapter("a"), adapter("b")
    assert merge("a + b", f"a={a}", f"b={b}")[0] == 0
    out = (tmp_path / "out").rename(tmp_path / "sum")
    assert merge("s - b", f"s={out}", f"b={b}")[0] == 0
    again = TaskVector.load(tmp_path / "out")
    assert len(again.runs) == 2  # of a sum that was rounded, nothing cancels
    one: Any = TaskVector.load(a).delta
    for place, part in again.delta.parts.items():
        assert torch.allclose(part.dense(), one.parts[place].dense(), atol=1e-4)  # type: ignore[union-attr]  # matrices


def test_the_folder_is_open_to_whom_the_umask_allows(
    adapter: Adapter, merge: Merge, tmp_path: Path
) -> None:
    a = adapter("a")
    assert merge("2*a", f"a={a}")[0] == 0
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~mask


def test_epsilon_of_a_merge_is_that_of_its_runs(
    adapter: Adapter, merge: Merge, make_run: Callable[..., Any]
) -> None:
    a, b = adapter("a"), adapter("b")
    code, shown = merge("a + b", f"a={a}", f"b={b}", "--json")
    assert code == 0
    union = Certificate((make_run("run of a"), make_run("run of b")))
    assert json.loads(shown)["epsilon"] == union.epsilon(1e-4)
