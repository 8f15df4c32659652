"""Ours against AdapterHub's figures: `tests/golden/make_adapterhub.py` wrote them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

from dpft import adapters
from dpft.adapters.phm import PHMRule, phm_by_factors, phm_by_one_product

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-6  # float32, the hidden states are of order one
INPUTS = ("input_ids", "attention_mask", "decoder_input_ids")
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "houlsby": ("bottleneck", {"placement": "houlsby"}),
    "pfeiffer": ("bottleneck", {"placement": "pfeiffer"}),
    "compacter": ("compacter", {"phm_dim": 2, "phm_rank": 2}),
    "feed_forward": ("compacter", {"phm_dim": 2, "phm_rank": 2, "placement": "feed_forward"}),
}
FEED_FORWARD_LAYERS = {"bert": 2, "gpt2": 2, "t5": 4}
Figures = dict[str, torch.Tensor]


def figures(architecture: str) -> Figures:
    return load_file(GOLDEN / f"adapterhub_{architecture}.safetensors")


def under(figures_: Figures, prefix: str) -> Figures:
    return {k.removeprefix(prefix): v for k, v in figures_.items() if k.startswith(prefix)}


def base_model(architecture: str) -> Any:
    with safe_open(GOLDEN / f"adapterhub_{architecture}.safetensors", "pt") as file:
        sizes = json.loads(file.metadata()["config"])
    config = transformers.AutoConfig.for_model(architecture, **sizes)
    make: Any = transformers.AutoModel.from_config
    model = make(config, attn_implementation="eager").eval()
    named = dict(model.named_parameters())  # tied ones come once
    weights = under(figures(architecture), "base.")
    weights.pop("hidden")
    assert named.keys() == weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            named[name].copy_(value)
    return model


def fill(model: Any, weights: Figures) -> int:
    """Copy adapters' weights in the order of the model; return how many adapters there are."""
    places: list[str] = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            layer, found, part = name.replace(".default", "").partition(".dpft_")
            if not found or name.endswith(".dpft_compacter_rule.default.full"):
                continue
            if layer not in places:
                places.append(layer)
            part = part.partition("_")[2]
            parameter.copy_(weights.pop(f"{places.index(layer)}.{part}"))
        if "rule" in weights:
            model.base_model.dpft_compacter_rule["default"].full.copy_(weights.pop("rule"))
    assert not weights
    return len(places)


@pytest.mark.parametrize("method", OPTIONS)
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_hidden_states_equal_those_of_adapterhub(architecture: str, method: str) -> None:
    stored = figures(architecture)
    batch = {name: stored[name] for name in INPUTS if name in stored}
    model = base_model(architecture)
    bare = model(**batch).last_hidden_state
    torch.testing.assert_close(bare, stored["base.hidden"], rtol=0, atol=TOLERANCE)
    name, options = OPTIONS[method]
    adapted = adapters.build(name, model, reduction_factor=2, **options).eval()
    weights = under(stored, f"{method}.")
    expected = weights.pop("hidden")
    halves = 2 if method in {"houlsby", "compacter"} else 1
    assert fill(adapted, weights) == halves * FEED_FORWARD_LAYERS[architecture]
    assert (expected - bare).abs().max().item() > 1e-2  # the adapters change something
    got = adapted(**batch).last_hidden_state
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("form", [phm_by_factors, phm_by_one_product])
@pytest.mark.parametrize("kind", ["full", "factorised"])
def test_the_phm_map_equals_that_of_adapterhub(kind: str, form: Any) -> None:
    stored = under(figures("phm"), f"{kind}.")
    rule = PHMRule(3, 1.0, factorised=kind == "factorised")
    parts = {"phm_rule": "full", "phm_rule_left": "left", "phm_rule_right": "right"}
    rule.load_state_dict({parts[k]: v for k, v in stored.items() if k in parts})
    got = form(stored["x"], rule(), stored["W_left"], stored["W_right"], stored["b"])
    size = stored["y"].abs().max().item()
    torch.testing.assert_close(got, stored["y"], rtol=0, atol=TOLERANCE * size)
