"""Two LoRA adapters of a model of 7 B parameters merged, by this library and by peft.

    python -m benchmarks.merge --out merge.json

Random weights of the shapes of Llama-2-7B: all seven linear layers, rank 16, float32. Ours reads
both adapters from disk, checks certificates and digests, merges and publishes a folder; it needs no
base model. peft needs one in memory, here of one layer; its adapters are in memory already, and it
merges and saves. peft's `svd` takes the singular values of each whole matrix: one is measured, and
only when asked for.
"""

import argparse
import dataclasses
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from torch import nn

from benchmarks.measuring import Action, Clock, Plan, interleaved, median_ratio
from benchmarks.memory import in_own_process, peak_over_rest
from benchmarks.reporting import machine, machine_line, markdown, save
from dpft.accounting import Adjacency, Certificate, PoissonGaussian, RunRecord
from dpft.accounting.publication import Publication
from dpft.artefact_digest import tensor_files, write_note
from dpft.recipes.merging.carrying_out import carry_out
from dpft.recipes.merging.forecasting import forecast
from dpft.recipes.merging.request import Request, request_of_expression
from dpft.taskvectors.tensor_stream import in_layout_order, write_stream

__all__ = ["Shapes", "main", "make_adapter"]

_EXPRESSION, _WEIGHTS = "a - 0.5*b", (1.0, -0.5)
_DEPTHS = (4, 16, 32)
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Widths of a model, and the rank of its adapters.

    Args:
        width: Of the model.
        inner: Of its feed-forward layers.
        rank: Of the adapters.

    Privacy:
        Nothing, no data touched.
    """

    width: int = 4096
    inner: int = 11008
    rank: int = 16

    def modules(self) -> dict[str, tuple[int, int]]:
        """Return outputs and inputs of the linear layers of one block, by name."""
        attention = {f"self_attn.{name}_proj": (self.width, self.width) for name in "qkvo"}
        wide = {f"mlp.{name}_proj": (self.inner, self.width) for name in ("gate", "up")}
        return attention | wide | {"mlp.down_proj": (self.width, self.inner)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the tables.

    Args:
        argv: Arguments without the program's name; unset: those of the process.

    Returns:
        0.

    Privacy:
        Nothing, no data touched: random weights.
    """
    line = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(line)
    torch.set_num_threads(1)
    shapes = Shapes(arguments.width, arguments.inner, arguments.rank)
    if arguments.measure:
        print(json.dumps(_measured(shapes, arguments)))
        return 0
    found = in_own_process("benchmarks.merge", [*line, "--measure"])
    result = {"machine": machine("cpu"), "found": found}
    save(arguments.out, result)
    print(markdown(["merge", "layers", "peak above rest, MiB", "CPU seconds"], _rows(found)))
    print(machine_line(result["machine"]))
    return 0


