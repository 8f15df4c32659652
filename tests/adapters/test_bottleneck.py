import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from dpft import adapters
from dpft.adapters.bottleneck import BottleneckConfig, configure
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tiny = Callable[..., PreTrainedModel]
Texts = Callable[..., dict[str, torch.Tensor]]
Stirred = Callable[[nn.Module], nn.Module]
Network = Mapping[str, torch.Tensor]
ENCODERS = ("bert", "roberta", "distilbert", "deberta", "deberta-v2")
ARCHITECTURES = [*ENCODERS, "gpt2", "t5", "llama", "mistral", "qwen2", "qwen3"]
ACTIVATION = {"houlsby": functional.silu, "pfeiffer": functional.relu}
# Where h and x of the two sub-layers of a block are seen: (block, attention's h, feed-forward's h,
# what takes x of the feed-forward layer, the norm after the sum).
_BERT = ("{}.encoder.layer.{}", "attention.output.dense", "output.dense", "intermediate")
_LLAMA = ("model.layers.{}", "self_attn", "mlp", "post_attention_layernorm", None)
_ENCODER = ("encoder.block.{}", "layer.0.SelfAttention", "layer.1.DenseReluDense")
_DECODER = ("decoder.block.{}", "layer.0.SelfAttention", "layer.2.DenseReluDense")
SEEN: dict[str, list[tuple[str | None, ...]]] = {
    "distilbert": [
        ("distilbert.transformer.layer.{}", "attention", "ffn", "ffn", "output_layer_norm")
    ],
    "gpt2": [("transformer.h.{}", "attn", "mlp", "ln_2", None)],
    "t5": [
        (*_ENCODER, "layer.1.layer_norm", None),
        (*_DECODER, "layer.2.layer_norm", None),
    ],
    **{name: [_LLAMA] for name in ("llama", "mistral", "qwen2", "qwen3")},
    **{
        name: [(_BERT[0].format(name.split("-")[0], "{}"), *_BERT[1:], "output.LayerNorm")]
        for name in ("bert", "roberta", "deberta", "deberta-v2")
    },
}


def network(
    hidden: torch.Tensor, weights: Network, act: Callable[..., torch.Tensor]
) -> torch.Tensor:
    inner = act(hidden @ weights["down.weight"].T + weights["down.bias"])
    return inner @ weights["up.weight"].T + weights["up.bias"]


