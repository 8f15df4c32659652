"""Models and module states that are refused by name, before anything is computed.

Names are looked up among a class's ancestors, so that a subclass is refused like its parent, and a
library that is not installed need not be imported.
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from dpft.errors import BrokenGuaranteeError, UnsupportedError

__all__ = [
    "refuse_other_parameters",
    "refuse_records_without_weights",
    "refuse_unsupported",
    "refuse_unsupported_optimizer",
]

_COMPILED = "compiled code cannot be intercepted"
_ATTACHED = "another engine is already attached"
_REASONS = {
    "wrapped": {
        "AbstractGradSampleModule": _ATTACHED,
        "DataParallel": "it would split records between replicas unseen",
        "DeepSpeedEngine": "it would reduce un-clipped gradients",
        "DistributedDataParallel": "it would reduce un-clipped gradients",
        "FullyShardedDataParallel": "its parameters are sharded",
        "OptimizedModule": _COMPILED,
        "ScriptModule": _COMPILED,
    },
    "coupling": {
        "FakeQuantizeBase": "it takes one scale from all records",
        "Float8Linear": "it takes one scale from all records, or from earlier steps",
        "ObserverBase": "it gathers statistics over records",
    },
    "coupling in training": {"_BatchNorm": "batch statistics couple records"},
    "outliers": {"Linear8bitLt": "its outlier columns are chosen over all records"},
}
_COUPLING_FOLDERS = ("torch.ao.nn.quantized.dynamic", "transformer_engine.")
_QUANTISED_ACTIVATIONS = "LinearActivationQuantizedTensor"


def refuse_unsupported(
    model: nn.Module, modules: Sequence[tuple[str, nn.Module]] | None = None
) -> None:
    """Raise if the model contains what cannot be clipped exactly.

    Args:
        model: The model in the state in which it will train.
        modules: All its modules by name as they are now, if they were just listed; unset: listed.

    Raises:
        UnsupportedError: Naming the module, the reason and the remedy.

    Privacy:
        Fails closed before any record is touched (`tests/dpft/engine/test_refused_by_name.py`).
    """
    for name, module in model.named_modules() if modules is None else modules:
        reasons = _reasons(type(module).__mro__)
        _refuse_wrapper(name, module, reasons)
        _refuse_coupling(name, module, reasons)
        _refuse_offloaded(name, module, model)
        _refuse_inactive_adapter(name, module)


def refuse_records_without_weights(
    parameters: Mapping[str, nn.Parameter], batch: Mapping[str, torch.Tensor]
) -> None:
    """Raise if a batch has values and trainable parameters have none.

    A model that is on the meta device as a whole is taken, to learn sizes; nothing else may meet
    it, since something would have to put values in the place of what is trained.

    Args:
        parameters: Trainable parameters by name.
        batch: What the model is run on.

    Raises:
        UnsupportedError: Naming a parameter on the meta device.

    Privacy:
        Fails closed before any record is touched
        (`test_a_model_of_shapes_alone_meets_no_records`).
    """
    empty = [name for name, parameter in parameters.items() if parameter.is_meta]
    if empty and not all(value.is_meta for value in batch.values()):
        raise UnsupportedError(
            f"Expected trainable parameters to stay in memory, got {empty[0]} on the meta device. "
            "What meets the records would not be what is trained. Load the model's weights."
        )


def refuse_unsupported_optimizer(optimizer: object) -> None:
    """Raise if an optimiser would compute, scale or clip gradients by itself.

    Args:
        optimizer: What is to step on the noised gradients.

    Raises:
        UnsupportedError: Naming the reason and the remedy.

    Privacy:
        Nothing, no data touched. A closure would differentiate the loss without clipping or noise;
        scaling and clipping after the noise change what the report says of it
        (`tests/dpft/test_step_refusals.py`).
    """
    kind = type(optimizer).__name__
    if not isinstance(optimizer, Optimizer) or getattr(optimizer, "scaler", None) is not None:
        raise UnsupportedError(
            f"Expected a torch optimiser, got {kind}. Gradients that are scaled, or skipped when "
            "not finite, are not those that were clipped and noised. Pass the optimiser itself; "
            "bfloat16 needs no GradScaler."
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UnsupportedError(
            f"Expected an optimiser that steps without a closure, got {kind}. A closure computes "
            "gradients that are neither clipped nor noised. Use SGD, Adam or the like."
        )
    if optimizer._optimizer_step_pre_hooks:  # noqa: SLF001 - torch offers no other
        raise UnsupportedError(
            f"Expected no hook before the step of {kind}. It could change gradients after clipping "
            "and noise, as gradient clipping does. Remove it; the engine bounds every record."
        )


def refuse_other_parameters(optimizer: Any, trained: Mapping[str, nn.Parameter]) -> None:
    """Raise unless an optimiser holds exactly the trained parameters.

    Args:
        optimizer: Anything with `param_groups`.
        trained: Trainable parameters by name.

    Raises:
        BrokenGuaranteeError: Naming some that it lacks.

    Privacy:
        Nothing, no data touched. What another optimiser holds would move without noise, or never
        (`tests/dpft/test_step_refusals.py`).
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    named = {id(p): name for name, p in trained.items()}
    if held != named.keys():
        missing = [name for key, name in named.items() if key not in held]
        raise BrokenGuaranteeError(
            f"Expected the optimiser to hold exactly the trainable parameters; missing "
            f"{missing[:5]}, and {len(held - named.keys())} are not trainable parameters of the "
            "model. A parameter outside would move without noise, or never. Build the optimiser "
            "after the adapter, from the parameters with requires_grad."
        )


