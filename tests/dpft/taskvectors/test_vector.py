"""What a vector refuses before anything is added up, and what its operators accept."""

import math
from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch

import dpft
from dpft.errors import ConfigurationError
from dpft.taskvectors import Reading, TaskVector, analogy
from dpft.taskvectors.coefficients import exact

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def test_the_name_is_one_of_the_package() -> None:
    assert dpft.TaskVector is TaskVector


def test_sum_and_analogy_are_the_operators(vector: Callable[..., TaskVector]) -> None:
    a, b, c = (vector("ffa_lora", seed) for seed in (3, 4, 5))
    assert sum([a, b, c]) == a + b + c
    assert analogy(a, b, c) == c + b - a
    assert analogy(a, b, a) == b


@pytest.mark.parametrize("number", [math.inf, math.nan, True, "2", None, torch.tensor(2.0)])
def test_only_numbers_scale(number: object, vector: Callable[..., TaskVector]) -> None:
    with pytest.raises((ConfigurationError, TypeError)):
        vector("ffa_lora", 3) * number


def test_vectors_have_no_product_and_no_sum_with_numbers(
    vector: Callable[..., TaskVector],
) -> None:
    a = vector("ffa_lora", 3)
    for refused in (lambda: a * a, lambda: a + 1, lambda: a - 0.5):
        with pytest.raises(TypeError):
            refused()


def test_coefficients_are_the_fractions_that_are_written() -> None:
    assert exact(0.1) * 3 == exact(0.3)
    assert exact(1e-5) == exact(1) / 100_000


def test_another_base_model_is_refused(
    vector: Callable[..., TaskVector],
    tiny: Callable[..., Any],
    adapted: Callable[..., Any],
    certificate: Callable[..., Any],
) -> None:
    a, other = vector("lora", 3), adapted("lora", 4)
    with torch.no_grad():
        other.get_base_model().bert.embeddings.LayerNorm.weight.add_(0.1)
    b = TaskVector.from_peft(other, certificate=certificate("another"))
    with pytest.raises(ConfigurationError, match="base"):
        a + b
    for refused in (b.apply_to, b.to_peft):
        with pytest.raises(ConfigurationError, match="base"):
            refused(tiny())


def test_another_module_map_is_refused(
    vector: Callable[..., TaskVector], tiny: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigurationError, match="base"):
        vector("lora", 3, architecture="gpt2").apply_to(tiny("bert"))


