import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel, get_peft_model, inject_adapter_in_model
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

import dpft
from dpft import adapters
from dpft.adapters.compacter import CompacterConfig, CompacterLayer, configure
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tiny = Callable[..., PreTrainedModel]
Texts = Callable[..., dict[str, torch.Tensor]]
Stirred = Callable[[nn.Module], nn.Module]
KINDS: dict[str, dict[str, Any]] = {
    "shared": {},
    "shared factorised": {"factorised_rule": True, "phm_rank": 2},
    "own": {"shared_rule": False},
    "own factorised": {"shared_rule": False, "factorised_rule": True, "phm_dim": 2},
}
RULES_OF = {"bert": 8, "gpt2": 8, "t5": 16, "llama": 8}  # own rules: two maps, two places, blocks
kinds = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


def build(model: PreTrainedModel, **options: Any) -> Any:  # torch's stubs know no attributes
    return adapters.build("compacter", model, **({"reduction_factor": 4} | options))


def rule_of(model: Any, name: str = "default") -> Any:
    return model.base_model.dpft_compacter_rule[name].full


def trained(model: nn.Module, part: str = "") -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad and part in name}


def product(rule: Any, maps: Any) -> torch.Tensor:
    return torch.stack(
        [torch.kron(s, a @ b) for s, a, b in zip(rule, maps.left, maps.right, strict=True)]
    ).sum(0)


@kinds
def test_a_layer_adds_two_sums_of_kronecker_products(
    options: dict[str, Any], tiny: Tiny, stirred: Stirred
) -> None:
    model = stirred(build(tiny("gpt2").double(), **options).double())
    layer: Any = model.get_submodule("base_model.model.transformer.h.1.mlp.dropout")
    shared = model.get_submodule("base_model.dpft_compacter_rule")
    rules = []
    for own in (layer.dpft_compacter_down_rule, layer.dpft_compacter_up_rule):
        held: Any = (shared if options.get("shared_rule", True) else own).get_submodule("default")
        factorised = options.get("factorised_rule", False)
        rules.append(
            torch.einsum("ipx,ixq->ipq", held.left, held.right) if factorised else held.full
        )
    hidden = torch.randn(3, 5, 16, dtype=torch.float64)
    down, up = layer.dpft_compacter_down["default"], layer.dpft_compacter_up["default"]
    inner = functional.gelu(hidden @ product(rules[0], down) + down.bias, approximate="tanh")
    expected = hidden + inner @ product(rules[1], up) + up.bias
    torch.testing.assert_close(layer(hidden), expected, rtol=0, atol=1e-12)
    assert (layer(hidden) - hidden).abs().max().item() > 1e-3


@kinds
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5", "llama"])
def test_gradients_equal_a_loop_over_single_records(
    architecture: str,
    options: dict[str, Any],
    tiny: Tiny,
    texts: Texts,
    stirred: Stirred,
    losses: Callable[..., torch.Tensor],
    loop: Callable[..., dict[str, torch.Tensor]],
    gradient_error: Callable[..., float],
) -> None:
    batch = texts(architecture)
    model = stirred(build(tiny(architecture).double(), **options).double())
    expected = loop(model, batch)
    assert all(bool(grads.any()) for grads in expected.values())
    rules = [name for name in expected if "rule" in name]
    count = 1 if options.get("shared_rule", True) else RULES_OF[architecture]
    assert len(rules) == count * (2 if options.get("factorised_rule") else 1)
    assert gradient_error(dpft.per_record_gradients(model, losses, batch), expected) <= 1e-9


def test_gradients_of_the_factored_form_equal_a_loop_over_single_records(
    texts: Texts,
    stirred: Stirred,
    losses: Callable[..., torch.Tensor],
    loop: Callable[..., dict[str, torch.Tensor]],
    gradient_error: Callable[..., float],
    monkeypatch: pytest.MonkeyPatch,
    tiny: Tiny,
) -> None:
    from dpft.adapters import phm

    # The tiny models' maps are formed; those of large models are not.
    monkeypatch.setattr(phm, "phm_by_one_product", phm.phm_by_factors)
    model = stirred(build(tiny("bert").double(), phm_rank=2).double())
    batch = texts("bert")
    got = dpft.per_record_gradients(model, losses, batch)
    assert gradient_error(got, loop(model, batch)) <= 1e-9


_T5: dict[str, Any] = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}


