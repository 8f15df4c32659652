"""Attaching a model: its trainable parameters are tracked for the length of one pass.

Outside the context manager the model is ordinary: it can be pickled, copied, compiled, and any
optimiser sees plain parameters. May be imported by the engine and `dpft.private_step`.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from dpft.engine.captures import StepState
from dpft.engine.functions import intercept_functions
from dpft.engine.interception import Interception
from dpft.engine.precision import full_precision
from dpft.engine.probe import Recorder, kind_of_batch, probe
from dpft.engine.record_gradients import RecordGradients
from dpft.engine.refusals import refuse_records_without_weights, refuse_unsupported
from dpft.engine.sites import SiteTable
from dpft.engine.snapshot import Snapshot
from dpft.engine.tracked import Expression, TrackedParameter, mark
from dpft.errors import BrokenGuaranteeError

__all__ = ["Engine", "PerRecordLoss", "batch_size_of", "modes_of"]

_STEPPING_HOOKS = "_post_accumulate_grad_hooks"  # how optimisers step during the backward pass
_Batch = Mapping[str, torch.Tensor]
PerRecordLoss = Callable[[nn.Module, _Batch], torch.Tensor]


class Engine:
    """Computes per-record gradients of a model's trainable parameters in one backward pass.

    Args:
        model: The model; exactly its parameters with `requires_grad` are trained.
        loss: Callable (model, batch) -> losses [B], each a function of its own record only.

    Raises:
        UnsupportedError: If the model is wrapped or in a state that cannot be clipped exactly.

    Privacy:
        `gradients` returns raw per-record gradients; only clipping and tests may see them.
    """

    def __init__(self, model: nn.Module, loss: PerRecordLoss) -> None:
        """Look the parameters up and refuse what is not supported."""
        refuse_unsupported(model)
        self.model = model
        self.loss = loss
        self.parameters = _trainable(Snapshot.of(model))
        self.precisions = {parameter.dtype for parameter in model.parameters()}
        self._tables: dict[object, SiteTable] = {}
        self._keys: dict[object, int] = {}

    def raw_gradients(self, batch: _Batch) -> dict[str, torch.Tensor]:
        """Return {name: gradients [B, *shape]} for every trainable parameter that was reached.

        Raises:
            BrokenGuaranteeError: As `gradients`.
            UnsupportedError: As `gradients`.
        """
        return self.gradients(batch).instantiated()

    def gradients(self, batch: _Batch) -> RecordGradients:
        """Return every record's gradient, each parameter's in the form that is cheaper.

        Raises:
            BrokenGuaranteeError: If a gradient by-passed the engine.
            UnsupportedError: If an operation's per-record gradient cannot be shown to be exact.
        """
        before = Snapshot.of(self.model)
        self._refuse_changed_model(before)
        refuse_records_without_weights(self.parameters, batch)
        batch_size = batch_size_of(batch)
        key = (kind_of_batch(batch), before.modes)
        if key not in self._tables:
            self._tables[key] = probe(self.model, self.loss, batch, self._recording)
            before = Snapshot.of(self.model)  # a first run may register buffers
        buffers = {name: buffer.clone() for name, buffer in before.buffers.items()}
        versions = _versions(before)
        with self._attached(before) as interception:
            state = StepState(batch_size, self.parameters, self._tables[key])
            interception.state = state
            with torch.enable_grad():
                losses = self.loss(self.model, batch)
                _check_losses(losses, batch_size)
                with full_precision(self.parameters.values()):
                    state.capturing = True
                    torch.autograd.backward(losses.sum())
                    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - torch offers no other
                        self._refuse_bypass("after")
                        gradients = state.finish()
        self.precisions |= state.precisions
        after = Snapshot.of(self.model)
        _refuse_changed(buffers, after.buffers)
        _refuse_written(versions, _versions(after))
        return gradients

    def knows(self, batch: _Batch) -> bool:
        """Return whether a batch is of a kind that was run before, so that no probe is due."""
        return (kind_of_batch(batch), modes_of(self.model)) in self._tables

    def refuse_changed_model(self) -> None:
        """Raise unless the model is as it was when the engine was made, and holds no gradient.

        Raises:
            BrokenGuaranteeError: If its trainable parameters changed, or one holds a gradient.
            UnsupportedError: If it is in a state that cannot be clipped exactly.
        """
        self._refuse_changed_model(Snapshot.of(self.model))

    def _refuse_changed_model(self, snapshot: Snapshot) -> None:
        now = _trainable(snapshot)
        if now.keys() != self.parameters.keys() or any(
            now[name] is not parameter for name, parameter in self.parameters.items()
        ):
            changed = sorted(now.keys() ^ self.parameters.keys()) or ["(same names, new tensors)"]
            raise BrokenGuaranteeError(
                f"Expected the trainable parameters to stay as they were at the start, changed: "
                f"{changed[:5]}. Their gradients would by-pass clipping. Build a new step after "
                "changing the model."
            )
        refuse_unsupported(self.model, snapshot.modules)
        self._refuse_bypass("before")

    def _refuse_bypass(self, when: str) -> None:
        holding = [name for name, p in self.parameters.items() if p.grad is not None]
        if holding:
            for name in holding:
                self.parameters[name].grad = None
            raise BrokenGuaranteeError(
                f"Expected no parameter to hold a gradient {when} the backward pass, got "
                f"{holding[:5]}. An un-clipped gradient by-passed the engine; it was deleted. "
                "Call zero_grad(set_to_none=True) before, and do not call backward yourself."
            )

    @contextmanager
    def _recording(self, recorder: Recorder) -> Iterator[None]:
        with self._attached(Snapshot.of(self.model)) as interception:
            interception.recorder = recorder
            with intercept_functions(recorder.taint):
                yield

    @contextmanager
    def _attached(self, snapshot: Snapshot) -> Iterator[Interception]:
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        buffers = {id(buffer) for buffer in snapshot.buffers.values()}
        interception = Interception(names, self._keys, buffers)
        try:
            for name, parameter in self.parameters.items():
                parameter.__class__ = TrackedParameter
                key = self._keys.setdefault(("parameter", name), len(self._keys))
                mark(parameter, interception, key)
            with intercept_functions():
                yield interception
        finally:
            for parameter in self.parameters.values():
                parameter.__class__ = nn.Parameter
                parameter.__dict__.pop("dpft_interception", None)
                parameter.__dict__.pop("dpft_key", None)
            interception.is_over = True
            if interception.state is not None:
                interception.state.closed = True


def modes_of(model: nn.Module) -> tuple[bool, ...]:
    """Return which modules are in train mode, in the model's own order."""
    return tuple(module.training for module in model.modules())


