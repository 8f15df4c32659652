"""Compacter (Mahabadi et al. 2021), as a method of peft: bottleneck adapters of PHM maps.

`A(h) = PHM_up(act(PHM_down(h)))`, at the places of `dpft.adapters.sublayers`. The maps of all
layers take one rule S, n^3 numbers, which lives on the tuner: once in memory, in the optimiser and
in the file. The layers have their own factors and biases, and look the rule up by adapter name.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.utils.integrations import init_empty_weights
from torch import nn
from transformers.activations import ACT2FN

from dpft.adapters.options import fill
from dpft.adapters.phm import PHMLinear, PHMRule, PHMSizes, block_width
from dpft.adapters.registration import MethodType, register_method
from dpft.adapters.registry import register
from dpft.adapters.sublayers import (
    SublayerConfig,
    SublayerLayer,
    SublayerTuner,
    check_activation,
    with_targets,
)
from dpft.adapters.targets import head_modules
from dpft.errors import ConfigurationError

__all__ = ["TYPE", "CompacterConfig", "CompacterLayer", "CompacterModel", "configure"]

TYPE = MethodType("DPFT_COMPACTER")
"""Key of the method in peft's tables and in `adapter_config.json`."""

_PREFIX = "dpft_compacter_"
_RANGE_OF_SHARED = 1e-4  # both as in the authors' code and configurations
_RANGE_OF_OWN = 0.01
_LOW_PRECISION = 2  # bytes; peft keeps adapters of models in less than 32 bits in float32


@dataclass
class CompacterConfig(SublayerConfig):
    """Configuration of Compacter.

    Compacter is `placement=houlsby`, Compacter++ is `placement=feed_forward`.

    Args:
        reduction_factor: The model's width by the adapter's, at least 1, no unit.
        phm_dim: n, number of Kronecker products and of blocks, at least 1; divides the model's
            width and the adapter's.
        phm_rank: k, rank of what acts within the blocks, at least 1.
        shared_rule: Whether all layers share one rule; otherwise each map has its own.
        factorised_rule: Whether a rule is kept as n products of a column and a row.
        phm_init_range: Standard deviation of the rule's initial numbers, above 0; None takes 1e-4
            for a shared rule and 0.01 for others.
        non_linearity: Name of an activation of transformers without parameters.

    Raises:
        ConfigurationError: If a value is out of range.

    Privacy:
        Nothing, no data touched.

    References:
        Mahabadi et al. 2021 (2106.04647), section 3; defaults as in section 4.1.
    """

    reduction_factor: float = 32
    phm_dim: int = 4
    phm_rank: int = 1
    shared_rule: bool = True
    factorised_rule: bool = False
    phm_init_range: float | None = None
    non_linearity: str = "gelu_new"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = TYPE
        for field in ("phm_dim", "phm_rank"):
            _check_count(field, getattr(self, field))
        if self.phm_init_range is None:
            self.phm_init_range = _RANGE_OF_SHARED if self.shared_rule else _RANGE_OF_OWN
        _check_range(self.phm_init_range)
        check_activation(self.non_linearity)

    def rule(self) -> PHMRule:
        """Return a fresh rule.

        Privacy:
            Nothing, no data touched.
        """
        assert self.phm_init_range is not None
        return PHMRule(self.phm_dim, self.phm_init_range, factorised=self.factorised_rule)


