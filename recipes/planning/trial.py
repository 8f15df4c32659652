"""The private step of a run on tensors without values: what it would hold and compute.

The model is built on the meta device from its configuration, gets its adapter, and goes through
the engine's own pass, clipping included. Nothing here is a formula of an architecture. Blocks that
are alike cost alike, so that two short stacks say what a tall one costs.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from dpft import adapters
from dpft.adapting import adapted
from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine, PerRecordLoss
from dpft.errors import ConfigurationError
from dpft.losses import Pooling
from dpft.privacy import ClippingStyle
from dpft.recipes.assembly import loss_of
from dpft.recipes.config.schema import QuantisationName, TrainSettings
from dpft.recipes.large_models import nothing_rounded, rounded_weights, save_memory
from dpft.recipes.models import LoadedModel, auto_class, fit_config, quiet_peft
from dpft.recipes.planning.tally import Tally, fused_attention
from dpft.recipes.tasks import Task, build_task
from dpft.recipes.tasks.traits import TaskKind, traits_of

__all__ = ["Costs", "costs_of"]

_DEPTHS = (2, 4)
_FEW = (2, 4)  # records and tokens of the pass before the one that is counted
_BLOCKS = ("num_hidden_layers", "num_decoder_layers")


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a model and one physical batch of the private step take.

    Args:
        frozen: Entries of frozen weights.
        linear: Those of them that quantisation rounds, if it was asked for.
        rows: Output channels of these.
        largest: Entries of the largest of these.
        trained: Entries of trained weights.
        trained_bytes: Their memory.
        activation_bytes: Kept at the end of the forward pass.
        peak_bytes: Most that the pass and clipping hold at a time, over what is held at rest.
        kept_bytes: Of these, what is still held at the end of the backward pass: gradients of
            records.
        flops: Floating-point operations of matrix products, forward and backward.
        in_proportion: Whether two short stacks were followed instead of the whole.

    Privacy:
        Nothing, no data touched.
    """

    frozen: float
    linear: float
    rows: float
    largest: float
    trained: float
    trained_bytes: float
    activation_bytes: float
    peak_bytes: float
    kept_bytes: float
    flops: float
    in_proportion: bool = False


def costs_of(settings: TrainSettings, config: Any, shape: tuple[int, int]) -> Costs:
    """Run a private step without values, and return what it costs.

    Args:
        settings: Of the run.
        config: Configuration of the base model, of transformers; it is left as it is.
        shape: Records B and tokens T of the physical batch, each >= 1.

    Returns:
        The costs of the whole model.

    Raises:
        ConfigurationError: If quantisation was asked for and would round nothing.
        UnsupportedError: If the engine refuses the model.

    Privacy:
        Nothing, no data touched (`tests/recipes/planning/test_trial.py`).
    """
    depth = None if _chooses_blocks(settings) else _depth(config)
    if depth is None or depth <= max(_DEPTHS):
        return _costs(settings, config, shape)
    low, high = (_costs(settings, _of_depth(config, few), shape) for few in _DEPTHS)
    found = _extended(low, high, (depth - _DEPTHS[0]) / (_DEPTHS[1] - _DEPTHS[0]))
    model = _with_adapter(settings, _shapes_of(settings, build_task(settings.task), config))
    # blocks that differ in a way that no configuration says
    alike = (found.frozen, found.trained) == _entries(model)
    return found if alike else _costs(settings, config, shape)


def _chooses_blocks(settings: TrainSettings) -> bool:
    """Return whether an adapter may stand in some blocks only."""
    options = settings.adapter_options()
    named = options.get("target_modules") or ()
    return options.get("layers_to_transform") is not None or any(
        part.isdecimal() for name in named for part in name.split(".")
    )


