"""FFA-LoRA (Sun et al. 2024): LoRA whose first factor A is drawn once and never trained.

With A public and fixed, y = W x + s B A x is linear in what is trained: noise on B stays linear,
and a sum of such adapters is one of the same rank.

On disk it is an ordinary LoRA, so that any peft loads it; the seed of A stands in the file's
`auto_mapping`, which peft reads for other names only. In memory it is a method of its own,
because peft's LoRA would make A trainable again at every `set_adapter`. What peft reads back from
the file by itself is therefore a LoRA: right for prediction, with A trainable under
`is_trainable=True`. `dpft.fit` refuses to train that (`refuse_thawed`); hand the configuration to
peft instead, and A stays frozen:

    config = ffa_lora.read(folder)
    model = PeftModel.from_pretrained(base, folder, config=config, is_trainable=True)
"""

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, LoraModel, PeftConfig, PeftType, mapping
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from dpft.adapters.lora import filled_in
from dpft.adapters.options import fill
from dpft.adapters.registration import MethodType, register_method
from dpft.adapters.registry import AdapterName, register
from dpft.errors import ConfigurationError

__all__ = ["TYPE", "FfaLoraConfig", "FfaLoraModel", "configure", "read", "refuse_thawed"]

TYPE = MethodType("DPFT_FFA_LORA")
_MARK = "dpft_ffa_lora_seed"  # in the file's auto_mapping
_FROZEN = "lora_A"


@dataclasses.dataclass
class FfaLoraConfig(LoraConfig):
    """Configuration of FFA-LoRA; saved as that of a LoRA.

    Args:
        seed: Public seed of A, at least 0. Adapters of the same seed add up at constant rank.

    Raises:
        ConfigurationError: If another start of A, or DoRA, is asked for.

    Privacy:
        Nothing, no data touched: A depends on the seed and the names of the layers alone.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # theirs
        self.peft_type = TYPE
        self.auto_mapping = {**(self.auto_mapping or {}), _MARK: self.seed}
        if self.init_lora_weights is not True or self.use_dora or self.seed < 0:
            raise ConfigurationError(
                f"Expected init_lora_weights=True, use_dora=False and seed={self.seed} >= 0 with "
                "adapter=ffa_lora. A is drawn from the public seed, and what is trained must enter "
                "linearly. Leave these options out, or choose adapter=lora."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of an ordinary LoRA, with the seed in `auto_mapping`."""
        fields: dict[str, Any] = super().to_dict()  # type: ignore[no-untyped-call]  # theirs
        del fields["seed"]
        return fields | {"peft_type": PeftType.LORA}

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write `adapter_config.json`, the seed included where peft fills `auto_mapping` itself."""
        classes = kwargs.pop("auto_mapping_dict", None)
        if classes is not None:
            kwargs["auto_mapping_dict"] = {**classes, _MARK: self.seed}
        super().save_pretrained(save_directory, **kwargs)


class FfaLoraModel(LoraModel):
    """peft's LoRA, with A drawn from the seed and declared frozen to peft."""

    def _prepare_model(self, peft_config: PeftConfig, model: nn.Module) -> None:
        assert isinstance(peft_config, LoraConfig)
        # Before any module is replaced, so that a refusal leaves the model whole.
        if peft_config.target_parameters:
            raise ConfigurationError(_unfit_target(", ".join(peft_config.target_parameters)))
        inside = tuple(
            f"{key}." for key, module in model.named_modules() if isinstance(module, BaseTunerLayer)
        )
        for key, module in model.named_modules():
            is_target = key and self._check_target_module_exists(peft_config, key)
            if not is_target or key.startswith(inside):
                continue
            base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
            if not isinstance(base, nn.Linear | Conv1D):
                raise ConfigurationError(_unfit_target(key))
        super()._prepare_model(peft_config, model)

    def _create_and_replace(self, *place: Any, current_key: str, **options: Any) -> None:  # type: ignore[override]  # peft names current_key alone
        super()._create_and_replace(*place, current_key=current_key, **options)  # type: ignore[misc]  # as peft calls it
        config, adapter_name, _, name, parent = place
        layer = getattr(parent, name)
        if not isinstance(layer, Linear):  # a quantised one, which looks linear before
            raise ConfigurationError(_unfit_target(current_key))
        _draw(layer.lora_A.get_parameter(f"{adapter_name}.weight"), config.seed, current_key)
        _freeze(layer, adapter_name)


