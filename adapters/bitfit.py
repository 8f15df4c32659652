"""BitFit (Ben Zaken et al. 2022): every bias of the model is trained, and the head.

peft has no such method by name, but its LoRA trains and saves biases (`bias="all"`), also where it
adapts no layer. So the file is a LoRA that any peft loads. The price is peft's: the biases of the
base model are changed in place, `disable_adapter()` does not restore them and warns of it, they
are left trainable when the file is loaded for prediction, and a model takes only one adapter with
biases. A method of our own would do without, but its files would load with this library alone.
"""

from typing import Any

from peft import LoraConfig
from peft.utils.constants import DUMMY_TARGET_MODULES

from dpft.adapters.options import fill
from dpft.adapters.registry import AdapterName, register
from dpft.adapters.targets import has_biases, head_modules
from dpft.errors import ConfigurationError

__all__ = ["configure"]


def configure(model_type: str, task_type: str | None, **options: Any) -> LoraConfig:
    """Configure the training of all biases.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.
        **options: `modules_to_save`: layers to train whole, beside the head.

    Returns:
        peft's configuration of a LoRA without targets.

    Raises:
        ConfigurationError: If the architecture has no biases, or another option is given.

    Privacy:
        Nothing, no data touched.

    References:
        Ben Zaken et al. 2022 (2106.10199), section 3.
    """
    if not has_biases(model_type):
        raise ConfigurationError(
            f"Expected model_type={model_type} to have biases for adapter=bitfit. There is nothing "
            "to train in it but the head. Choose another adapter, such as lora or ia3."
        )
    others = sorted(name for name in options if name != "modules_to_save")
    if others:
        raise ConfigurationError(
            f"Expected no option but modules_to_save with adapter=bitfit, found "
            f"{', '.join(others)}. All biases are trained, nothing else is adapted. Leave it out."
        )
    filled: dict[str, Any] = {
        "task_type": task_type,
        "target_modules": DUMMY_TARGET_MODULES,
        "bias": "all",
        "modules_to_save": head_modules(model_type, task_type),
    }
    return fill(LoraConfig, filled, options)


register(AdapterName.BITFIT.value, configure)