class CompacterLayer(SublayerLayer):
    """A module with two PHM maps beside its output.

    References:
        Mahabadi et al. 2021 (2106.04647), equation 6.
    """

    adapter_layer_names = tuple(_PREFIX + part for part in ("down", "up", "down_rule", "up_rule"))
    other_param_names = (*SublayerLayer.other_param_names, "activations")
    dpft_compacter_down: nn.ModuleDict
    dpft_compacter_up: nn.ModuleDict
    dpft_compacter_down_rule: nn.ModuleDict
    dpft_compacter_up_rule: nn.ModuleDict

    def __init__(self, base_layer: nn.Module, width: int, place: torch.Tensor) -> None:
        super().__init__(base_layer, width, place)
        self.activations: dict[str, nn.Module] = {}  # plain: they have no parameters
        self._shared: tuple[nn.ModuleDict, ...] = ()  # in a tuple, so that it is not a child

    @classmethod
    def check(cls, config: CompacterConfig, width: int) -> None:  # type: ignore[override]  # ours
        """Refuse a width that has no n equal blocks, of the model or of the adapter.

        Raises:
            ConfigurationError: If either has none.

        Privacy:
            Nothing, no data touched.
        """
        super().check(config, width)
        block_width(config.phm_dim, "hidden_size", width)
        block_width(config.phm_dim, "hidden_size/reduction_factor", config.width(width))

    def create(self, adapter_name: str, config: CompacterConfig) -> None:
        """Put fresh maps into the containers, and their rules where they are not shared.

        Privacy:
            Nothing, no data touched.
        """
        inner, sizes = config.width(self.width), PHMSizes(config.phm_dim, config.phm_rank)
        self.dpft_compacter_down[adapter_name] = PHMLinear(self.width, inner, sizes)
        self.dpft_compacter_up[adapter_name] = PHMLinear(inner, self.width, sizes)
        if not config.shared_rule:
            self.dpft_compacter_down_rule[adapter_name] = config.rule()
            self.dpft_compacter_up_rule[adapter_name] = config.rule()
        self.activations[adapter_name] = ACT2FN[config.non_linearity]

    def share(self, rules: nn.ModuleDict) -> None:
        """Take the rules that the layers share from where they live.

        Held unregistered, they are neither saved twice nor trained twice; a copy or a pickle of the
        whole model still ties the layers to its own rules.

        Args:
            rules: Rules by adapter name.

        Privacy:
            Nothing, no data touched.
        """
        self._shared = (rules,)

    def delta(self, adapter_name: str, hidden: torch.Tensor) -> torch.Tensor:
        """Return A(hidden).

        Privacy:
            Row b depends on record b alone (`test_gradients_equal_a_loop_over_single_records`).
        """
        down, up = self.dpft_compacter_down[adapter_name], self.dpft_compacter_up[adapter_name]
        rule_down = self._rule(adapter_name, self.dpft_compacter_down_rule, hidden)
        rule_up = self._rule(adapter_name, self.dpft_compacter_up_rule, hidden)
        inner = self.activations[adapter_name](down(hidden, rule_down))
        outer: torch.Tensor = up(inner, rule_up)
        return outer

    def _rule(self, name: str, own: nn.ModuleDict, like: torch.Tensor) -> torch.Tensor:
        (held,) = (own,) if name in own else self._shared
        rule: torch.Tensor = held[name]()
        if rule.device == like.device:
            return rule
        return rule.to(like.device)  # layers may lie on many devices


class CompacterModel(SublayerTuner):
    """Puts Compacter into a model and keeps the shared rules; peft calls it.

    peft trains, freezes and casts what it finds in the layers. Here the rules follow: a shared rule
    is trained when the factors of its adapter are.
    """

    prefix = _PREFIX
    tuner_layer_cls = CompacterLayer
    uses_shared_state = True
    dpft_compacter_rule: nn.ModuleDict

    def _pre_injection_hook(
        self,
        model: nn.Module,  # noqa: ARG002 - as peft calls it
        config: PeftConfig,  # noqa: ARG002 - as peft calls it
        adapter_name: str,  # noqa: ARG002 - as peft calls it
    ) -> None:
        self.dpft_compacter_rule = nn.ModuleDict()

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,  # noqa: FBT001, FBT002 - as peft calls it
        low_cpu_mem_usage: bool = False,  # noqa: FBT001, FBT002 - as peft calls it
        state_dict: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Add an adapter to the model; others are trained or frozen as before.

        Args:
            model: Model to change.
            adapter_name: Name of the adapter.
            autocast_adapter_dtype: As peft has it.
            low_cpu_mem_usage: Whether to leave the parameters on the meta device.
            state_dict: As peft has it.

        Raises:
            ConfigurationError: If the configuration does not fit the model, which stays whole.

        Privacy:
            Nothing, no data touched.
        """
        rules, config = self.dpft_compacter_rule, self.peft_config[adapter_name]
        assert isinstance(config, CompacterConfig)
        before = {parameter: parameter.requires_grad for parameter in rules.parameters()}
        if config.shared_rule:
            rules[adapter_name] = _rule_beside(model, config, on_meta=low_cpu_mem_usage)
        try:
            super().inject_adapter(
                model, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage, state_dict
            )
        except Exception:
            rules._modules.pop(adapter_name, None)  # noqa: SLF001 - its own pop takes no default
            raise
        for layer in self._layers():
            layer.share(rules)
        for parameter, trained in before.items():
            parameter.requires_grad_(trained)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - as peft calls it
        """Make one adapter active and trainable with its rule, or none.

        Raises:
            ConfigurationError: If several are given; nothing has been changed.

        Privacy:
            Nothing, no data touched.
        """
        super().set_adapter(adapter_name, inference_mode=inference_mode)
        self._let_rules_follow()

    def set_requires_grad(
        self,
        adapter_names: str | Sequence[str],
        requires_grad: bool = True,  # noqa: FBT001, FBT002 - as peft calls it
    ) -> None:
        """Train or freeze adapters with their rules.

        Privacy:
            Nothing, no data touched.
        """
        super().set_requires_grad(adapter_names, requires_grad=requires_grad)
        self._let_rules_follow()

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter with its rule.

        Privacy:
            Nothing, no data touched.
        """
        super().delete_adapter(adapter_name)
        self.dpft_compacter_rule._modules.pop(adapter_name, None)  # noqa: SLF001 - as above
        self._let_rules_follow()

    def _enable_adapter_layers(self, enabled: bool = True) -> None:  # noqa: FBT001, FBT002 - as peft calls it
        super()._enable_adapter_layers(enabled)
        self._let_rules_follow()

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:  # noqa: FBT001, FBT002 - as peft calls it
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        if autocast_adapter_dtype and adapter_name in self.dpft_compacter_rule:
            rule = self.dpft_compacter_rule[adapter_name]
            if next(rule.parameters()).element_size() <= _LOW_PRECISION:
                rule.float()

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls,
        model: nn.Module,
        config: PeftConfig,
        adapter_name: str,
        state_dict: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        assert isinstance(config, CompacterConfig)
        _check_rules(config, state_dict)
        remapped: dict[str, torch.Tensor] = super()._remap_adapter_state_dict_for_load(
            model, config, adapter_name, state_dict
        )
        return remapped

    def _layers(self) -> list[CompacterLayer]:
        return [layer for layer in self.model.modules() if isinstance(layer, CompacterLayer)]

    def _let_rules_follow(self) -> None:
        trained = {
            name
            for layer in self._layers()
            for name, down in layer.dpft_compacter_down.items()
            if all(parameter.requires_grad for parameter in down.parameters())
        }
        for name, rule in self.dpft_compacter_rule.items():
            rule.requires_grad_(name in trained)


