"""Adapters are read one module at a time, and nothing is lost by it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig
from safetensors.torch import load_file, save_file

from dpft.adapters.algebra import Delta, Source, read
from dpft.errors import ConfigurationError
from dpft.taskvectors import adapter_file
from dpft.taskvectors.adapter_file import CONFIG, WEIGHTS, adapter_config, read_lazily

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "ffa_lora": {},
    "ia3": {},
    "bottleneck": {},
    "compacter": {"reduction_factor": 4, "phm_dim": 2},
    "prompt": {"num_virtual_tokens": 4},
}


@pytest.fixture
def folder(adapted: Callable[..., Any], tmp_path: Path) -> Callable[[str], Path]:
    def saved(kind: str) -> Path:
        model = adapted(kind, 3, **KINDS[kind])
        model.save_pretrained(tmp_path / kind, save_embedding_layers=False)
        return tmp_path / kind

    return saved


@pytest.mark.parametrize("kind", KINDS)
def test_a_lazily_read_adapter_is_the_adapter(folder: Callable[[str], Path], kind: str) -> None:
    path = folder(kind)
    config = PeftConfig.from_pretrained(str(path))
    whole = read(Source(config=config, tensors=load_file(path / WEIGHTS)))
    lazy = read_lazily(path / WEIGHTS, Source(config=config, tensors={}))
    assert set(lazy.parts) == set(whole.parts)
    assert (lazy.family, lazy.heads, lazy.frozen_seed) == (
        whole.family,
        whole.heads,
        whole.frozen_seed,
    )
    for place, part in whole.parts.items():
        for name, tensor in part.tensors().items():
            assert torch.equal(lazy.parts[place].tensors()[name], tensor), (place, name)


def test_only_the_tensors_of_one_module_are_read(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder("lora")
    config = PeftConfig.from_pretrained(str(path))
    delta = read_lazily(path / WEIGHTS, Source(config=config, tensors={}))
    seen: list[int] = []

    def counted(source: Source) -> Delta:
        seen.append(len(source.tensors))
        return read(source)

    monkeypatch.setattr(adapter_file, "read", counted)
    for place in delta.parts:
        assert delta.parts[place] is not None
    assert set(seen) <= {1, 2}


def test_a_missing_factor_is_refused_before_anything_is_read(folder: Callable[[str], Path]) -> None:
    path = folder("lora")
    tensors = load_file(path / WEIGHTS)
    del tensors[next(name for name in tensors if "lora_B" in name)]
    save_file(tensors, path / WEIGHTS)
    with pytest.raises(ConfigurationError, match="lora_B"):
        read_lazily(path / WEIGHTS, Source(config=adapter_config(path), tensors={}))


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="run code"):
        adapter_config(tmp_path)


def test_a_type_that_is_not_known_is_refused(folder: Callable[[str], Path]) -> None:
    path = folder("lora")
    tensors = {name: each.to(torch.int16) for name, each in load_file(path / WEIGHTS).items()}
    save_file(tensors, path / WEIGHTS)
    with pytest.raises(ConfigurationError, match="I16"):
        read_lazily(path / WEIGHTS, Source(config=adapter_config(path), tensors={}))


@pytest.mark.parametrize(
    "changed",
    [
        {"lora_alpha": float("nan")},
        {"lora_alpha": None},
        {"r": "8"},
        {"rank_pattern": [1]},
        {"alpha_pattern": {"(": 3}},
        {"alpha_pattern": {"query": "3"}},
        {"modules_to_save": 5},
        {"auto_mapping": [1]},
        {"base_model_name_or_path": ["x"]},
    ],
    ids=str,
)
def test_a_configuration_of_wrong_types_is_refused(
    folder: Callable[[str], Path], changed: dict[str, object]
) -> None:
    path = folder("lora") / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ConfigurationError, match="to be a configuration of peft"):
        adapter_config(path.parent)


def test_a_configuration_nested_too_deeply_is_refused(folder: Callable[[str], Path]) -> None:
    path = folder("lora") / CONFIG
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigurationError, match="to be a configuration of peft"):
        adapter_config(path.parent)