@pytest.mark.parametrize("kind", ["LoHa", "Vera"])
def test_kinds_without_a_verified_algebra_are_refused(
    kind: str, tiny: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    config = getattr(peft, f"{kind}Config")(task_type="SEQ_CLS", target_modules=["query"])
    model = peft.get_peft_model(tiny(), config)
    with pytest.raises(ConfigurationError, match="peft_type"):
        TaskVector.from_peft(model, certificate=certificate("a run"))


def test_kinds_without_a_common_sum_are_refused(vector: Callable[..., TaskVector]) -> None:
    with pytest.raises(ConfigurationError, match="family"):
        vector("lora", 3) + vector("ia3", 4)


def test_bottlenecks_of_another_activation_are_refused(vector: Callable[..., TaskVector]) -> None:
    a = vector("bottleneck", 3, reduction_factor=4)
    b = vector("bottleneck", 4, reduction_factor=4, non_linearity="gelu")
    with pytest.raises(ConfigurationError, match="non_linearity"):
        a + b


def test_bottlenecks_and_compacters_of_one_activation_add_up(
    vector: Callable[..., TaskVector], tiny: Callable[..., Any]
) -> None:
    a = vector("bottleneck", 3, reduction_factor=8, non_linearity="gelu_new")
    b = vector("compacter", 4, reduction_factor=4)
    part: Any = (a + b).delta.parts["bert.encoder.layer.0.output.dropout"]
    assert part.width == 2 + 4
    (a + b).to_peft(tiny())


def test_a_sum_wider_than_the_model_is_refused(
    vector: Callable[..., TaskVector], tiny: Callable[..., Any]
) -> None:
    wide = [vector("bottleneck", seed, reduction_factor=1.5) for seed in (3, 4)]
    with pytest.raises(ConfigurationError, match="width"):
        (wide[0] + wide[1]).to_peft(tiny())


def test_heads_of_other_or_nameless_labels_are_refused(
    adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    vectors = []
    for seed, names in enumerate((["bad", "fair", "good"], ["good", "fair", "bad"], None)):
        model = adapted("lora", seed)
        model.config.id2label = dict(enumerate(names or [])) or {i: f"LABEL_{i}" for i in range(3)}
        vectors.append(TaskVector.from_peft(model, certificate=certificate(f"run {seed}")))
    a, b, nameless = vectors
    for pair in ((a, b), (a, nameless)):
        with pytest.raises(ConfigurationError, match="labels"):
            pair[0] + pair[1]
    assert not (a.without_heads() + b.without_heads()).is_empty
    assert a.without_heads() - a.without_heads() == TaskVector()


def test_heads_that_began_elsewhere_are_refused(
    adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    one, other = adapted("lora", 3), adapted("lora", 4)
    with torch.no_grad():
        other.get_base_model().classifier.original_module.weight.add_(0.1)
    a, b = (
        TaskVector.from_peft(model, certificate=certificate(name))
        for name, model in (("one", one), ("other", other))
    )
    with pytest.raises(ConfigurationError, match="start"):
        a + b


def test_biases_need_the_model_as_it_was(
    adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigurationError, match="base"):
        TaskVector.from_peft(adapted("bitfit", 3), certificate=certificate("a run"))


def test_a_merged_adapter_is_refused(
    adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    model = adapted("lora", 3)
    model.merge_adapter()
    with pytest.raises(ConfigurationError, match="merged"):
        TaskVector.from_peft(model, certificate=certificate("a run"))


def test_options_that_change_what_is_added_are_refused(
    adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    model = adapted("lora", 3, init_lora_weights="pissa")
    with pytest.raises(ConfigurationError, match="pissa"):
        TaskVector.from_peft(model, certificate=certificate("a run"))


def test_later_training_does_not_move_a_vector(
    adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    model = adapted("lora", 3)
    vector = TaskVector.from_peft(model, certificate=certificate("a run"))
    before = {place: part.trained() for place, part in vector.delta.parts.items()}
    copies = {place: tensor.clone() for place, tensor in before.items() if tensor is not None}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    for place, copy in copies.items():
        now = vector.delta.parts[place].trained()
        assert now is not None
        assert torch.equal(now, copy)


def test_a_tied_embedding_is_not_changed_in_the_output_layer(
    certificate: Callable[..., Any], adapted: Callable[..., Any], tiny: Callable[..., Any]
) -> None:
    vector = TaskVector.from_peft(
        adapted("lora", 3, "gpt2", target_modules=["wte"]), certificate=certificate("a run")
    )
    tied = tiny("gpt2")
    tied.lm_head.weight = tied.transformer.wte.weight
    with pytest.raises(ConfigurationError, match="share"):
        vector.apply_to(tied)


def test_the_base_model_stays_as_it_is(
    vector: Callable[..., TaskVector],
    tiny: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
) -> None:
    base = tiny()
    before = outputs(base)
    made = vector("lora", 3).apply_to(base, scaling_coef=0.5)
    assert torch.equal(outputs(base), before)
    assert not torch.equal(outputs(made), before)


def test_an_unknown_adapter_name_is_refused(adapted: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="adapter_name"):
        TaskVector.from_peft(adapted("lora", 3), "other", options=Reading())


def test_an_adapter_name_that_is_taken_is_refused(
    vector: Callable[..., TaskVector], tiny: Callable[..., Any]
) -> None:
    model = vector("lora", 3).to_peft(tiny())
    with pytest.raises(ConfigurationError, match="new"):
        vector("lora", 4).to_peft(model)
    assert set(vector("lora", 4).to_peft(model, "second").peft_config) == {"default", "second"}
