"""What the tests of merging share: tiny adapters as peft saves them, with certificates."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig
from safetensors.torch import save_file

from dpft.accounting import Adjacency, Certificate, PoissonGaussian, RunRecord
from dpft.accounting.publication import Publication
from dpft.artefact_digest import NOTE, tensors_digest, write_note
from dpft.recipes import cli

WIDTH, LAYERS = 16, 2
MODULES = [
    f"encoder.layer.{layer}.attention.self.{name}"
    for layer in range(LAYERS)
    for name in ("query", "value")
]


def _run(name: str, **changes: Any) -> RunRecord:
    mechanism = changes.get("mechanism", PoissonGaussian(2.0, 0.1, 50))
    fields: dict[str, Any] = {
        "run_id": name,
        "dataset_id": "letters",
        "mechanism": mechanism,
        "adjacency": Adjacency.ADD_OR_REMOVE if mechanism is None else mechanism.adjacency,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "auto_s",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "chacha20",
        "sampler": "poisson",
        "accountant": "rdp",
        "divisor": 100,
    }
    return RunRecord(**(fields | changes))


def _tensors(seed: int, rank: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"lora_A.weight": (rank, WIDTH), "lora_B.weight": (WIDTH, rank)}
    return {
        f"base_model.model.{module}.{name}": torch.randn(shape, generator=generator)
        for module in MODULES
        for name, shape in shapes.items()
    }


def _saved(folder: Path, tensors: dict[str, torch.Tensor], **options: Any) -> Path:
    folder.mkdir(parents=True)
    rank = len(next(iter(tensors.values())))
    fields: dict[str, Any] = {
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["query", "value"],
    }
    config = LoraConfig(**(fields | {"base_model_name_or_path": "tiny"} | options))
    config.save_pretrained(str(folder))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def _certified(folder: Path, certificate: Certificate) -> Path:
    publication = Publication.of(certificate, tensors_digest(folder), 1e-4)
    (folder / "certificate.json").write_text(publication.to_json() + "\n", encoding="utf-8")
    write_note(folder / "adapter_model.safetensors", publication.digest)
    return folder


@pytest.fixture
def make_run() -> Callable[..., RunRecord]:
    """Return a maker of private runs: (name, changed fields)."""
    return _run


@pytest.fixture
def adapter(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of released adapters: (name, seed=, rank=, run=fields, options of LoRA)."""

    def made(name: str, seed: int = 0, rank: int = 4, **options: Any) -> Path:
        runs = options.pop("runs", None) or (_run(f"run of {name}", **options.pop("run", {})),)
        folder = _saved(tmp_path / name, _tensors(seed or ord(name[-1]), rank), **options)
        return _certified(folder, Certificate(tuple(runs)))

    return made


@pytest.fixture
def uncertified(tmp_path: Path) -> Callable[[str], Path]:
    """Return a maker of adapters that nobody vouches for: (name)."""
    return lambda name: _saved(tmp_path / name, _tensors(ord(name[-1])))


@pytest.fixture
def base() -> Callable[[], Any]:
    """Return a maker of the base model, the same at every call."""

    def made() -> Any:
        config = transformers.BertConfig(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=24,
            vocab_size=40,
            max_position_embeddings=24,
        )
        torch.manual_seed(1)
        model: Any = transformers.BertModel(config)
        model.eval()
        model.config._name_or_path = model.name_or_path = "tiny"
        return model

    return made


@pytest.fixture
def merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return what runs `dpft merge` into the folder `out`: (arguments) -> exit code and output."""

    def merged(*arguments: object) -> tuple[int, str]:
        code = cli.main(["merge", *map(str, arguments), "--output", str(tmp_path / "out")])
        shown = capsys.readouterr()
        return code, shown.err if code else shown.out

    return merged


@pytest.fixture
def large(tmp_path: Path) -> Callable[[str], Path]:
    """Return a maker of adapters of the shapes of Llama-2-7B whose tensors are holes: (name)."""
    return lambda name: _large(tmp_path / name, Certificate((_run(f"run of {name}"),)))


def _large(folder: Path, certificate: Certificate) -> Path:
    width, inner, rank = 4096, 11008, 16
    sides = dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj"), (width, width))
    sides |= dict.fromkeys(("self_attn.v_proj", "self_attn.o_proj"), (width, width))
    sides |= dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), (inner, width))
    sides["mlp.down_proj"] = (width, inner)
    publication = Publication.of(certificate, "0" * 64, 1e-4)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", NOTE: publication.digest}}
    reached = 0
    for layer in range(32):
        for module, (outputs, inputs) in sides.items():
            for name, shape in {"A": (rank, inputs), "B": (outputs, rank)}.items():
                place = f"base_model.model.model.layers.{layer}.{module}.lora_{name}.weight"
                end = reached + 4 * shape[0] * shape[1]
                header[place] = {"dtype": "F32", "shape": shape, "data_offsets": [reached, end]}
                reached = end
    folder.mkdir()
    modules = [module.rpartition(".")[2] for module in sides]
    config = LoraConfig(r=rank, target_modules=modules, base_model_name_or_path="llama")
    config.save_pretrained(str(folder))
    text = json.dumps(header).encode()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + reached)
    (folder / "certificate.json").write_text(publication.to_json() + "\n", encoding="utf-8")
    return folder
