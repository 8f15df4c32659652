"""The difference of two models, in memory or in folders, one tensor at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.taskvectors import TaskVector
from dpft.taskvectors.streaming import difference

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def moved(model: Any, by: float = 0.1) -> Any:
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight.mul_(1 + by)
    return model


def test_only_what_changed_is_in_the_vector(tiny: Callable[..., Any]) -> None:
    delta, _ = difference(tiny(), moved(tiny()))
    assert list(delta.parts) == ["bert.encoder.layer.0.output.dense.weight"]


def test_folders_give_the_same_vector_as_models(
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
    tmp_path: Path,
) -> None:
    base, finetuned = tiny(), moved(tiny())
    base.save_pretrained(tmp_path / "base")
    finetuned.save_pretrained(tmp_path / "finetuned")
    ours = certificate("a run")
    streamed = TaskVector.from_models(tmp_path / "base", tmp_path / "finetuned", certificate=ours)
    assert streamed.base is not None
    assert streamed.base.digest == difference(base, finetuned)[1].digest
    made = streamed.apply_to(base)
    assert torch.allclose(outputs(made), outputs(finetuned), atol=1e-7)


def test_parts_are_read_when_they_are_asked_for(tiny: Callable[..., Any], tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "base")
    moved(tiny()).save_pretrained(tmp_path / "finetuned")
    delta, _ = difference(tmp_path / "base", tmp_path / "finetuned")
    for path in (tmp_path / "finetuned").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        delta.parts["bert.encoder.layer.0.output.dense.weight"]


def test_a_model_that_was_trained_further_is_refused(
    tiny: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    base, finetuned = tiny(), moved(tiny())
    vector = TaskVector.from_models(base, finetuned, certificate=certificate("a run"))
    vector.apply_to(base)
    moved(finetuned, 0.001)
    with pytest.raises(BrokenGuaranteeError, match="trained further"):
        vector.apply_to(base)


def test_models_of_other_shapes_are_refused(tiny: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="both models"):
        difference(tiny("bert"), tiny("gpt2"))


def test_full_weights_in_memory_become_a_lora_of_full_rank(
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
) -> None:
    finetuned = moved(tiny())
    vector = TaskVector.from_models(tiny(), finetuned, certificate=certificate("a run"))
    made = vector.to_peft(tiny())
    assert torch.allclose(outputs(made), outputs(finetuned), atol=1e-6)
    assert not torch.allclose(outputs(tiny()), outputs(finetuned), atol=1e-3)
