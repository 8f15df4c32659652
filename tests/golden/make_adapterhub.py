"""Writes what AdapterHub's adapters compute, as figures to compare ours with.

Run by hand, in an environment of its own: AdapterHub's distribution has the bare name of our folder
and asks for an older transformers. Written with Python 3.11, torch 2.13.0, transformers 4.57.6 and
adapters 1.3.0, from any folder but the root of the repository:

    pip install torch==2.13.0 adapters==1.3.0 transformers==4.57.6
    cd tests/golden && python make_adapterhub.py

A file holds, for one architecture, the model's weights under `base.`, and by method the adapters'
weights `METHOD.NUMBER.PART` in the order of the model, and the model's last hidden states
`METHOD.hidden`. The models are random and tiny. `tests/adapters/test_golden.py` reads the files.
"""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).parent
WORDS, TOKENS, WIDTH = 12, 5, 8
COMPACTER = "reduction_factor=2, phm_dim=2, phm_rank=2, non_linearity='gelu_new'"
# Method -> AdapterHub's name of it, with options.
METHODS = {
    "houlsby": "double_seq_bn[reduction_factor=2]",
    "pfeiffer": "seq_bn[reduction_factor=2]",
    "compacter": f"compacter[{COMPACTER}]",
    "feed_forward": f"compacter[{COMPACTER}, mh_adapter=False]",
}
PARTS = {  # AdapterHub's ending -> ours
    "adapter_down.0.weight": "down.weight",
    "adapter_down.0.bias": "down.bias",
    "adapter_up.weight": "up.weight",
    "adapter_up.bias": "up.bias",
    "adapter_down.0.W_left": "down.left",
    "adapter_down.0.W_right": "down.right",
    "adapter_down.0.b": "down.bias",
    "adapter_up.W_left": "up.left",
    "adapter_up.W_right": "up.right",
    "adapter_up.b": "up.bias",
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {
        "vocab_size": WORDS,
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 8,
    },
    "gpt2": {
        "vocab_size": WORDS,
        "n_embd": WIDTH,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 8,
        "bos_token_id": 1,
        "eos_token_id": 1,
    },
    "t5": {
        "vocab_size": WORDS,
        "d_model": WIDTH,
        "d_kv": 4,
        "d_ff": 12,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    },
}


def main() -> None:
    """Write a file for every architecture and one for the PHM map."""
    for architecture, sizes in CONFIGS.items():
        tensors = dict(_figures(architecture, sizes))
        metadata = {"config": json.dumps(sizes)}
        save_file(tensors, HERE / f"adapterhub_{architecture}.safetensors", metadata)
    save_file(dict(_maps()), HERE / "adapterhub_phm.safetensors")


def _figures(architecture: str, sizes: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    torch.manual_seed(0)
    batch = _batch(architecture)
    yield from batch.items()
    config = transformers.AutoConfig.for_model(architecture, **sizes)
    make: Any = transformers.AutoModel.from_config  # has no annotations
    model = make(config, attn_implementation="eager").eval()
    _stir(model.parameters(), 0.3)
    for name, parameter in model.named_parameters():  # tied ones come once
        yield f"base.{name}", parameter.detach().clone()
    yield "base.hidden", model(**batch).last_hidden_state.detach()
    import_module("adapters").init(model)
    for method, option in METHODS.items():
        model.add_adapter(method, config=option)
        model.set_active_adapters(method)
        yield from _adapters(model, method)
        yield f"{method}.hidden", model(**batch).last_hidden_state.detach()


def _batch(architecture: str) -> dict[str, torch.Tensor]:
    mask = torch.ones(2, TOKENS, dtype=torch.long)
    mask[1, TOKENS - 2 :] = 0
    batch = {"input_ids": torch.randint(2, WORDS, (2, TOKENS)), "attention_mask": mask}
    if architecture == "t5":
        batch["decoder_input_ids"] = torch.randint(2, WORDS, (2, TOKENS - 1))
    return batch


def _adapters(model: Any, method: str) -> Iterator[tuple[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        layer, _, part = name.partition(f".{method}.")
        if part in PARTS:
            found.setdefault(layer, {})[PARTS[part]] = parameter
    for number, layer in enumerate(found.values()):
        for part, parameter in layer.items():
            _stir([parameter], 0.3)
            yield f"{method}.{number}.{part}", parameter.detach().clone()
    if METHODS[method].startswith("compacter"):
        rule = model.base_model.shared_parameters[method]["phm_rule"]
        _stir([rule], 1.0)
        yield f"{method}.rule", rule.detach().clone()


def _maps() -> Iterator[tuple[str, torch.Tensor]]:
    modeling = import_module("adapters.methods.modeling")
    for factorised in (False, True):
        kind = "factorised" if factorised else "full"
        config = import_module("adapters").CompacterConfig(
            phm_dim=3, phm_rank=2, shared_phm_rule=False, factorized_phm_rule=factorised
        )
        layer = modeling.PHMLayer("trial", 12, 6, "down", config)
        _stir(layer.parameters(), 1.0)
        for name, parameter in layer.named_parameters():
            yield f"{kind}.{name}", parameter.detach().clone()
        x = torch.randn(4, 12)
        yield f"{kind}.x", x
        yield f"{kind}.y", layer(x).detach()


def _stir(parameters: Any, std: float) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=std)


if __name__ == "__main__":
    main()