def networks(model: nn.Module) -> list[Network]:
    """The adapters' weights in the order of the model."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        if ".dpft_bottleneck_" in name:
            layer, part = name.split(".dpft_bottleneck_")
            found.setdefault(layer, {})[part.replace(".default", "")] = parameter.detach()
    return [*found.values()]


def share_the_head(base: nn.Module, adapted: nn.Module) -> None:
    """Give a bare model the layers that were trained beside the adapter."""
    for name, module in adapted.named_modules():
        if name.endswith(".modules_to_save.default"):
            place = name.removeprefix("base_model.model.").removesuffix(".modules_to_save.default")
            base.get_submodule(place).load_state_dict(module.state_dict())


class Reference:
    """The formulas, hung into a bare model at other modules than the adapters wrap."""

    def __init__(self, model: PreTrainedModel, placement: str, weights: list[Network]) -> None:
        self.weights, self.placement = iter(weights), placement
        for names in SEEN[model.config.model_type]:
            for index in range(2):
                self.hang(model.get_submodule(str(names[0]).format(index)), names[1:])

    def hang(self, block: nn.Module, names: tuple[str | None, ...]) -> None:
        attention, feed_forward, takes_x, norm = names
        if self.placement == "houlsby":
            for name in (attention, feed_forward):
                self.add(block.get_submodule(str(name)), lambda h: h)
            return
        seen: dict[str, torch.Tensor] = {}
        block.get_submodule(str(takes_x)).register_forward_pre_hook(
            lambda _, inputs: seen.update(x=inputs[0])
        )
        last = None if norm is None else block.get_submodule(norm)
        self.add(
            block.get_submodule(str(feed_forward)),
            lambda h: seen["x"] + h if last is None else last(seen["x"] + h),
        )

    def add(self, module: nn.Module, of: Callable[[torch.Tensor], torch.Tensor]) -> None:
        weights, act = next(self.weights), ACTIVATION[self.placement]

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (output[0] + network(of(output[0]), weights, act), *output[1:])
            return output + network(of(output), weights, act)

        module.register_forward_hook(hook)


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_equal_the_formula(
    architecture: str, placement: str, tiny: Tiny, texts: Texts, stirred: Stirred
) -> None:
    base, batch = tiny(architecture).double(), texts(architecture)
    options = {"placement": placement, "reduction_factor": 4}
    adapted = stirred(adapters.build("bottleneck", tiny(architecture).double(), **options))
    share_the_head(base, adapted)
    bare = base(**batch).logits
    weights = networks(adapted)
    places = (2 if placement == "houlsby" else 1) * 2 * len(SEEN[architecture])
    assert [each["down.weight"].shape for each in weights] == [(4, 16)] * places
    Reference(base, placement, weights)
    expected, got = base(**batch).logits, adapted(**batch).logits
    assert (expected - bare).abs().max() > 1e-5
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)


def bert_output(self: Any, hidden: torch.Tensor, x: torch.Tensor) -> Any:
    h = self.dropout(self.dense(hidden))
    return self.LayerNorm(h + network(h, self.weights, functional.silu) + x)


def gpt2_mlp(self: Any, hidden: torch.Tensor) -> Any:
    h = self.dropout(self.c_proj(self.act(self.c_fc(hidden))))
    return h + network(h, self.weights, functional.silu)


def t5_feed_forward(self: Any, x: torch.Tensor) -> Any:
    h = self.dropout(self.DenseReluDense(self.layer_norm(x)))
    return x + h + network(h, self.weights, functional.silu)


@pytest.mark.parametrize(
    ("architecture", "attention", "kind", "formula"),
    [
        ("bert", r".*attention.*", "BertOutput", bert_output),
        ("gpt2", r".*attn.*", "GPT2MLP", gpt2_mlp),
        ("t5", r".*layer\.0\..*", "T5LayerFF", t5_feed_forward),
    ],
)
def test_the_adapter_sees_its_sub_layer_after_dropout(
    architecture: str,
    attention: str,
    kind: str,
    formula: Callable[..., torch.Tensor],
    tiny: Tiny,
    texts: Texts,
) -> None:
    base, batch = tiny(architecture, 0.4).double(), texts(architecture)
    # The head keeps its first values, so that the two models share it.
    adapted = adapters.build(
        "bottleneck",
        tiny(architecture, 0.4).double(),
        reduction_factor=4,
        exclude_modules=attention,
        init_std=0.5,
    )
    weights = iter(networks(adapted))
    for module in base.modules():
        if type(module).__name__ == kind:
            module.weights = next(weights)  # type: ignore[assignment]  # for the formula only
            module.forward = types.MethodType(formula, module)
    assert next(weights, None) is None
    results = []
    for model in (base, adapted.train()):
        torch.manual_seed(5)
        results.append(model(**batch).logits)
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-11)


COUNTS: list[tuple[str, dict[str, int], str, int]] = [
    ("bert", {}, "houlsby", 1_789_056),
    ("bert", {}, "pfeiffer", 894_528),
    ("roberta", {}, "houlsby", 1_789_056),
    ("gpt2", {}, "houlsby", 1_789_056),
    ("gpt2", {}, "pfeiffer", 894_528),
    ("t5", {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}, "houlsby", 3_578_112),
    ("t5", {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}, "pfeiffer", 1789056),
]


@pytest.mark.parametrize(("architecture", "sizes", "placement", "count"), COUNTS)
def test_number_of_parameters_is_that_of_the_reference_implementation(
    architecture: str, sizes: dict[str, int], placement: str, count: int
) -> None:
    config, auto = transformers.AutoConfig.for_model(architecture, **sizes), transformers.AutoModel
    with torch.device("meta"):
        model = auto.from_config(config)  # type: ignore[no-untyped-call]  # theirs
        adapted = adapters.build("bottleneck", model, placement=placement)
    assert adapted.get_nb_trainable_parameters()[0] == count


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5", "llama"])
def test_a_zero_up_projection_begins_as_the_model(
    architecture: str, tiny: Tiny, texts: Texts
) -> None:
    base, batch = tiny(architecture), texts(architecture)
    expected = base(**batch).logits
    adapted = adapters.build("bottleneck", base, reduction_factor=4, zero_init_up=True)
    torch.testing.assert_close(adapted(**batch).logits, expected, rtol=0, atol=0)
    downs = [each["down.weight"] for each in networks(adapted)]
    assert all(bool(weight.any()) for weight in downs)


def test_first_weights_have_the_deviation_asked_for_and_biases_are_zero() -> None:
    base = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1, vocab_size=10))
    torch.manual_seed(0)
    adapted = adapters.build("bottleneck", base)
    for weights in networks(adapted):
        for part in ("down", "up"):  # 36,864 draws: the relative error of the deviation is 0.4 %
            assert abs(weights[f"{part}.weight"].std().item() / 0.02 - 1) < 0.03
            assert not weights[f"{part}.bias"].any()


def test_own_norms_stand_before_and_after_the_network(tiny: Tiny, stirred: Stirred) -> None:
    model = stirred(adapters.build("bottleneck", tiny("gpt2"), ln_before=True, ln_after=True))
    layer = model.get_submodule("base_model.model.transformer.h.0.mlp.dropout")
    parts = {
        name.removeprefix("dpft_bottleneck_").replace(".default", ""): parameter
        for name, parameter in layer.named_parameters()
    }
    hidden = torch.randn(2, 3, 16)

    def norm(value: torch.Tensor, part: str) -> torch.Tensor:
        centred = value - value.mean(-1, keepdim=True)
        unit = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return unit * parts[f"{part}.weight"] + parts[f"{part}.bias"]

    inside = network(norm(hidden, "norm_before"), parts, functional.silu)
    torch.testing.assert_close(layer(hidden), hidden + norm(inside, "norm_after"))


@pytest.mark.parametrize(
    ("chosen", "pattern", "layers"),
    [([1], None, {"1"}), (0, None, {"0"}), ([1], "h", {"1"}), ([0, 1], ["h"], {"0", "1"})],
)
@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_chosen_blocks_alone_are_adapted(
    placement: str, chosen: Any, pattern: Any, layers: set[str], tiny: Tiny
) -> None:
    model = adapters.build(
        "bottleneck",
        tiny("gpt2"),
        placement=placement,
        layers_to_transform=chosen,
        layers_pattern=pattern,
    )
    tuner: Any = model.base_model
    assert {name.split(".")[2] for name in tuner.targeted_module_names} == layers


def test_targets_given_by_hand_serve_an_unknown_architecture() -> None:
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(ConfigurationError, match=r"model_type=custom .*target_modules="):
        get_peft_model(plain, BottleneckConfig(reduction_factor=2))
    model = get_peft_model(plain, BottleneckConfig(reduction_factor=2, target_modules=["0", "2"]))
    assert [each["down.weight"].shape for each in networks(model)] == [(4, 8), (2, 4)]
    assert model(torch.randn(3, 6)).shape == (3, 4)


def test_unknown_architecture_is_refused_when_configured() -> None:
    with pytest.raises(ConfigurationError, match=r"model_type=mamba .*the norm after the feed"):
        configure("mamba", "SEQ_CLS")
    assert configure("mamba", None, target_modules=["mixer"]).target_modules == {"mixer"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"placement": "parallel"}, "placement=parallel to be one of houlsby, pfeiffer"),
        ({"reduction_factor": 0}, "reduction_factor=0 >= 1"),
        ({"reduction_factor": float("nan")}, "reduction_factor=nan >= 1"),
        ({"reduction_factor": True}, "reduction_factor=True >= 1"),
        ({"non_linearity": "swich"}, "non_linearity=swich"),
        ({"non_linearity": "prelu"}, "non_linearity=prelu"),
        ({"init_std": -0.1}, "init_std=-0.1 >= 0"),
        ({"init_std": float("inf")}, "init_std=inf >= 0"),
        ({"bias": "all"}, "bias=all to be none"),
    ],
)
def test_bad_values_are_refused_when_configured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        configure("bert", "SEQ_CLS", **options)


def test_a_reduction_that_leaves_no_unit_is_refused_and_leaves_the_model_whole(tiny: Tiny) -> None:
    model = tiny("bert")
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(ConfigurationError, match="reduction_factor=17 to be at most the width 16"):
        adapters.build("bottleneck", model, reduction_factor=17)
    assert [name for name, _ in model.named_modules()] == names


def test_a_target_too_narrow_is_refused_before_any_module_is_replaced() -> None:
    plain = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))
    config = BottleneckConfig(reduction_factor=4, target_modules=["0", "1"])
    with pytest.raises(ConfigurationError, match="the width 2 of the model"):
        get_peft_model(plain, config)
    assert [type(module) for module in plain] == [nn.Linear, nn.Linear]


def test_a_target_of_unknown_width_is_refused() -> None:
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
    with pytest.raises(ConfigurationError, match="target=1 to be a linear layer"):
        get_peft_model(plain, BottleneckConfig(target_modules=["1"]))


def test_the_activation_follows_the_placement_unless_given() -> None:
    assert configure("bert", None).non_linearity == "swish"
    assert configure("bert", None, placement="pfeiffer").non_linearity == "relu"
    assert configure("bert", None, placement="pfeiffer", non_linearity="gelu").to_dict()[
        "non_linearity"
    ] == ("gelu")


ORDERS = [(one, other) for one in ("houlsby", "pfeiffer") for other in ("houlsby", "pfeiffer")]


def bottleneck(base: PreTrainedModel, placement: str) -> PeftModel:
    options = {"placement": placement, "reduction_factor": 4, "init_std": 0.5}
    return adapters.build("bottleneck", base, **options)


@pytest.mark.parametrize(("first", "second"), ORDERS)
@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "gpt2", "t5", "llama"])
def test_two_placements_live_side_by_side_or_are_refused(
    architecture: str, first: str, second: str, tiny: Tiny, texts: Texts, tmp_path: Path
) -> None:
    batch = texts(architecture)
    alone, both = bottleneck(tiny(architecture), second), bottleneck(tiny(architecture), first)
    alone.save_pretrained(str(tmp_path / "alone"))
    before, state = both(**batch).logits, [*both.state_dict()]
    if first != second and architecture not in ENCODERS:  # there, one place lies in the other
        with pytest.raises(ConfigurationError, match="neither to contain nor to lie inside"):
            both.add_adapter("second", alone.peft_config["default"])
        with pytest.raises(ConfigurationError, match="neither to contain nor to lie inside"):
            both.load_adapter(str(tmp_path / "alone"), "second")
        assert [*both.state_dict()] == state
        assert [*both.peft_config] == ["default"]
        assert torch.equal(both(**batch).logits, before)
        return
    both.load_adapter(str(tmp_path / "alone"), "second")
    both.set_adapter("second")
    assert torch.equal(both(**batch).logits, alone(**batch).logits)
    both.save_pretrained(str(tmp_path))
    again = PeftModel.from_pretrained(tiny(architecture), str(tmp_path))
    again.load_adapter(str(tmp_path / "second"), "second")
    assert torch.equal(again(**batch).logits, before)
    again.set_adapter("second")
    assert torch.equal(again(**batch).logits, alone(**batch).logits)


def gradients(model: PeftModel, batch: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    model.zero_grad()
    model(**batch, use_cache=False).logits.square().mean().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_gradient_checkpointing_changes_no_gradient(
    placement: str, tiny: Tiny, texts: Texts
) -> None:
    model = adapters.build("bottleneck", tiny("llama"), placement=placement, reduction_factor=4)
    batch = texts("llama")
    expected = gradients(model.train(), batch)
    model.enable_input_require_grads()
    model.activation_checkpointing_enable()
    torch.testing.assert_close(gradients(model, batch), expected, rtol=0, atol=1e-7)
    assert expected


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_generation_with_a_cache_equals_generation_without(placement: str, tiny: Tiny) -> None:
    model = adapters.build("bottleneck", tiny("gpt2"), placement=placement, init_std=0.5)
    words = torch.tensor([[5, 6, 7]])
    mask = torch.ones_like(words)
    settings: Any = {"input_ids": words, "attention_mask": mask, "max_new_tokens": 5}
    generate: Any = model.generate
    made = [generate(**settings, use_cache=use) for use in (True, False)]
    assert made[0].tolist() == made[1].tolist()