def batch_size_of(batch: _Batch) -> int:
    """Return B, the common first dimension of a batch's tensors.

    Raises:
        BrokenGuaranteeError: If the tensors disagree, or there is no record.
    """
    sizes = {name: value.shape[0] if value.dim() else None for name, value in batch.items()}
    known = set(sizes.values())
    if len(known) != 1 or None in known or 0 in known:
        raise BrokenGuaranteeError(
            f"Expected every tensor of the batch to have the same first dimension >= 1, got "
            f"{sizes}. It runs over records. Collate one row a record."
        )
    return next(size for size in known if size is not None)


def _trainable(snapshot: Snapshot) -> dict[str, nn.Parameter]:
    named = {name: p for name, p in snapshot.parameters.items() if p.requires_grad}
    if not named:
        raise BrokenGuaranteeError(
            "Expected at least one trainable parameter, got none. There is nothing to train. "
            "Add an adapter, or set requires_grad."
        )
    hooked = [
        name
        for name, p in named.items()
        if any(getattr(p, hooks, None) for hooks in ("_backward_hooks", _STEPPING_HOOKS))
    ]
    if hooked:
        raise BrokenGuaranteeError(
            f"Expected no hook on the gradients of trainable parameters, found some on "
            f"{hooked[:5]}. A hook would see, or apply, gradients before clipping and noise. "
            "Remove it; use an optimiser that steps after the backward pass."
        )
    odd = [name for name, p in named.items() if type(p) is not nn.Parameter]
    if odd:
        raise BrokenGuaranteeError(
            f"Expected every trainable parameter to be a plain torch.nn.Parameter, got "
            f"{[(name, type(named[name]).__name__) for name in itertools.islice(odd, 3)]}. "
            "Sharded, quantised or already attached parameters cannot be tracked. Keep trainable "
            "parameters plain; pass them as ignored parameters to FSDP2."
        )
    return named


def _versions(snapshot: Snapshot) -> dict[str, int]:
    return {name: parameter._version for name, parameter in snapshot.parameters.items()}  # noqa: SLF001 - torch's own count of writes


def _refuse_changed(before: dict[str, torch.Tensor], now: dict[str, torch.Tensor]) -> None:
    changed = sorted(
        name
        for name in now.keys() | before.keys()
        if name not in now or name not in before or not torch.equal(now[name], before[name])
    )
    for name in changed:
        if name in now and name in before and now[name].shape == before[name].shape:
            now[name].copy_(before[name])
    if changed:
        raise BrokenGuaranteeError(
            f"Expected the model's buffers to stay as they are, new or changed: {changed[:5]} "
            "(changed ones are restored). Statistics of records kept in a buffer carry no noise "
            "and would be saved with the model. Put the module into eval mode, or switch its "
            "tracking off."
        )


def _refuse_written(before: dict[str, int], now: dict[str, int]) -> None:
    written = sorted(name for name, count in now.items() if before[name] != count)
    if written:
        raise BrokenGuaranteeError(
            f"Expected no parameter to be written to during a pass, got {written[:5]}. What "
            "records leave in a parameter carries no noise and would be saved with the model. "
            "Let the forward pass write to no parameter."
        )


def _check_losses(losses: object, batch_size: int) -> None:
    if isinstance(losses, Expression) or not isinstance(losses, torch.Tensor):
        raise BrokenGuaranteeError(
            f"Expected losses computed from records, got {type(losses).__name__}. A loss of "
            "parameters alone belongs to no record. Return one loss a record."
        )
    if tuple(losses.shape) != (batch_size,) or not losses.requires_grad:
        raise BrokenGuaranteeError(
            f"Expected losses of shape ({batch_size},) with a gradient, got {tuple(losses.shape)}, "
            f"requires_grad={losses.requires_grad}. A mean over the batch couples records. Return "
            "one loss a record: reduction='none', then a mean over the record's own tokens."
        )
