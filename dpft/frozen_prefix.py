"""The frozen lower blocks of a transformer: what leaves them, and how they are passed over.

Where everything trainable sits above block k, what the blocks below it compute of a record is the
same at every step. It is caught where the last of them returns, and put back there later: each
block below k then returns the kept states instead of computing them. All else of the model's own
forward pass runs as it is, so that masks, positions and caches of keys are right by construction.
Nothing is stored here: see `dpft.frozen_prefix_storage` and `dpft.frozen_prefix_batches`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from dpft.engine.attachment import PerRecordLoss
from dpft.engine.probe import untouched
from dpft.errors import BrokenGuaranteeError, ConfigurationError

__all__ = ["FrozenBlocks", "frozen_blocks"]

_Batch = Mapping[str, torch.Tensor]
_Forward = Callable[..., Any]
# Where the blocks lie, by transformers' model type. The blocks of all of them return hidden
# states alone, those of T5 relative positions too.
_STACKS = {
    "bert": "encoder.layer",
    "distilbert": "transformer.layer",
    "gpt2": "h",
    "llama": "layers",
    "mistral": "layers",
    "qwen2": "layers",
    "qwen3": "layers",
    "roberta": "encoder.layer",
    "t5": "encoder.block",
}
_OFF = "set performance.frozen_prefix=off"


class _Caught(Exception):  # noqa: N818 - no error: the forward pass has gone far enough
    pass


@dataclasses.dataclass(frozen=True)
class FrozenBlocks:
    """The blocks of a model that see no trainable parameter, from the bottom up.

    Args:
        model: The model.
        blocks: Its blocks below the first one that is trained, at least one.

    Privacy:
        What leaves them is a function of one record each; it is raw and never logged or saved.
    """

    model: nn.Module
    blocks: tuple[nn.Module, ...]

    def raw_states(self, loss: PerRecordLoss, batch: _Batch) -> torch.Tensor:
        """Return the hidden states [B, T, D] that leave the last frozen block.

        The forward pass ends there, and torch's generators are left as they were.

        Args:
            loss: Calls the model on a batch.
            batch: Records as tensors.

        Raises:
            BrokenGuaranteeError: If the loss does not run the blocks, or they write down what
                they see of records.

        Privacy:
            Row b is a function of record b, raw. The engine watches passes in which the blocks
            do not run, so buffers and parameters are watched here
            (`test_a_frozen_block_that_writes_records_down_is_refused`).
        """
        with torch.random.fork_rng(), _unwritten(self.model):
            return self._caught(loss, batch)

    @contextmanager
    def returning(self, raw_states_BTD: torch.Tensor) -> Iterator[None]:
        """Let the frozen blocks return kept states without computing anything.

        Args:
            raw_states_BTD: Hidden states [B, T, D], as `raw_states` returned them.

        Privacy:
            Nothing is kept after the context.
        """
        with ExitStack() as stack:
            for block in self.blocks:
                stack.enter_context(_replaced(block, _passing(block, raw_states_BTD)))
            yield

    def refuse_randomness(self, loss: PerRecordLoss, batch: _Batch) -> None:
        """Raise if anything random happens on the way to the last frozen block.

        Args:
            loss: Calls the model on a batch.
            batch: Synthetic records as tensors.

        Raises:
            ConfigurationError: If there is dropout below, or the loss draws its inputs.

        Privacy:
            Nothing, no data touched: the records are synthetic
            (`tests/dpft/test_frozen_prefix.py::test_dropout_below_is_refused`).
        """
        with torch.random.fork_rng(), _unwritten(self.model):
            before = _generators()
            self._caught(loss, batch)
            pairs = zip(before, _generators(), strict=True)
            is_random = not all(torch.equal(one, other) for one, other in pairs)
        if is_random:
            raise ConfigurationError(
                "Expected nothing random at or below the frozen blocks of the model, if what they "
                "return is kept. Dropout would be drawn once for all steps, which is another "
                "training than without the cache. Set the model's dropout probabilities to 0 "
                f"(architecture.dropout=0), or {_OFF}."
            )

    @torch.no_grad()
    def _caught(self, loss: PerRecordLoss, batch: _Batch) -> torch.Tensor:
        caught: list[torch.Tensor] = []

        def catch(_module: nn.Module, _inputs: Any, output: Any) -> None:
            caught.append(_hidden(output).detach())
            raise _Caught

        with _hooked(self.blocks[-1:], catch), suppress(_Caught):
            loss(self.model, batch)
        if not caught:
            raise BrokenGuaranteeError(
                "Expected every loss to run the frozen blocks of the model. What they return "
                f"cannot be kept otherwise. Let the loss call the model, or {_OFF}."
            )
        return caught[0]


def frozen_blocks(model: nn.Module, loss: PerRecordLoss, batch: _Batch) -> FrozenBlocks:
    """Return the blocks of a model whose output no trainable parameter can change.

    They are found by following autograd's graph from the output of every block back to the
    parameters, so that prompts, embeddings and shared parameters count wherever they stand.

    Args:
        model: The model in the state in which it will train.
        loss: Calls the model on a batch.
        batch: Synthetic records as tensors.

    Returns:
        The frozen blocks, at least one.

    Raises:
        ConfigurationError: If the architecture is not known, or the first block is not frozen.

    Privacy:
        Nothing, no data touched: the records are synthetic
        (`tests/dpft/test_frozen_prefix.py::test_a_trained_prompt_is_refused_by_name`).
    """
    blocks = _stack(model)
    names = {p: name for name, p in model.named_parameters() if p.requires_grad}
    outputs: dict[nn.Module, Any] = {}

    def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.setdefault(module, output)

    with untouched(model), _hooked(blocks, keep), torch.enable_grad():
        loss(model, batch)
    frozen: list[nn.Module] = []
    for block in blocks:
        reached = _reached(outputs.get(block)) | set(block.parameters())
        trained = sorted(names[p] for p in reached & names.keys())
        if trained and not frozen:
            raise ConfigurationError(
                f"Expected the first block of the model to be frozen, and all before it, if what "
                f"leaves it is kept; trained there: {trained[:5]}. It changes with every step. "
                f"Adapt upper blocks only (adapter.layers_to_transform), or {_OFF}."
            )
        if trained or block not in outputs:
            break
        frozen.append(block)
    return FrozenBlocks(model, tuple(frozen))


def _stack(model: nn.Module) -> nn.ModuleList:
    """Return the list of blocks of a model, of its encoder where it has two."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    ending = _STACKS.get(str(kind))
    found = [
        module
        for name, module in model.named_modules()
        if ending is not None
        and isinstance(module, nn.ModuleList)
        and f".{name}".endswith(f".{ending}")
    ]
    if len(found) != 1 or not len(found[0]):
        raise ConfigurationError(
            f"Expected a model of one of the types {', '.join(sorted(_STACKS))} to keep what its "
            f"frozen blocks return, got {kind}. Where the blocks of others lie is never guessed. "
            f"Choose such a model, or {_OFF}."
        )
    return found[0]