@pytest.mark.parametrize(
    ("architecture", "sizes", "placement", "count"),
    [
        ("bert", {}, "houlsby", 57_088),
        ("bert", {}, "feed_forward", 28_576),
        ("roberta", {}, "houlsby", 57_088),
        ("gpt2", {}, "houlsby", 57_088),
        ("gpt2", {}, "feed_forward", 28_576),
        ("t5", _T5, "houlsby", 114_112),
        ("t5", _T5, "feed_forward", 57_088),
    ],
)
def test_number_of_parameters_is_that_of_the_reference_implementation(
    architecture: str, sizes: dict[str, int], placement: str, count: int
) -> None:
    config = transformers.AutoConfig.for_model(architecture, **sizes)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        adapted = adapters.build("compacter", model, placement=placement)
    assert adapted.get_nb_trainable_parameters()[0] == count


def test_with_the_norms_of_t5_it_is_the_number_of_the_paper() -> None:
    norms = ["layer_norm", "final_layer_norm"]
    with torch.device("meta"):
        base = transformers.AutoModel.from_config(transformers.T5Config(**_T5))  # type: ignore[no-untyped-call]
        adapted = adapters.build("compacter", base, modules_to_save=norms)
    count, _ = adapted.get_nb_trainable_parameters()
    assert count == 114_112 + 62 * 768
    assert (
        round(100 * count / 222_882_048, 3) == 0.073
    )  # per cent of T5, as Mahabadi et al. 2021 have it


@kinds
def test_peft_reports_every_layer_as_enabled_and_trained(
    options: dict[str, Any], tiny: Tiny
) -> None:
    model = build(tiny("bert"), **options)
    status = model.get_model_status()
    assert (status.enabled, status.requires_grad) == (True, {"default": True})
    assert status.num_adapter_layers == 5  # four places and the head
    assert status.active_adapters == ["default"]


def test_a_shared_rule_is_one_tensor_in_the_file(tiny: Tiny, tmp_path: Path) -> None:
    build(tiny("bert")).save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    rule = "base_model.dpft_compacter_rule.full"
    assert saved[rule].shape == (4, 4, 4)
    assert [name for name in saved if "rule" in name] == [rule]
    assert [name for name, value in saved.items() if value.shape == (4, 4, 4)] == [rule]


def test_own_rules_are_saved_with_their_layers(tiny: Tiny, tmp_path: Path) -> None:
    build(tiny("bert"), shared_rule=False).save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert not [name for name in saved if "dpft_compacter_rule" in name]
    assert len([name for name in saved if "_rule.full" in name]) == RULES_OF["bert"]


@kinds
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_a_loaded_adapter_is_trained_with_its_rule_or_not_at_all(
    low_cpu_mem_usage: bool,
    options: dict[str, Any],
    tiny: Tiny,
    texts: Texts,
    stirred: Stirred,
    tmp_path: Path,
) -> None:
    model, batch = build(tiny("bert"), **options), texts("bert")
    stirred(model)
    model.save_pretrained(tmp_path)
    expected = model(**batch).logits
    for is_trainable in (False, True):
        loaded = PeftModel.from_pretrained(
            tiny("bert"),
            str(tmp_path),
            is_trainable=is_trainable,
            low_cpu_mem_usage=low_cpu_mem_usage,
        )
        torch.testing.assert_close(loaded.eval()(**batch).logits, expected, rtol=0, atol=0)
        assert trained(loaded) == (trained(model) if is_trainable else set())


@kinds
def test_an_adapter_added_with_low_memory_lies_on_meta_as_a_whole(
    options: dict[str, Any], tiny: Tiny
) -> None:
    model = build(tiny("bert"))
    config = configure("bert", "SEQ_CLS", reduction_factor=4, **options)
    model.add_adapter("second", config, low_cpu_mem_usage=True)
    ours = {n: p.is_meta for n, p in model.named_parameters() if ".dpft_" in n}
    assert ours == {name: ".second." in name for name in ours}


def test_a_copy_and_a_pickle_keep_to_their_own_rule(
    tiny: Tiny, texts: Texts, stirred: Stirred
) -> None:
    model, batch = stirred(build(tiny("bert"))), texts("bert")
    expected = model(**batch).logits
    pickled = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes
    others: list[Any] = [copy.deepcopy(model), pickled]
    with torch.no_grad():
        rule_of(model).zero_()
    assert (model(**batch).logits - expected).abs().max().item() > 1e-3
    for other in others:
        torch.testing.assert_close(other(**batch).logits, expected, rtol=0, atol=0)
        with torch.no_grad():
            rule_of(other).zero_()
        torch.testing.assert_close(other(**batch).logits, model(**batch).logits, rtol=0, atol=0)


def test_the_layers_find_the_rule_after_it_was_replaced(
    tiny: Tiny, texts: Texts, stirred: Stirred
) -> None:
    model: Any = stirred(build(tiny("bert")))
    expected = model(**texts("bert")).logits
    held = model.base_model.dpft_compacter_rule["default"]
    held.full = nn.Parameter(torch.zeros_like(held.full))
    assert (model(**texts("bert")).logits - expected).abs().max().item() > 1e-3


