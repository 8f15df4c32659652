"""What is saved can be verified, and nothing else can be loaded in its place."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.taskvectors import Form, Reading, TaskVector, Uncertified, storing
from dpft.verification import verify

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def total(vector: Callable[..., TaskVector]) -> TaskVector:
    """Return a sum of two LoRA."""
    return vector("lora", 3) - 0.5 * vector("lora", 4)


def test_what_was_saved_verifies(total: TaskVector, tmp_path: Path) -> None:
    total.save(tmp_path / "sum")
    findings = verify(tmp_path / "sum")
    assert all(finding.passed for finding in findings), findings
    expression = json.loads((tmp_path / "sum" / "expression.json").read_text())
    assert sorted(term["coefficient"] for term in expression["terms"]) == ["-1/2", "1"]


def test_a_lora_is_saved_with_scaling_one(total: TaskVector, tmp_path: Path) -> None:
    total.save(tmp_path / "sum")
    config = json.loads((tmp_path / "sum" / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 16
    assert config["use_rslora"] is False


def test_a_loaded_sum_is_the_sum(
    total: TaskVector, tiny: Callable[..., Any], tmp_path: Path
) -> None:
    total.save(tmp_path / "sum")
    again = TaskVector.load(tmp_path / "sum")
    assert again.certificate == total.certificate
    assert again.base == total.base
    for place, part in total.delta.parts.items():
        for name, tensor in part.tensors().items():
            assert torch.equal(again.delta.parts[place].tensors()[name], tensor), (place, name)
    assert not (again - 2 * total).is_empty  # a sum of leaves with common runs


def test_another_base_than_the_saved_one_is_refused(
    total: TaskVector, tiny: Callable[..., Any], tmp_path: Path
) -> None:
    total.save(tmp_path / "sum")
    other = tiny()
    with torch.no_grad():
        other.bert.pooler.dense.bias.add_(0.1)
    with pytest.raises(ConfigurationError, match="base"):
        TaskVector.load(tmp_path / "sum", options=Reading(base=other))


def test_tensors_edited_after_certification_are_refused(total: TaskVector, tmp_path: Path) -> None:
    total.save(tmp_path / "sum")
    tensors = load_file(tmp_path / "sum" / WEIGHTS)
    name = min(tensors)
    tensors[name] = tensors[name] + 1e-3
    save_file(tensors, tmp_path / "sum" / WEIGHTS, metadata={"format": "pt"})
    for options in (Reading(), Reading(on_uncertified=Uncertified.MARK)):
        with pytest.raises(BrokenGuaranteeError, match="tensors"):
            TaskVector.load(tmp_path / "sum", options=options)


def test_a_lost_certificate_is_not_replaced_by_a_mark(total: TaskVector, tmp_path: Path) -> None:
    total.save(tmp_path / "sum")
    (tmp_path / "sum" / "certificate.json").unlink()
    with pytest.raises(BrokenGuaranteeError, match="certificate"):
        TaskVector.load(tmp_path / "sum", options=Reading(on_uncertified=Uncertified.MARK))


def test_a_plain_adapter_is_refused_unless_marked(
    adapted: Callable[..., Any], tmp_path: Path
) -> None:
    adapted("lora", 3).save_pretrained(tmp_path / "plain", save_embedding_layers=False)
    with pytest.raises(BrokenGuaranteeError, match="on_uncertified"):
        TaskVector.load(tmp_path / "plain")
    marked = TaskVector.load(tmp_path / "plain", options=Reading(on_uncertified=Uncertified.MARK))
    assert marked.certificate is not None
    assert marked.certificate.epsilon(1e-5) == math.inf


def test_infinite_epsilon_is_saved_and_stays(
    adapted: Callable[..., Any], tiny: Callable[..., Any], tmp_path: Path
) -> None:
    marked = Reading(on_uncertified=Uncertified.MARK)
    unknown = TaskVector.from_peft(adapted("lora", 3), options=marked)
    (-unknown).without_heads().save(tmp_path / "negated")
    again = TaskVector.load(tmp_path / "negated")
    assert again.certificate is not None
    assert again.certificate.epsilon(1e-5) == math.inf


def test_a_folder_is_never_overwritten_and_never_half_written(
    total: TaskVector, vector: Callable[..., TaskVector], tmp_path: Path
) -> None:
    total.save(tmp_path / "sum")
    with pytest.raises(ConfigurationError, match="not to exist"):
        total.save(tmp_path / "sum")
    negated = -vector("prompt", 3, num_virtual_tokens=4)
    with pytest.raises(ConfigurationError, match="start"):
        negated.save(tmp_path / "prompt")
    assert [path.name for path in tmp_path.iterdir()] == ["sum"]


def test_a_prompt_is_saved_with_its_start(
    adapted: Callable[..., Any],
    start: Callable[..., dict[str, torch.Tensor]],
    certificate: Callable[..., Any],
    tmp_path: Path,
) -> None:
    began = start("prompt", num_virtual_tokens=4)
    vector = TaskVector.from_peft(
        adapted("prompt", 3, num_virtual_tokens=4),
        certificate=certificate("a run"),
        options=Reading(start=began),
    )
    (-vector).save(tmp_path / "negated")
    part: Any = TaskVector.load(tmp_path / "negated").delta.parts["prompt_embeddings"]
    assert torch.equal(part.start, began["prompt_embeddings"])
    original: Any = vector.delta.parts["prompt_embeddings"]
    assert torch.allclose(part.moved(), -original.moved(), atol=1e-6)
    with pytest.raises(ConfigurationError, match="head"):
        vector.without_heads().save(tmp_path / "headless")
    vector.without_heads().save(tmp_path / "headless", form="delta")
    again = TaskVector.load(tmp_path / "headless")
    assert list(again.delta.parts) == ["prompt_embeddings"]


def test_the_empty_vector_is_not_saved(total: TaskVector, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        (total - total).save(tmp_path / "nothing")


def test_what_peft_cannot_hold_is_saved_as_it_is_when_asked_for(
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
    tmp_path: Path,
) -> None:
    base, finetuned = tiny(), tiny()
    with torch.no_grad():
        for parameter in finetuned.parameters():
            parameter.mul_(1.05)
    vector = TaskVector.from_models(base, finetuned, certificate=certificate("a run"))
    with pytest.raises(ConfigurationError, match="peft"):
        vector.save(tmp_path / "weights")
    vector.save(tmp_path / "weights", form=Form.DELTA)
    assert all(finding.passed for finding in verify(tmp_path / "weights"))
    again = TaskVector.load(tmp_path / "weights")
    made = again.apply_to(base)
    assert torch.allclose(outputs(made), outputs(finetuned), atol=1e-6)


def test_a_sum_of_ffa_lora_is_one_of_the_same_rank_on_disk(
    vector: Callable[..., TaskVector], tmp_path: Path
) -> None:
    from dpft.adapters import ffa_lora

    total = vector("ffa_lora", 3) + vector("ffa_lora", 4)
    total.save(tmp_path / "sum")
    config = ffa_lora.read(tmp_path / "sum")
    assert (config.r, config.lora_alpha, config.seed) == (8, 8, 0)


def test_nothing_is_written_into_a_certified_folder(total: TaskVector, tmp_path: Path) -> None:
    total.save(tmp_path / "sum")
    with pytest.raises(ConfigurationError, match="not to lie inside"):
        (2 * total).save(tmp_path / "sum" / "deep" / "other")
    assert all(finding.passed for finding in verify(tmp_path / "sum"))


@pytest.mark.parametrize(
    "changed",
    [
        {"form": "other"},
        {"family": "other"},
        {"heads": 5},
        {"labels": [1]},
        {"layouts": 5},
        {"terms": {}},
        {"base": {"name": 5, "digest": None}},
    ],
    ids=str,
)
def test_a_damaged_expression_is_refused(
    total: TaskVector, changed: dict[str, object], tmp_path: Path
) -> None:
    total.save(tmp_path / "sum")
    path = tmp_path / "sum" / "expression.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ConfigurationError, match=r"expression\.json to describe a vector"):
        TaskVector.load(tmp_path / "sum")


def test_a_folder_that_came_meanwhile_is_not_replaced(
    total: TaskVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one would be, by the rename alone."""
    monkeypatch.setattr(storing, "make_durable", lambda _: (tmp_path / "sum").mkdir(exist_ok=True))
    with pytest.raises(ConfigurationError, match="not to exist"):
        total.save(tmp_path / "sum")
    assert [path.name for path in tmp_path.iterdir()] == ["sum"]
    assert not any((tmp_path / "sum").iterdir())
