"""A run of this library hands its certificate to the vectors made of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dpft
from dpft import adapters
from dpft.errors import BrokenGuaranteeError
from dpft.losses import Classification
from dpft.taskvectors import TaskVector

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
PRIVACY: dict[str, Any] = {
    "noise_multiplier": 2.0,
    "delta": 1e-3,
    "expected_batch_size": 15,
    "steps": 2,
    "accountant": "rdp",
}


def records() -> list[dict[str, Any]]:
    return [
        {"input_ids": [3 + index % 2, 7, 8], "attention_mask": [1] * 3, "labels": index % 2}
        for index in range(60)
    ]


def fit(model: Any, **arguments: Any) -> Any:
    privacy = dpft.Privacy(**PRIVACY)
    return dpft.fit(model, records(), loss=Classification(), privacy=privacy, **arguments)


def test_vectors_of_two_runs_carry_both_certificates(
    tiny: Callable[..., Any], tmp_path: Path
) -> None:
    models = [adapters.build("ffa_lora", tiny(), r=4) for _ in range(2)]
    results = [fit(model, out=tmp_path / f"run {number}") for number, model in enumerate(models)]
    a, b = (TaskVector.from_peft(model) for model in models)
    assert [a.certificate, b.certificate] == [result.certificate for result in results]
    total = a - b  # independent noise: not refused
    total.save(tmp_path / "sum")
    loaded = TaskVector.load(tmp_path / "run 0")
    assert loaded.certificate == a.certificate
    assert total.certificate is not None
    assert total.certificate.epsilon(1e-3) > results[0].certificate.epsilon(1e-3)
    assert TaskVector.load(tmp_path / "sum").certificate == total.certificate


def test_an_adapter_on_a_base_that_was_trained_under_another_has_no_certificate(
    tiny: Callable[..., Any],
) -> None:
    model: Any = adapters.build("ffa_lora", tiny(), r=4)
    fit(model)
    fresh = adapters.build("ffa_lora", model.unload(), r=4)
    with pytest.raises(BrokenGuaranteeError, match="certificate"):
        TaskVector.from_peft(fresh)


def test_a_second_adapter_does_not_get_the_certificate_of_the_first(
    tiny: Callable[..., Any],
) -> None:
    model: Any = adapters.build("ffa_lora", tiny(), r=4)
    fit(model)
    model.add_adapter("second", adapters.config("ffa_lora", model.config, "SEQ_CLS", r=4))
    with pytest.raises(BrokenGuaranteeError, match="certificate"):
        TaskVector.from_peft(model, "second")
