"""What the exactness table compares with, in float64 and without our algebra.

Of changes of weights, each adapter's delta is written out layer by layer, and the base model runs
with base weights + sum of w_i delta_i. Of what is no change of weights, the forward pass of the
weighted sum is written out. With weight 1, each must do what peft's own forward pass does.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from peft.tuners.ia3 import IA3Layer
from peft.tuners.ln_tuning.layer import LNTuningLayer
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import DynamicCache
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from benchmarks.taskvector_cases import Trained
from benchmarks.taskvector_models import Probe, outputs_of

__all__ = ["Changes", "Outputs", "changes_in", "reference_of", "summed", "with_changes"]

Changes = Mapping[str, torch.Tensor]
"""What is added to parameters, by name, in float64."""
Outputs = Callable[[Mapping[str, float]], torch.Tensor]
"""From coefficients to outputs in float64; with none, those of the model as training began."""
_ADAPTER = "default"
_ROWS = "prompt_embeddings"
_Changed = Iterator[tuple[str, torch.Tensor]]


def reference_of(made: Trained, probe: Probe) -> Outputs:
    """Return what computes the outputs that weighted sums of a row's adapters should have.

    Args:
        made: The row's models.
        probe: The batch.

    Privacy:
        Nothing, no data touched.
    """
    base: Any = copy.deepcopy(made.base).double()
    kinds = {"bottleneck": _networks, "compacter": _networks, "prompt": _prompts, "prefix": _prefix}
    if made.case.method in kinds:
        return kinds[made.case.method](made, base, probe)
    deltas = {name: changes_in(made.base, model) for name, model in made.models.items()}
    return lambda weights: with_changes(base, summed(deltas, weights), probe)


def with_changes(base: nn.Module, changes: Changes, probe: Probe) -> torch.Tensor:
    """Return the outputs of the base model with something added to its weights.

    Args:
        base: In float64; it stays as it is.
        changes: What to add.
        probe: The batch.

    Privacy:
        Nothing, no data touched.
    """
    weights = {name: base.get_parameter(name) + added for name, added in changes.items()}
    with torch.no_grad():
        return outputs_of(torch.func.functional_call(base, weights, (), dict(probe)))


def summed(deltas: Mapping[str, Changes], weights: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """Return sum of w_i delta_i, by a plain loop.

    Args:
        deltas: By name of the adapter.
        weights: Coefficients.

    Privacy:
        Nothing, no data touched.
    """
    total: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        for place, added in deltas[name].items():
            total[place] = total.get(place, torch.zeros_like(added)) + weight * added
    return total


def changes_in(base: nn.Module, model: Any, adapter: str = "default") -> dict[str, torch.Tensor]:
    """Return what an adapter adds to the weights, written out from its formula.

    Args:
        base: The model before.
        model: With adapters of peft, or with changed weights.
        adapter: Which adapter.

    Privacy:
        Nothing, no data touched.

    References:
        LoRA: Hu et al. 2021, equation 3. DoRA: Liu et al. 2024, equation 5. (IA)³: Liu et al. 2022,
        section 3.3, additive: W l - W.
    """
    if not hasattr(model, "peft_config"):
        return dict(_differences(base, model))
    inside = model.get_base_model()
    changes: dict[str, torch.Tensor] = {}
    for key, module in inside.named_modules():
        changes |= dict(_of_module(base, key, module, adapter))
    if getattr(model.peft_config[adapter], "bias", "none") == "all":
        changes |= dict(_differences(base, inside))
    return changes


def _of_module(base: nn.Module, key: str, module: Any, adapter: str) -> _Changed:
    if isinstance(module, LoraLayer):
        yield from _of_lora(base, key, module, adapter)
    elif isinstance(module, IA3Layer):
        yield from _of_ia3(key, module, adapter)
    elif isinstance(module, LNTuningLayer):
        copied = module.ln_tuning_layers[adapter]
        yield from _prefixed(key, _differences(base.get_submodule(key), copied))
    elif isinstance(module, ModulesToSaveWrapper):
        copied = module.modules_to_save[adapter]
        yield from _prefixed(key, _differences(base.get_submodule(key), copied))


def _of_lora(base: nn.Module, key: str, layer: Any, adapter: str) -> _Changed:
    inside, scaling = layer.get_base_layer(), layer.scaling.get(adapter, 0.0)
    began = base.get_submodule(key).weight.double()
    if adapter in layer.lora_embedding_A:
        right, left = layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter]
        yield f"{key}.weight", (scaling * left.double() @ right.double()).T.detach()
        return
    if adapter not in layer.lora_A:
        return
    up, down = layer.lora_B[adapter], layer.lora_A[adapter]
    change = scaling * (up.weight.double() @ down.weight.double())
    if up.bias is not None:
        yield f"{key}.bias", scaling * up.bias.detach().double()
    magnitude = layer.lora_magnitude_vector
    if adapter in magnitude:
        directed = began + change
        scale = magnitude[adapter].weight.double() / directed.norm(dim=1)
        change = scale[:, None] * directed - began
    change = change.T if isinstance(inside, Conv1D) else change
    # PiSSA takes a part of the base weight out
    yield f"{key}.weight", (change + (inside.weight.double() - began)).detach()


def _of_ia3(key: str, layer: Any, adapter: str) -> _Changed:
    factor, inside = layer.ia3_l[adapter].detach().double(), layer.get_base_layer()
    shaped = factor.T if isinstance(inside, Conv1D) else factor
    weight = inside.weight.double()
    yield f"{key}.weight", (weight * shaped - weight).detach()
    if not layer.is_feedforward and inside.bias is not None:
        bias = inside.bias.double()
        yield f"{key}.bias", (bias * factor.flatten() - bias).detach()


def _differences(before: nn.Module, after: nn.Module) -> _Changed:
    found = dict(after.named_parameters())
    for name, parameter in before.named_parameters():
        yield name, (found[name].double() - parameter.double()).detach()


def _prefixed(key: str, changes: _Changed) -> _Changed:
    yield from ((f"{key}.{name}", added) for name, added in changes)


def _networks(made: Trained, base: Any, probe: Probe) -> Outputs:
    """Add the weighted networks, each computed by itself, to what their modules return."""
    networks = {name: _network_maps(model) for name, model in made.models.items()}
    activation = ACT2FN[next(iter(made.models.values())).peft_config[_ADAPTER].non_linearity]

    def outputs(weights: Mapping[str, float]) -> torch.Tensor:
        def add(key: str, given: torch.Tensor) -> torch.Tensor:
            total = given.clone()
            for name, weight in weights.items():
                down, down_bias, up, up_bias = networks[name][key]
                total += weight * (activation(given @ down.T + down_bias) @ up.T + up_bias)
            return total

        hooks = [
            base.get_submodule(key).register_forward_hook(
                lambda module, args, given, key=key: add(key, given)  # noqa: ARG005 - as called
            )
            for key in networks["a"]
        ]
        with torch.no_grad():
            made_outputs = outputs_of(base(**probe))
        for hook in hooks:
            hook.remove()
        return made_outputs

    return outputs


def _network_maps(model: Any) -> dict[str, tuple[torch.Tensor, ...]]:
    """Return W_down, b_down, W_up and b_up by module; of Compacter by Kronecker products."""
    found = {}
    for key, layer in model.get_base_model().named_modules():
        if hasattr(layer, "dpft_bottleneck_down"):
            sides = (layer.dpft_bottleneck_down[_ADAPTER], layer.dpft_bottleneck_up[_ADAPTER])
            pairs = [(side.weight, side.bias) for side in sides]
        elif hasattr(layer, "dpft_compacter_down"):
            rule = model.base_model.dpft_compacter_rule[_ADAPTER]()
            sides = (layer.dpft_compacter_down[_ADAPTER], layer.dpft_compacter_up[_ADAPTER])
            pairs = [(_phm(rule, side), side.bias) for side in sides]
        else:
            continue
        found[key] = tuple(tensor.detach().double() for pair in pairs for tensor in pair)
    return found


def _phm(rule: torch.Tensor, side: Any) -> torch.Tensor:
    terms = [
        torch.kron(each.double(), left.double() @ right.double())
        for each, left, right in zip(rule, side.left, side.right, strict=True)
    ]
    return torch.stack(terms).sum(0).T


def _prompts(made: Trained, base: Any, probe: Probe) -> Outputs:
    words = base.get_input_embeddings()(probe["input_ids"])

    def outputs(weights: Mapping[str, float]) -> torch.Tensor:
        rows = _rows(made, weights).expand(len(words), -1, -1)
        with torch.no_grad():
            return outputs_of(base(inputs_embeds=torch.cat([rows, words], 1)))

    return outputs


def _prefix(made: Trained, base: Any, probe: Probe) -> Outputs:
    """Put keys and values of the summed rows before those of every layer."""
    records, heads = len(probe["input_ids"]), base.config.n_head
    ones = probe["attention_mask"]

    def outputs(weights: Mapping[str, float]) -> torch.Tensor:
        rows = _rows(made, weights)
        cache = DynamicCache()
        for layer, pair in enumerate(rows.chunk(base.config.n_layer, dim=1)):
            sides = [
                side.reshape(len(rows), heads, -1).transpose(0, 1).expand(records, -1, -1, -1)
                for side in pair.chunk(2, dim=1)
            ]
            cache.update(sides[0], sides[1], layer)
        mask = torch.cat([ones.new_ones(records, len(rows)), ones], 1)
        given = {"input_ids": probe["input_ids"], "attention_mask": mask}
        with torch.no_grad():
            return outputs_of(base(**given, past_key_values=cache))

    return outputs


def _rows(made: Trained, weights: Mapping[str, float]) -> torch.Tensor:
    """Return start + sum of w_i (rows_i - start)."""
    start = made.starts["a"][_ROWS].double()
    total = start.clone()
    for name, weight in weights.items():
        rows = made.models[name].get_prompt_embedding_to_save(_ADAPTER).detach().double()
        total += weight * (rows - start)
    return total