def make_adapter(folder: Path, shapes: Shapes, layers: int, seed: int) -> Path:
    """Write an adapter with a certificate, one tensor at a time.

    Args:
        folder: A new folder.
        shapes: Of the model.
        layers: Number of blocks.
        seed: Of the weights.

    Returns:
        The folder.

    Privacy:
        Nothing, no data touched: random weights.
    """
    folder.mkdir(parents=True)
    modules = [name.rpartition(".")[2] for name in shapes.modules()]
    config = LoraConfig(
        r=shapes.rank,
        lora_alpha=shapes.rank,
        target_modules=modules,
        base_model_name_or_path="random-7b",
    )
    config.save_pretrained(str(folder))
    expected = _tensor_shapes(shapes, layers)
    digest = hashlib.sha256()
    path = folder / "adapter_model.safetensors"
    write_stream(path, expected, _random(expected, seed), digest)
    certificate = Certificate((_run(f"run {seed}"),))
    publication = Publication.of(certificate, digest.hexdigest(), 1e-5)
    (folder / "certificate.json").write_text(publication.to_json() + "\n", encoding="utf-8")
    for each in tensor_files(folder):
        write_note(each, publication.digest)
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("benchmarks.merge", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of ours and peft on one layer")
    parser.add_argument("--svd", action="store_true", help="peft's svd of one matrix: minutes")
    parser.add_argument("--depths", type=int, nargs="+", default=list(_DEPTHS))
    parser.add_argument("--width", type=int, default=Shapes.width)
    parser.add_argument("--inner", type=int, default=Shapes.inner)
    parser.add_argument("--rank", type=int, default=Shapes.rank)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    return parser


def _tensor_shapes(shapes: Shapes, layers: int) -> dict[str, torch.Tensor]:
    found = {}
    for layer in range(layers):
        for module, (outputs, inputs) in shapes.modules().items():
            place = f"base_model.model.model.layers.{layer}.{module}"
            found[f"{place}.lora_A.weight"] = torch.empty(shapes.rank, inputs, device="meta")
            found[f"{place}.lora_B.weight"] = torch.empty(outputs, shapes.rank, device="meta")
    return found


def _random(expected: dict[str, torch.Tensor], seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for name in in_layout_order(expected):
        yield name, 0.01 * torch.randn(expected[name].shape, generator=generator)


def _run(name: str) -> RunRecord:
    return RunRecord(
        run_id=name,
        dataset_id="none",
        mechanism=PoissonGaussian(1.0, 0.01, 500),
        adjacency=Adjacency.ADD_OR_REMOVE,
        num_records=10_000,
        expected_batch_size=100,
        clipping="auto_s",
        clip_norm=1.0,
        delta=1e-5,
        private=True,
        generator="chacha20",
        sampler="poisson",
        accountant="rdp",
    )


def _request(folder: Path, rank: int | None) -> Request:
    request = request_of_expression(_EXPRESSION, [f"a={folder / 'a'}", f"b={folder / 'b'}"])
    return dataclasses.replace(request, rank=rank)


def _ours(folder: Path, rank: int | None) -> Action:
    def merged() -> int:
        carry_out(_request(folder, rank), folder / "out")
        shutil.rmtree(folder / "out")
        return 1

    return merged


def _measured(shapes: Shapes, arguments: argparse.Namespace) -> dict[str, int]:
    """Return bytes and milliseconds by contender and number of layers."""
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as place:
        one = _pair(Path(place), shapes, 1)
        for rank in (None, shapes.rank):
            _ours(one, rank)()  # libraries and caches are there before the measurement
        for depth in arguments.depths:
            folder = _pair(Path(place), shapes, depth)
            for title, action in _contenders(folder, shapes).items():
                found |= _noted(f"{title}|{depth}", action)
            if depth > 1:
                shutil.rmtree(folder)
        found |= _beside_peft(shapes, one, arguments)
    return found


def _pair(place: Path, shapes: Shapes, layers: int) -> Path:
    folder = place / f"layers{layers}"
    if not folder.exists():
        for seed, name in enumerate("ab"):
            make_adapter(folder / name, shapes, layers, seed)
    return folder


def _contenders(folder: Path, shapes: Shapes) -> dict[str, Action]:
    return {
        "ours, exact sum": _ours(folder, None),
        "ours, back to the rank": _ours(folder, shapes.rank),
        "ours, dry run": lambda: _dry(folder),
    }


def _noted(title: str, action: Action) -> dict[str, int]:
    began = time.process_time()
    peak = peak_over_rest(action, "cpu", warm_up=0)
    seconds = time.process_time() - began
    return {f"{title}|bytes": peak, f"{title}|ms": round(1000 * seconds)}


def _beside_peft(shapes: Shapes, folder: Path, arguments: argparse.Namespace) -> dict[str, int]:
    """Take turns on one layer, and return medians; the ratio is in thousandths."""
    model = _with_adapters(shapes, folder)
    turns: dict[str, Action] = {
        "ours, exact sum": _ours(folder, None),
        "peft cat": lambda: _peft(model, folder, "cat"),
    }
    samples = interleaved(turns, Plan(rounds=arguments.rounds, warm_up=1))
    ratio = median_ratio(samples["ours, exact sum"], samples["peft cat"], Clock.CPU)
    named = {"median": ratio.median, "low": ratio.low, "high": ratio.high}
    found = {f"ratio, exact to cat|1|{name}": round(1000 * each) for name, each in named.items()}
    for name, each in samples.items():
        seconds = sorted(sample.cpu for sample in each)[len(each) // 2]
        found[f"{name}, taking turns|1|ms"] = round(1000 * seconds)
    if arguments.svd:
        _leave_one(shapes, model)
        turn: dict[str, Action] = {"svd": lambda: _peft(model, folder, "svd")}
        (sample,) = interleaved(turn, Plan(rounds=1, warm_up=0))["svd"]
        found["peft svd, one matrix of the layer|1|ms"] = round(1000 * sample.cpu)
    return found


def _rows(found: Mapping[str, int]) -> list[list[str]]:
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for key, value in found.items():
        title, layers, unit = key.split("|")
        rows.setdefault((title, layers), {})[unit] = value
    return [[*names, _mebibytes(each), _seconds(each)] for names, each in rows.items()]


def _mebibytes(values: Mapping[str, int]) -> str:
    return f"{values['bytes'] / _MIB:.1f}" if "bytes" in values else ""


def _seconds(values: Mapping[str, int]) -> str:
    if "ms" in values:
        return f"{values['ms'] / 1000:.3g}"
    low, median, high = (values[name] / 1000 for name in ("low", "median", "high"))
    return f"{median:.3g} [{low:.3g}, {high:.3g}]"


def _dry(folder: Path) -> int:
    forecast(_request(folder, None), folder / "out")
    return 1


class _Block(nn.Module):
    """Linear layers by the names of a block of Llama; nothing is computed with them."""

    def __init__(self, modules: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        for name, (outputs, inputs) in modules.items():
            owner, _, last = name.rpartition(".")
            if not hasattr(self, owner):
                setattr(self, owner, nn.Module())
            setattr(getattr(self, owner), last, nn.Linear(inputs, outputs, bias=False))


def _with_adapters(shapes: Shapes, folder: Path) -> Any:
    body = nn.Module()
    body.layers = nn.ModuleList([_Block(shapes.modules())])
    base = nn.Module()
    base.model = body
    model = PeftModel.from_pretrained(base, str(folder / "a"), adapter_name="a")
    model.load_adapter(str(folder / "b"), adapter_name="b")
    return model


def _peft(model: Any, folder: Path, kind: str) -> int:
    model.base_model.add_weighted_adapter(["a", "b"], list(_WEIGHTS), "merged", kind)
    model.save_pretrained(
        str(folder / "peft"), selected_adapters=["merged"], save_embedding_layers=False
    )
    model.delete_adapter("merged")
    shutil.rmtree(folder / "peft")
    return 1


def _leave_one(shapes: Shapes, model: Any) -> None:
    """Leave the first matrix of the layer, which is one of the smallest."""
    block = model.base_model.model.model.layers[0]
    for name in list(shapes.modules())[1:]:
        owner, _, last = name.rpartition(".")
        delattr(getattr(block, owner), last)


if __name__ == "__main__":
    raise SystemExit(main())