def _where(name: str, module: nn.Module) -> str:
    return f"module {name or '(the model itself)'} of type {type(module).__name__}"


@functools.cache  # asked of every module on every pass
def _reasons(ancestors: tuple[type, ...]) -> Mapping[str, str]:
    """Return by table the reason of the nearest ancestor in it; tables without one are absent."""
    names = [kind.__name__ for kind in ancestors]
    return {
        table: next(reasons[name] for name in names if name in reasons)
        for table, reasons in _REASONS.items()
        if not reasons.keys().isdisjoint(names)
    }


def _refuse_wrapper(name: str, module: nn.Module, reasons: Mapping[str, str]) -> None:
    reason = reasons.get("wrapped")
    if getattr(module, "_compiled_call_impl", None) is not None:  # set by module.compile()
        reason = _COMPILED
    if getattr(module, "autograd_grad_sample_hooks", None):  # where opacus keeps its own
        reason = _ATTACHED
    if reason is not None:
        raise UnsupportedError(
            f"Expected an unwrapped model, got {_where(name, module)}: {reason}. Pass the plain "
            "model."
        )


def _refuse_coupling(name: str, module: nn.Module, reasons: Mapping[str, str]) -> None:
    reason = reasons.get("coupling") or _quantised_activations(module, reasons.get("outliers"))
    if reason is None and module.training:
        reason = reasons.get("coupling in training")
    if reason is not None:
        raise UnsupportedError(
            f"Expected records to be independent, got {_where(name, module)}: {reason}. Replace "
            "it: batch norm by LayerNorm or GroupNorm (or put it into eval mode), quantised "
            "activations by weight-only quantisation."
        )


def _quantised_activations(module: nn.Module, outliers: str | None) -> str | None:
    """Return why a module's quantised activations couple records, None if they do not."""
    if outliers is not None:
        threshold = getattr(getattr(module, "state", None), "threshold", None)
        return None if threshold == 0 else outliers
    if type(module).__module__.startswith(_COUPLING_FOLDERS):
        return "it may take one scale from all records, or from earlier steps"
    for parameter in module._parameters.values():  # noqa: SLF001 - parameters() is slow, for every pass
        named = type(parameter).__name__ == _QUANTISED_ACTIVATIONS
        if named or getattr(parameter, "act_quant_kwargs", None) is not None:
            return "its activations may be quantised with one scale for all records"
    return None


def _refuse_offloaded(name: str, module: nn.Module, model: nn.Module) -> None:
    hook = vars(module).get("_hf_hook")  # accelerate's; a sequence of hooks has them in hooks
    hooks = [] if hook is None else [hook, *getattr(hook, "hooks", ())]
    offloads = any(getattr(each, "offload", False) for each in hooks)
    below = any(getattr(each, "place_submodules", False) for each in hooks)
    held = module.parameters() if below else module._parameters.values()  # noqa: SLF001 - as above
    for parameter in held:
        if parameter is None or not parameter.requires_grad:
            continue
        if offloads or (parameter.is_meta and not all(p.is_meta for p in model.parameters())):
            raise UnsupportedError(
                f"Expected trainable parameters to stay in memory, got {_where(name, module)}: "
                "they are offloaded or on the meta device, so that the tensors that meet records "
                "are not those that are trained. Keep trainable parameters on one device; offload "
                "frozen ones only."
            )


def _refuse_inactive_adapter(name: str, module: nn.Module) -> None:
    if not hasattr(module, "adapter_layer_names"):  # PEFT's tuner layers have it
        return
    if getattr(module, "merged", False):
        raise UnsupportedError(
            f"Expected adapters that are not merged, got {_where(name, module)}. Merged adapters "
            "are by-passed and receive no gradient. Call unmerge_adapter()."
        )
    if getattr(module, "disable_adapters", False):
        raise UnsupportedError(
            f"Expected adapters that are enabled, got {_where(name, module)}. Disabled adapters "
            "receive no gradient. Call enable_adapter_layers()."
        )