def _entries(model: nn.Module) -> tuple[int, int]:
    """Return how many weights are frozen, and how many are trained."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return sum(p.numel() for p in model.parameters()) - trained, trained


def _extended(low: Costs, high: Costs, steps: float) -> Costs:
    """Return the costs of a taller stack: every further block adds the same."""
    one, other = dataclasses.asdict(low), dataclasses.asdict(high)
    taller = {name: one[name] + (other[name] - one[name]) * steps for name in one}
    found = Costs(**taller | {"in_proportion": True})
    # The most is held where the backward pass begins, or, if gradients of records outweigh the
    # activations that they replace, where it ends: that grows with what is kept.
    at_the_end = found.kept_bytes + low.peak_bytes - low.kept_bytes
    return dataclasses.replace(found, peak_bytes=max(found.peak_bytes, at_the_end))


def _depth(config: Any) -> int | None:
    """Return the number of blocks, None if they are not all alike."""
    depths = {getattr(config, name) for name in _BLOCKS if hasattr(config, name)}
    kinds = set(getattr(config, "layer_types", None) or ())
    alike = len(depths) == 1 and len(kinds) <= 1
    odd = config.is_encoder_decoder and not hasattr(config, "num_decoder_layers")
    return next(iter(depths)) if alike and not odd else None


def _of_depth(config: Any, depth: int) -> Any:
    shorter = copy.deepcopy(config)
    for name in _BLOCKS:
        if hasattr(shorter, name):
            setattr(shorter, name, depth)
    if getattr(shorter, "layer_types", None):
        shorter.layer_types = shorter.layer_types[:depth]
    return shorter


def _costs(settings: TrainSettings, config: Any, shape: tuple[int, int]) -> Costs:
    task = build_task(settings.task)
    loaded = _shapes_of(settings, task, config)
    rounded = _rounded(settings, loaded.model)
    linear = [w.numel() for w in rounded]
    rows = sum(w.shape[0] for w in rounded)
    model = _with_adapter(settings, loaded)
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen, entries = _entries(model)
    loss = loss_of(loaded, settings.architecture.label_smoothing)
    passed = _pass(model, loss, lambda few: _batch(loaded, few), shape)
    return Costs(
        frozen=frozen,
        linear=sum(linear),
        rows=rows,
        largest=max(linear, default=0),
        trained=entries,
        trained_bytes=sum(p.numel() * p.element_size() for p in trained),
        activation_bytes=passed["activation_bytes"],
        peak_bytes=passed["peak_bytes"],
        kept_bytes=passed["kept_bytes"],
        flops=passed["flops"],
    )


def _shapes_of(settings: TrainSettings, task: Task, config: Any) -> LoadedModel:
    """Return the base model of a run on the meta device, without tokenizer."""
    architecture = settings.architecture
    pooling, kind = Pooling(architecture.pooling.value), traits_of(task).kind
    fitted = fit_config(copy.deepcopy(config), architecture, task.labels)
    if fitted.pad_token_id is None:
        fitted.pad_token_id = 0
    auto = auto_class(
        pooling, kind, architecture.family, has_encoder=bool(fitted.is_encoder_decoder)
    )
    with torch.device("meta"):
        model = auto.from_config(fitted, dtype=getattr(torch, architecture.dtype.value))
    save_memory(model, architecture)
    return LoadedModel(model, None, pooling, architecture.max_length, kind)


def _rounded(settings: TrainSettings, model: nn.Module) -> list[torch.Tensor]:
    """Return the weights that quantisation rounds; nothing if it was not asked for."""
    asked = settings.architecture.quantisation
    if asked is QuantisationName.NONE:
        return []
    found = rounded_weights(model, asked)
    if not found:
        raise ConfigurationError(nothing_rounded(model, asked))
    return found


def _with_adapter(settings: TrainSettings, loaded: LoadedModel) -> nn.Module:
    adapter = None
    if not settings.trains_whole_model:
        adapter = adapters.config(
            settings.adapter.name,
            loaded.model.config,
            loaded.task_type,
            **settings.adapter_options(),
        )
    train_head = settings.architecture.train_head
    with torch.device("meta"), quiet_peft():
        model = adapted(loaded.model, adapter, seed=0, train_head=train_head)
    return model.train()


def _batch(loaded: LoadedModel, shape: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Return records of one length, without values."""
    ids = torch.empty(shape, dtype=torch.long, device="meta")
    labels = ids if loaded.kind is TaskKind.TEXT else ids[:, 0]
    if loaded.kind is TaskKind.REGRESSION:
        labels = labels.float()
    # of one's own, as a collated batch has them
    return {"input_ids": ids, "attention_mask": ids.clone(), "labels": labels.clone()}


def _pass(
    model: nn.Module,
    loss: PerRecordLoss,
    batch_of: Callable[[tuple[int, int]], dict[str, torch.Tensor]],
    shape: tuple[int, int],
) -> dict[str, float]:
    """Return what one pass of the engine, and clipping, hold and compute."""
    few, batch = batch_of(_FEW), batch_of(shape)
    tally = Tally([*model.parameters(), *model.buffers(), *few.values(), *batch.values()])
    noted: list[int] = []
    counts = False

    def noting(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        losses = loss(model, batch)
        if counts:  # settling is slow
            noted.append(tally.settled())
        return losses

    with fused_attention(), tally:
        engine = Engine(model, noting)
        total = ClippedSum(engine.parameters, ClippingStyle.FLAT, 1.0)
        engine.gradients(few)  # finds the records' dimensions, which is no part of a step
        counts = True
        tally.start_over()
        gradients = engine.gradients(batch)
        kept = tally.settled()
        total.add(gradients)
    return {
        "activation_bytes": noted[-1],
        "peak_bytes": tally.peak,
        "kept_bytes": kept,
        "flops": tally.flops,
    }
