"""How a prompt gets before the input of a transformer, and its traces out of the output.

Hooks on a model of transformers, so that every way to call it is the same. The prompt's embeddings
go before those of the tokens, at the body of the model or, of an encoder-decoder, at its encoder.
What comes out has the shapes that it has without a prompt: positions of the prompt are cut off the
last hidden state, so that heads, labels and losses see the record's own tokens only. While text is
generated, the prompt is in the cache of the first step and not added again.

Shapes: B records, T tokens, D width, L prompt tokens.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from dpft.errors import ConfigurationError

__all__ = ["TASK_IDS", "Prepending", "Prompter"]

TASK_IDS = "prompt_task_ids"  # a word of our own: peft keeps `task_ids` to itself
_Call = tuple[tuple[Any, ...], dict[str, Any]]
_POSITION_TABLES = ("embeddings.position_embeddings", "wpe")  # learned, hence of a fixed length


class Prompter(Protocol):
    """Makes prompts for records."""

    def prompt_length(self) -> int:
        """Return the length L of the prompt, 0 for none."""
        ...

    def prompt(
        self,
        embeds_BTD: torch.Tensor,
        mask_BT: torch.Tensor | None,
        task_ids_B: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return prompts [B, L, D], row b a function of record b only."""
        ...


class Prepending:
    """Puts the prompts of a prompter before the inputs of one model, until it is detached.

    Args:
        prompter: Makes the prompts.

    Privacy:
        Each record's prompt and outputs depend on that record only, if the prompter's do
        (`test_a_record_alone_equals_one_among_longer_mates`).
    """

    def __init__(self, prompter: Prompter) -> None:
        self._prompter = prompter
        self._handles: list[RemovableHandle] = []
        self._of_call: torch.Tensor | None = None
        self._standing: torch.Tensor | None = None
        self._added = 0

    def attach(self, model: PreTrainedModel) -> None:
        """Hook into a model.

        Args:
            model: Model with input embeddings.

        Privacy:
            Nothing, no data touched.
        """
        body = model.base_model
        assert isinstance(body, PreTrainedModel)
        self._before(model, self._take_task_ids)
        self._handles.append(model.register_forward_hook(self._forget, always_call=True))
        if body.config.is_encoder_decoder:
            self._before(body, self._show_to_decoder)
            self._before(body.get_encoder(), self._prepend)
        else:
            self._before(body, self._prepend)
            self._handles.append(body.register_forward_hook(self._cut))

    def detach(self) -> None:
        """Take the hooks off again.

        Privacy:
            Nothing, no data touched.
        """
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def tasks(self, task_ids_B: torch.Tensor | None) -> Iterator[None]:
        """Use tasks for every call meanwhile, as in generation, which calls the model many times.

        Args:
            task_ids_B: Task of each record [B], or None.

        Privacy:
            Nothing is kept afterwards.
        """
        self._standing = task_ids_B
        try:
            yield
        finally:
            self._standing = None

    def _before(self, module: nn.Module, hook: Any) -> None:
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _take_task_ids(
        self,
        module: nn.Module,  # noqa: ARG002 - as torch calls it
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> _Call:
        self._of_call = kwargs.get(TASK_IDS)
        return args, {name: value for name, value in kwargs.items() if name != TASK_IDS}

    def _forget(self, *_: Any) -> None:
        # After every call, one that made no prompt or raised too: tasks are the records' own.
        self._of_call = None

    def _show_to_decoder(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Call:
        inputs = _named(module, args, kwargs)
        return (), _with_longer_mask(inputs, self._prompter.prompt_length())

    def _prepend(
        self, module: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Call:
        length = self._prompter.prompt_length()
        inputs, self._added = _named(module, args, kwargs), 0
        if length == 0:
            return args, kwargs
        cache = inputs.get("past_key_values")
        if cache is not None and cache.get_seq_length() > 0:
            return (), _continued(module, inputs, cache.get_seq_length() - length, length)
        embeds_BTD = _embeds(module, inputs)
        mask_BT = _own_mask(inputs, embeds_BTD, length)
        _refuse_left_padding(module, inputs, mask_BT)
        _refuse_too_long(module, inputs.get("position_ids"), embeds_BTD.shape[1], length)
        task_ids_B = self._task_ids(len(embeds_BTD))
        prompt_BLD = self._prompter.prompt(embeds_BTD, mask_BT, task_ids_B)
        self._added = length
        inputs["inputs_embeds"] = torch.cat([prompt_BLD, embeds_BTD], 1)
        return (), _with_longer_mask(_moved(inputs, mask_BT, length), length)

    def _task_ids(self, records: int) -> torch.Tensor | None:
        if self._of_call is not None or self._standing is None:
            return self._of_call
        # Beams and several answers repeat each record.
        repeats, rest = divmod(records, max(len(self._standing), 1))
        return self._standing if rest else self._standing.repeat_interleave(repeats)

    def _cut(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG002 - as torch calls it
        if self._added == 0:
            return output
        if not isinstance(output, ModelOutput):
            raise ConfigurationError(
                "Expected return_dict=True. The prompt's positions are cut off the last hidden "
                "state, found by its name. Leave return_dict out."
            )
        own_BTD = output["last_hidden_state"][:, self._added :]
        output["last_hidden_state"] = own_BTD
        if output.get("pooler_output") is not None:  # of the prompt's first position
            output["pooler_output"] = module.get_submodule("pooler")(own_BTD)
        return output


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    given = inspect.signature(module.forward).bind_partial(*args).arguments
    return {name: value for name, value in (given | kwargs).items() if value is not None}


def _embeds(module: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    ids_BT = inputs.pop("input_ids", None)
    given: torch.Tensor | None = inputs.get("inputs_embeds")
    if (ids_BT is None) == (given is None):
        raise ConfigurationError(
            "Expected one of input_ids and inputs_embeds. The prompt goes before the embeddings of "
            "the tokens. Pass one of them."
        )
    embedded: torch.Tensor = module.get_input_embeddings()(ids_BT) if given is None else given
    return embedded


def _own_mask(inputs: dict[str, Any], embeds_BTD: torch.Tensor, length: int) -> torch.Tensor | None:
    """Return the mask of the record's own tokens, which the decoder's hook may have lengthened."""
    mask: torch.Tensor | None = inputs.get("attention_mask")
    if mask is None:
        return None
    tokens = embeds_BTD.shape[1]
    if mask.dim() == 2 and mask.shape[1] == tokens + length:
        mask = inputs["attention_mask"] = mask[:, length:]
    if mask.shape != embeds_BTD.shape[:2]:
        raise ConfigurationError(
            f"Expected attention_mask of shape {list(mask.shape)} to have shape "
            f"{list(embeds_BTD.shape[:2])}. Tokens of padding must not reach the prompt of a "
            "record. Pass the tokeniser's mask, and no static cache."
        )
    return mask


def _refuse_left_padding(
    module: PreTrainedModel, inputs: dict[str, Any], mask_BT: torch.Tensor | None
) -> None:
    # DeBERTa's distances are counted in the batch, whatever positions are given.
    by_distance = getattr(module.config, "relative_attention", False)
    if mask_BT is None or ("position_ids" in inputs and not by_distance):
        return
    if bool(((mask_BT[:, 0] == 0) & mask_BT.any(1)).any()):  # rows of padding alone have no token
        raise ConfigurationError(
            "Expected attention_mask to begin with 1 in every row. Padding on the left puts the "
            "prompt as far from a record's tokens as the longest record of the batch is long. Pad "
            "on the right, or, where the model goes by position_ids alone, pass them."
        )


def _refuse_too_long(
    module: PreTrainedModel, positions: torch.Tensor | None, tokens: int, length: int
) -> None:
    table = _position_table(module)
    if table is None:
        return
    before = 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa counts from there
    needed = tokens if positions is None else int(positions.max()) + 1 - before
    if length + needed > table.num_embeddings - before:
        raise ConfigurationError(
            f"Expected prompt length={length} and {needed} positions of tokens to be at most "
            f"{table.num_embeddings - before} together. The model has no more positions "
            "(max_position_embeddings). Truncate the texts, or choose fewer num_virtual_tokens."
        )


def _position_table(module: nn.Module) -> nn.Embedding | None:
    for path in _POSITION_TABLES:
        try:
            found = module.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(found, nn.Embedding):
            return found
    return None


def _with_longer_mask(inputs: dict[str, Any], length: int) -> dict[str, Any]:
    mask = inputs.get("attention_mask")
    if mask is None or length == 0:
        return inputs
    if mask.dim() != 2:
        raise ConfigurationError(
            f"Expected attention_mask of {mask.dim()} dimensions to have 2. The prompt is added to "
            "the tokeniser's mask [B, T]. Pass that, and no static cache."
        )
    ones_BL = mask.new_ones((len(mask), length))
    return inputs | {"attention_mask": torch.cat([ones_BL, mask], 1)}


def _continued(
    module: PreTrainedModel, inputs: dict[str, Any], before: int, length: int
) -> dict[str, Any]:
    """Return inputs of a later step, whose cache holds the prompt and tokens before."""
    new = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"]
    _refuse_too_long(module, inputs.get("position_ids"), before + new.shape[1], length)
    if "position_ids" in inputs:
        inputs["position_ids"] = inputs["position_ids"] + length
    return _with_longer_mask(inputs, length)


def _moved(inputs: dict[str, Any], mask_BT: torch.Tensor | None, length: int) -> dict[str, Any]:
    """Return inputs with positions counted on from the prompt's, and types for the prompt."""
    types, positions = inputs.get("token_type_ids"), inputs.get("position_ids")
    if types is not None:
        inputs["token_type_ids"] = torch.cat([types.new_zeros((len(types), length)), types], 1)
    if positions is not None:
        # Positions of padding are arbitrary: the first is the smallest of the own tokens.
        last = torch.iinfo(positions.dtype).max
        own = positions if mask_BT is None else positions.masked_fill(mask_BT == 0, last)
        first = own.amin(-1, keepdim=True)
        ahead = torch.arange(length, device=positions.device, dtype=positions.dtype)
        inputs["position_ids"] = torch.cat([first + ahead, positions + length], -1)
    return inputs