def test_the_rule_follows_its_adapter_when_trained_frozen_and_deleted(tiny: Tiny) -> None:
    model = build(tiny("bert"))
    model.add_adapter("second", configure("bert", "SEQ_CLS", reduction_factor=4))
    rules = {name: f"base_model.dpft_compacter_rule.{name}.full" for name in ("default", "second")}
    assert trained(model, "_rule") == {rules["default"]}
    model.set_adapter("second")
    assert trained(model, "_rule") == {rules["second"]}
    model.set_adapter("second", inference_mode=True)
    assert trained(model, "_rule") == set()
    model.set_requires_grad("default")
    assert trained(model, "_rule") == {rules["default"]}
    model.set_requires_grad("default", requires_grad=False)
    assert trained(model, "_rule") == set()
    model.set_adapter("default")
    with model.disable_adapter():
        assert trained(model, "_rule") == set()
    assert trained(model, "_rule") == {rules["default"]}
    with pytest.warns(UserWarning, match="Adapter default was active"):
        model.delete_adapter("default")
    assert trained(model, "_rule") == {rules["second"]}
    assert set(model.base_model.dpft_compacter_rule) == {"second"}


@pytest.mark.parametrize("frozen", ["all", "rule"])
@pytest.mark.parametrize("inference_mode", [False, True])
def test_adding_an_adapter_leaves_another_rule_as_it_was(
    inference_mode: bool, frozen: str, tiny: Tiny
) -> None:
    model = build(tiny("bert"))
    if frozen == "rule":
        rule_of(model).requires_grad = False
    before = trained(model)
    second = configure("bert", "SEQ_CLS", reduction_factor=4, inference_mode=inference_mode)
    model.add_adapter("second", second)
    assert trained(model) == before


@pytest.mark.parametrize("cast", [True, False])
def test_the_rule_has_the_precision_of_its_factors(cast: bool, tiny: Tiny) -> None:
    config = configure("bert", "SEQ_CLS", reduction_factor=4)
    half = tiny("bert").bfloat16()
    model = get_peft_model(half, config, autocast_adapter_dtype=cast)
    types = {p.dtype for name, p in model.named_parameters() if "dpft_" in name}
    assert types == {torch.float32 if cast else torch.bfloat16}
    assert rule_of(get_peft_model(tiny("bert").double(), config)).dtype == torch.float64


def test_a_bfloat16_model_runs_with_an_adapter_in_float32(tiny: Tiny, texts: Texts) -> None:
    model = build(tiny("gpt2").bfloat16())
    assert rule_of(model).dtype == torch.float32
    assert model(**texts("gpt2")).logits.dtype == torch.bfloat16


def test_layers_on_another_device_fetch_the_rule(tiny: Tiny) -> None:
    model = build(tiny("gpt2"))
    layer = model.get_submodule("base_model.model.transformer.h.1.mlp.dropout").to("meta")
    here, there = torch.ones(2, 3, 16), torch.ones(2, 3, 16, device="meta")
    own = layer.dpft_compacter_down_rule
    assert layer._rule("default", own, there).is_meta
    assert layer(there).is_meta
    assert layer._rule("default", own, here) is rule_of(model)


def test_adapters_of_different_sizes_have_their_own_rules(
    tiny: Tiny, texts: Texts, stirred: Stirred
) -> None:
    batch, model = texts("bert"), build(tiny("bert"))
    stirred(model)
    expected = model(**batch).logits
    model.add_adapter("narrow", configure("bert", "SEQ_CLS", reduction_factor=8, phm_dim=2))
    options = {"shared_rule": False, "factorised_rule": True}
    model.add_adapter("own", configure("bert", "SEQ_CLS", reduction_factor=4, **options))
    assert rule_of(model, "narrow").shape == (2, 2, 2)
    assert set(model.base_model.dpft_compacter_rule) == {"default", "narrow"}
    for name in ("narrow", "own"):
        model.set_adapter(name)
        stirred(model)
        assert (model(**batch).logits - expected).abs().max().item() > 1e-4
    model.set_adapter("default")
    torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("saved", "into"),
    [
        ({}, {"phm_dim": 2}),
        ({}, {"shared_rule": False}),
        ({"shared_rule": False}, {}),
        ({}, {"factorised_rule": True}),
        ({"factorised_rule": True}, {}),
    ],
)
def test_a_file_with_another_rule_is_refused_by_an_adapter_that_exists(
    saved: dict[str, Any], into: dict[str, Any], tiny: Tiny, tmp_path: Path
) -> None:
    build(tiny("bert"), **saved).save_pretrained(tmp_path)
    model = build(tiny("bert"), **into)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigurationError, match=r"rules to be of phm_dim=.*under a new name"):
        model.load_adapter(tmp_path, "default")
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    model.load_adapter(tmp_path, "second")