def configure(model_type: str, task_type: str | None, **options: Any) -> CompacterConfig:
    """Configure Compacter.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.
        **options: Fields of `CompacterConfig`; they win over what is filled in.

    Returns:
        The configuration, with the architecture's targets.

    Raises:
        ConfigurationError: If a value is out of range, or the architecture is unknown and
            `target_modules` is not given.

    Privacy:
        Nothing, no data touched.

    References:
        Mahabadi et al. 2021 (2106.04647). The authors also train the model's norms; name them in
        `modules_to_save` for that.
    """
    filled = {"task_type": task_type, "modules_to_save": head_modules(model_type, task_type)}
    config = fill(CompacterConfig, filled, options)
    with_targets(config, model_type)
    return config


def _rule_beside(model: nn.Module, config: CompacterConfig, *, on_meta: bool) -> PHMRule:
    with init_empty_weights() if on_meta else nullcontext():
        rule = config.rule()
    if next(rule.parameters()).is_meta:  # by our context or by one around us: to be loaded
        return rule
    place = next((each for each in model.parameters() if each.is_floating_point()), torch.empty(0))
    return rule.to(place.device, place.dtype)


def _check_rules(config: CompacterConfig, state: dict[str, torch.Tensor]) -> None:
    ours = [key for key in state if f".{_PREFIX}" in key]
    rules = {key: state[key] for key in ours if "rule." in key}
    shared = [key for key in rules if f".{_PREFIX}rule." in key]
    fits = (
        rules
        and bool(shared) is config.shared_rule
        and {key.rpartition(".")[2] for key in rules} == set(config.rule().state_dict())
        and all(len(rule) == config.phm_dim for rule in rules.values())
    )
    if ours and not fits:
        sizes = sorted({f"{key.rpartition('.')[2]} {tuple(rules[key].shape)}" for key in rules})
        raise ConfigurationError(
            f"Expected the file's rules to be of phm_dim={config.phm_dim}, "
            f"shared_rule={config.shared_rule} and factorised_rule={config.factorised_rule}, found "
            f"{', '.join(sizes) or 'none'}{', shared' if shared else ''}. The factors of one "
            "adapter mean nothing with the rule of another. Load the file under a new name."
        )


def _check_count(field: str, count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigurationError(
            f"Expected {field}={count} to be an integer >= 1. It counts blocks, or columns of a "
            "factor. Choose one such as 4 for phm_dim and 1 for phm_rank."
        )


def _check_range(init_range: float) -> None:
    if not 0 < init_range < float("inf"):
        raise ConfigurationError(
            f"Expected phm_init_range={init_range} > 0 and finite. From a rule of zeros neither it "
            "nor the factors would ever move. Choose a small number such as 1e-4."
        )


register_method(TYPE, CompacterConfig, CompacterModel)
register("compacter", configure)