def _reached(output: Any) -> set[nn.Parameter]:
    """Return the parameters from which autograd computed a block's output."""
    tensors = [each for each in tree_leaves(output) if isinstance(each, torch.Tensor)]
    nodes = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen, found = set(nodes), set()
    while nodes:
        node = nodes.pop()
        found.add(getattr(node, "variable", None))
        following = {each for each, _ in node.next_functions if each is not None} - seen
        seen |= following
        nodes.extend(following)
    return {each for each in found if isinstance(each, nn.Parameter)}


def _hidden(output: Any) -> torch.Tensor:
    """Return the hidden states of what a block returned."""
    states: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return states


def _passing(block: nn.Module, raw_states_BTD: torch.Tensor) -> _Forward:
    """Return what stands in for a block's forward pass."""
    attention = getattr(block, "layer", None)
    if not isinstance(attention, nn.ModuleList):
        return lambda *_args, **_kwargs: raw_states_BTD
    biased: Any = attention[0].SelfAttention  # a block of T5

    def forward(
        states: torch.Tensor, _mask: Any = None, bias: Any = None, *_args: Any, **_kwargs: Any
    ) -> Any:
        """Hand on relative positions, which the first block makes for all."""
        if bias is None:
            bias = biased.compute_bias(states.shape[1], states.shape[1], device=states.device)
        return raw_states_BTD, bias, None

    return forward


@contextmanager
def _replaced(module: nn.Module, forward: _Forward) -> Iterator[None]:
    """Let a module compute something else; what a library put in its place comes back."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before


@contextmanager
def _unwritten(model: nn.Module) -> Iterator[None]:
    """Put buffers back at the end, and raise if one was changed or a parameter written to."""
    buffers = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers()}
    versions = _versions(model)
    try:
        yield
    finally:
        now = dict(model.named_buffers())
        written = now.keys() ^ buffers.keys()
        written |= {name for name, count in _versions(model).items() if versions[name] != count}
        written |= {n for n in now.keys() & buffers if not torch.equal(now[n], buffers[n][1])}
        with torch.no_grad():
            for buffer, kept in buffers.values():
                buffer.copy_(kept)
    if written:
        raise BrokenGuaranteeError(
            f"Expected the frozen blocks to write nothing down, written: {sorted(written)[:5]}. "
            "What records leave in the model carries no noise and would be saved with it. Put the "
            f"module into eval mode, or {_OFF}."
        )


def _versions(model: nn.Module) -> dict[str, int]:
    return {name: parameter._version for name, parameter in model.named_parameters()}  # noqa: SLF001 - torch's own count of writes


@contextmanager
def _hooked(modules: Iterable[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _generators() -> list[torch.Tensor]:
    """Return the states of the generators that a forward pass may draw from."""
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *on_devices]
