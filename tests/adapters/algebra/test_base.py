"""What identifies a base model: its body, whatever adapters and heads it carries."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpft.adapters.algebra import BaseModel
from dpft.adapters.algebra.base import labels_digest
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.mark.parametrize(
    "kind", ["lora", "ffa_lora", "ia3", "bottleneck", "compacter", "prompt", "prefix"]
)
def test_adapters_and_heads_do_not_change_the_digest(
    kind: str, adapted: Callable[..., Any], tiny: Callable[..., Any]
) -> None:
    options = {"reduction_factor": 4} if kind in {"bottleneck", "compacter"} else {}
    assert BaseModel(adapted(kind, **options)).digest == BaseModel(tiny()).digest
    names = set(BaseModel(adapted(kind, **options)).tensors)
    assert names == set(BaseModel(tiny()).tensors)


def test_any_tensor_of_the_body_changes_the_digest(tiny: Callable[..., Any]) -> None:
    before = BaseModel(tiny()).digest
    assert BaseModel(tiny(seed=2)).digest != before
    for name in ("bert.pooler.dense.bias", "bert.embeddings.LayerNorm.weight"):
        model = tiny()
        with torch.no_grad():
            model.get_parameter(name)[0] += 1e-3
        assert BaseModel(model).digest != before


def test_a_head_lies_outside_of_the_body(tiny: Callable[..., Any]) -> None:
    base = BaseModel(tiny())
    assert [name for name in base.tensors if base.is_head(name)] == [
        "classifier.weight",
        "classifier.bias",
    ]


def test_labels_count_by_name_and_order() -> None:
    names = {0: "bad", 1: "good"}
    assert labels_digest(names, None) == labels_digest({"1": "good", "0": "bad"}, None)
    assert labels_digest(names, None) != labels_digest({0: "good", 1: "bad"}, None)
    assert labels_digest({0: "LABEL_0", 1: "LABEL_1"}, None) is None
    assert labels_digest(None, None) is None
    assert labels_digest(names, 40) == labels_digest(None, 40) != labels_digest(None, 41)


def test_a_tensor_that_is_not_there_is_refused(tiny: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="base"):
        BaseModel(tiny()).tensor("bert.nowhere")
