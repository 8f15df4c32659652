"""(IA)³ (Liu et al. 2022), as peft implements it, on the paper's targets.

Vectors l_k, l_v and l_ff, all from 1, scale the keys, the values and what enters the output
projection of the feed-forward network. peft's own targets for BERT and RoBERTa also take in the
output projection of the attention; ours do not: 55,296 parameters on bert-base instead of 64,512.

GPT-2 and DeBERTa compute query, key and value in one matrix, and peft scales all of its outputs.
The queries are then scaled as well, by l_q. In GPT-2 a score is the sum over i of
q_i l_q,i l_k,i k_i: what l_q and l_k reach together, l_k reaches alone, so the functions are those
of the paper, written with 64,512 parameters instead of 55,296 on gpt2. peft cannot freeze a part
of a vector; under noise the surplus costs a little, so prefer LoRA there. In DeBERTa the biases of
query and value are added after the scaling, and the functions differ in that.
"""

from typing import Any

from peft import IA3Config

from dpft.adapters.options import fill
from dpft.adapters.registry import AdapterName, register
from dpft.adapters.targets import head_modules, scaling_targets, stores_weights_transposed
from dpft.errors import ConfigurationError

__all__ = ["configure"]


def configure(model_type: str, task_type: str | None, **options: Any) -> IA3Config:
    """Configure (IA)³ on keys, values and the feed-forward network.

    y = (W x + b) l for keys and values, y = W (x l) + b for the feed-forward network.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.
        **options: Fields of `peft.IA3Config`; they win over what is filled in. Whoever gives
            `target_modules` also gives `feedforward_modules`: those of them whose input is scaled.

    Returns:
        peft's configuration.

    Raises:
        ConfigurationError: If the architecture is unknown and targets are not given, one of
            `target_modules` and `feedforward_modules` is given alone, or an option is unknown.

    Privacy:
        Nothing, no data touched.

    References:
        Liu et al. 2022 (2205.05638), section 3.3.
    """
    filled: dict[str, Any] = {
        "task_type": task_type,
        "fan_in_fan_out": stores_weights_transposed(model_type),
        "modules_to_save": head_modules(model_type, task_type),
    }
    by_hand = {
        name for name in ("target_modules", "feedforward_modules") if options.get(name) is not None
    }
    if len(by_hand) == 1:
        raise ConfigurationError(
            f"Expected {by_hand.pop()} to come with target_modules and feedforward_modules alike. "
            "Which inputs are scaled is never guessed. Give both; the second may be empty."
        )
    return fill(IA3Config, filled if by_hand else filled | _targets(model_type), options)


def _targets(model_type: str) -> dict[str, Any]:
    targets = scaling_targets(model_type)
    return {
        "target_modules": [*targets.outputs, *targets.inputs],
        "feedforward_modules": list(targets.inputs),
        "exclude_modules": list(targets.excluded) or None,
    }


register(AdapterName.IA3.value, configure)