def test_a_file_without_its_rule_is_refused(tiny: Tiny) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    model = build(tiny("bert"))
    state = get_peft_model_state_dict(model)
    state.pop("base_model.dpft_compacter_rule.full")
    with pytest.raises(ConfigurationError, match="found none"):
        set_peft_model_state_dict(model, state)
    heads = {name: value for name, value in state.items() if "classifier" in name}
    set_peft_model_state_dict(model, heads)  # no adapter, so no rule is missing


@pytest.mark.parametrize("placement", ["houlsby", "feed_forward"])
def test_places_are_those_of_both_layers_or_of_the_feed_forward_layer(
    placement: str, tiny: Tiny
) -> None:
    for architecture in ("bert", "roberta", "distilbert", "gpt2", "t5", "llama"):
        model = build(tiny(architecture), placement=placement)
        layers = [layer for layer in model.modules() if isinstance(layer, CompacterLayer)]
        blocks = 4 if architecture == "t5" else 2
        assert len(layers) == blocks * (2 if placement == "houlsby" else 1)
        names = [name for name in model.base_model.targeted_module_names if "attention" in name]
        assert not names or placement == "houlsby"


def test_an_adapter_begins_near_the_model(tiny: Tiny, texts: Texts) -> None:
    base, batch = tiny("bert"), texts("bert")
    expected = base(**batch).logits
    model = build(base)
    torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=1e-4)
    with model.disable_adapter():
        torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=0)


def test_direct_injection_is_refused_as_peft_does_for_shared_state(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="DPFT_COMPACTER because it uses shared state"):
        inject_adapter_in_model(configure("bert", None), tiny("bert"))


def test_targets_given_by_hand_serve_a_model_of_any_kind() -> None:
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    config = CompacterConfig(reduction_factor=2, phm_dim=2, target_modules=["0", "2"])
    model = get_peft_model(plain, config)
    assert model(torch.randn(3, 6)).shape == (3, 4)
    assert len([name for name in trained(model) if "rule" in name]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phm_dim": 3}, "phm_dim=3 to divide hidden_size=16"),
        ({"phm_dim": 8}, "phm_dim=8 to divide hidden_size/reduction_factor=4"),
        ({"reduction_factor": 20}, "reduction_factor=20"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_and_leave_the_model_whole(
    options: dict[str, Any], message: str, tiny: Tiny
) -> None:
    model = build(tiny("bert"))
    names = list(model.state_dict())
    config = configure("bert", "SEQ_CLS", **({"reduction_factor": 4} | options))
    with pytest.raises(ConfigurationError, match=message):
        model.add_adapter("second", config)
    assert list(model.state_dict()) == names
    with pytest.raises(ConfigurationError, match=message):
        build(tiny("bert"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phm_dim": 0}, "phm_dim=0 to be an integer"),
        ({"phm_dim": 2.0}, "phm_dim=2.0 to be an integer"),
        ({"phm_dim": True}, "phm_dim=True to be an integer"),
        ({"phm_rank": 0}, "phm_rank=0 to be an integer"),
        ({"phm_init_range": 0.0}, "phm_init_range=0.0 > 0"),
        ({"phm_init_range": float("nan")}, "phm_init_range=nan > 0"),
        ({"non_linearity": "gelu_old"}, "non_linearity=gelu_old"),
        ({"non_linearity": "prelu"}, "non_linearity=prelu"),
        ({"placement": "compacter++"}, "placement=compacter"),
    ],
)
def test_bad_values_are_refused_when_configured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        configure("bert", "SEQ_CLS", **options)


def test_a_rule_of_its_own_begins_wider_than_a_shared_one(tiny: Tiny) -> None:
    assert configure("bert", None).phm_init_range == 1e-4
    assert configure("bert", None, shared_rule=False).phm_init_range == 0.01
    assert configure("bert", None, phm_init_range=0.5).phm_init_range == 0.5
    torch.manual_seed(0)
    model = build(tiny("bert"), phm_init_range=0.5)
    assert 0.35 < rule_of(model).std().item() < 0.65


def test_the_configuration_survives_a_file(tmp_path: Path) -> None:
    config = configure("bert", "SEQ_CLS", phm_dim=2, shared_rule=False, placement="feed_forward")
    config.save_pretrained(str(tmp_path))
    loaded = CompacterConfig.from_pretrained(str(tmp_path))
    assert loaded == config
    assert loaded.peft_type == "DPFT_COMPACTER"
