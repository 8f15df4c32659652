from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dpft.errors import ConfigurationError
from dpft.recipes.planning.memory import parameters_in, tokens_that_fit


def test_weights_of_all_files_are_counted(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(5)}, tmp_path / "1.safetensors")
    save_file({"c": torch.zeros(7)}, tmp_path / "2.safetensors", metadata={"format": "pt"})
    assert parameters_in(tmp_path) == 18


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="to be a folder with safetensors files"):
        parameters_in(tmp_path)


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 20])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigurationError, match="Its header cannot be read"):
        parameters_in(tmp_path)


def test_more_memory_and_a_smaller_model_hold_more_tokens() -> None:
    tokens = tokens_that_fit(10.0, 125_000_000, 128, writes_text=False)
    assert tokens & (tokens - 1) == 0
    assert tokens_that_fit(32.0, 125_000_000, 128, writes_text=False) > tokens
    assert tokens_that_fit(10.0, 355_000_000, 128, writes_text=False) < tokens
    assert tokens_that_fit(10.0, 125_000_000, 128, writes_text=True) < tokens


def test_the_estimate_is_that_of_its_formula() -> None:
    # 12 x 768^2 x 12 weights: depth 12, width 768, 2 x 12 x 768 x 44 bytes a token
    weights = 12 * 768**2 * 12
    memory = (weights * 4 + 2 * 1024 * 2 * 12 * 768 * 44) / 2**30
    assert tokens_that_fit(memory * 1.0001, weights, 128, writes_text=False) == 1024
    assert tokens_that_fit(memory * 0.999, weights, 128, writes_text=False) == 512


def test_a_record_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="By estimate it does not"):
        tokens_that_fit(1.0, 300_000_000, 128, writes_text=False)
