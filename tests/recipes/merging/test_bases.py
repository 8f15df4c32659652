"""Heads and biases of runs add up from where their settings say that they began."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpft import adapters
from dpft.accounting import Certificate
from dpft.accounting.publication import Publication
from dpft.artefact_digest import tensors_digest, write_note
from dpft.recipes.config.composition import compose_config, yaml_of
from dpft.recipes.merging.bases import base_of_run
from dpft.taskvectors import TaskVector

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
Merge = Callable[..., tuple[int, str]]


@pytest.fixture
def run_folder(tmp_path: Path, make_run: Callable[..., Any]) -> Callable[..., Path]:
    """Return a maker of folders as a run of the embedded task leaves them: (name, kind)."""

    def made(name: str, kind: str) -> Path:
        folder = tmp_path / name
        (folder / "adapter").mkdir(parents=True)
        text = yaml_of(compose_config([f"adapter={kind}"]))
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        model: Any = adapters.build(kind, base_of_run(folder))
        generator = torch.Generator().manual_seed(ord(name))
        with torch.no_grad():
            for each in model.parameters():
                if each.requires_grad:
                    each.add_(0.1 * torch.randn(each.shape, generator=generator))
        model.save_pretrained(folder / "adapter", save_embedding_layers=False)
        certificate = Certificate((make_run(f"run of {name}"),))
        publication = Publication.of(certificate, tensors_digest(folder / "adapter"), 1e-4)
        for place in (folder, folder / "adapter"):
            (place / "certificate.json").write_text(publication.to_json() + "\n")
        write_note(folder / "adapter" / "adapter_model.safetensors", publication.digest)
        return folder

    return made


@pytest.mark.parametrize("kind", ["lora", "bitfit"])
def test_a_dry_run_foresees_heads_and_biases_of_runs(
    run_folder: Callable[..., Path], merge: Merge, kind: str, tmp_path: Path
) -> None:
    line = ["a - 0.5*b", *(f"{name}={run_folder(name, kind)}" for name in "ab"), "--json"]
    code, shown = merge(*line, "--dry-run")
    assert code == 0, shown
    foreseen = json.loads(shown)
    code, shown = merge(*line)
    assert code == 0, shown
    done = json.loads(shown)
    for name in ("family", "base", "epsilon", "runs", "ranks", "modules", "tensor_bytes"):
        assert foreseen[name] == done[name], name


@pytest.mark.parametrize("kind", ["lora", "bitfit"])
def test_what_was_trained_whole_moves_from_where_it_began(
    run_folder: Callable[..., Path], merge: Merge, kind: str, tmp_path: Path
) -> None:
    a, b = run_folder("a", kind), run_folder("b", kind)
    assert merge("a - 0.5*b", f"a={a}", f"b={b}")[0] == 0
    before = dict(base_of_run(a).named_parameters())
    made = TaskVector.load(tmp_path / "out").delta
    values = {}
    for name, folder in {"a": a, "b": b}.items():
        delta = TaskVector.load(folder).delta
        values[name] = {place: part.tensors().get("value") for place, part in delta.parts.items()}
    moved = [place for place, value in values["a"].items() if value is not None]
    assert moved
    for place in moved:
        began, one, other = before[place], values["a"][place], values["b"][place]
        assert one is not None
        assert other is not None
        expected = began + (one - began) - 0.5 * (other - began)
        assert torch.allclose(made.parts[place].tensors()["value"], expected, atol=1e-5), place
