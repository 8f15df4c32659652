"""Models and module states that are refused by name, before anything is computed."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dpft.errors import UnsupportedError

__all__ = ["refuse_unsupported"]

_WRAPPERS = {
    "DistributedDataParallel": "it would reduce un-clipped gradients",
    "DataParallel": "it would split records between replicas unseen",
    "FullyShardedDataParallel": "its parameters are sharded",
    "OptimizedModule": "compiled code cannot be intercepted",
    "GradSampleModule": "another engine is already attached",
}
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_COUPLING = {"Linear8bitLt": "its outlier columns are chosen over all records"}


def refuse_unsupported(model: nn.Module) -> None:
    """Raise if the model contains what cannot be clipped exactly.

    Args:
        model: The model in the state in which it will train.

    Raises:
        UnsupportedError: Naming the module, the reason and the remedy.

    Privacy:
        Fails closed before any record is touched (`tests/dpft/engine/test_refusals.py`).
    """
    for name, module in model.named_modules():
        kind = type(module).__name__
        where = f"module {name or '(the model itself)'} of type {kind}"
        if kind in _WRAPPERS or isinstance(module, _PARALLEL):
            reason = _WRAPPERS.get(kind, "it would split records unseen")
            raise UnsupportedError(
                f"Expected an unwrapped model, got {where}: {reason}. Pass the plain model."
            )
        if module.training and (kind in _COUPLING or isinstance(module, _BatchNorm)):
            reason = _COUPLING.get(kind, "batch statistics couple records")
            raise UnsupportedError(
                f"Expected records to be independent, got {where}: {reason}. Replace it, for "
                "example by LayerNorm or GroupNorm, or put it into eval mode."
            )
        _refuse_inactive_adapter(where, module)


def _refuse_inactive_adapter(where: str, module: nn.Module) -> None:
    if not hasattr(module, "adapter_layer_names"):  # PEFT's tuner layers have it
        return
    if getattr(module, "merged", False):
        raise UnsupportedError(
            f"Expected adapters that are not merged, got {where}. Merged adapters are by-passed "
            "and receive no gradient. Call unmerge_adapter()."
        )
    if getattr(module, "disable_adapters", False):
        raise UnsupportedError(
            f"Expected adapters that are enabled, got {where}. Disabled adapters receive no "
            "gradient. Call enable_adapter_layers()."
        )