def configure(model_type: str, task_type: str | None, **options: Any) -> FfaLoraConfig:
    """Configure FFA-LoRA on the query and value projections.

    y = W x + (lora_alpha / r) B A x with B from 0 and A [r, inputs] uniform in ±1/sqrt(inputs), as
    peft draws it, but from `seed` and the name of the layer.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.
        **options: Fields of `FfaLoraConfig`, which are those of `peft.LoraConfig` and `seed`.

    Returns:
        The configuration.

    Raises:
        ConfigurationError: As for LoRA, or if A is to start otherwise.

    Privacy:
        Nothing, no data touched.

    References:
        Sun et al. 2024 (2403.12313), section 3.
    """
    return fill(FfaLoraConfig, filled_in(model_type, task_type, options), options)


def read(folder: str | Path) -> FfaLoraConfig:
    """Read the configuration of a saved FFA-LoRA, to train it further.

    Args:
        folder: Folder of the adapter.

    Returns:
        The configuration, for `PeftModel.from_pretrained(..., config=...)`.

    Raises:
        ConfigurationError: If the folder holds another adapter.

    Privacy:
        Nothing, no data touched.
    """
    plain = PeftConfig.from_pretrained(str(folder))
    seed = (plain.auto_mapping or {}).get(_MARK)
    if seed is None or not isinstance(plain, LoraConfig):
        raise ConfigurationError(
            f"Expected folder={folder} to hold an FFA-LoRA. The seed of its first factor is not "
            "recorded. Name a folder that was saved from adapter=ffa_lora."
        )
    fields = {
        field.name: getattr(plain, field.name)
        for field in dataclasses.fields(plain)
        if field.init and field.name != "peft_type"
    }
    return FfaLoraConfig(**fields, seed=seed)


def refuse_thawed(model: nn.Module) -> None:
    """Raise if a saved FFA-LoRA was loaded in such a way that A would be trained.

    Args:
        model: Any model.

    Raises:
        ConfigurationError: Naming the adapter and how to load it.

    Privacy:
        Nothing, no data touched.
    """
    configs: dict[str, Any] = getattr(model, "peft_config", {})  # also of transformers' own
    for name, config in configs.items():
        thawed = any(
            parameter.requires_grad
            for path, parameter in model.named_parameters()
            if path.endswith(f".{_FROZEN}.{name}.weight")
        )
        if thawed and _MARK in (config.auto_mapping or {}):
            raise ConfigurationError(
                f"Expected the first factor of adapter={name} to be frozen: it is an FFA-LoRA, "
                "which peft reads back as a LoRA. Trained further, it would no longer be one. "
                "Load it with PeftModel.from_pretrained(base, folder, "
                "config=dpft.adapters.ffa_lora.read(folder), is_trainable=True)."
            )


def _unfit_target(key: str) -> str:
    return (
        f"Expected target_modules to match linear layers, got {key}. The first factor of other "
        "layers starts at zero and cannot be frozen. Correct it."
    )


def _draw(weight: torch.Tensor, seed: int, layer: str) -> None:
    """Fill A as peft does, from the seed and the layer's name: no order of layers matters."""
    if weight.is_meta:  # peft loads the values afterwards
        return
    digest = hashlib.sha256(f"{seed} {layer}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    drawn = torch.empty(weight.shape)
    nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
    with torch.no_grad():
        weight.copy_(drawn)


def _freeze(layer: Linear, adapter_name: str) -> None:
    """Declare A frozen; peft then keeps it so whenever it sets `requires_grad`."""
    layer.frozen_peft_weight_names = {**layer.frozen_peft_weight_names, adapter_name: (_FROZEN,)}
    layer._freeze_non_trainable_peft_weights(adapter_name)  # noqa: SLF001 - peft's own way


register_method(TYPE, FfaLoraConfig, FfaLoraModel)
_PREFIXES: dict[Any, str] = mapping.PEFT_TYPE_TO_PREFIX_MAPPING
_PREFIXES[TYPE] = LoraModel.prefix  # its parameters bear the names of LoRA's
register(AdapterName.FFA_LORA.value, configure)
