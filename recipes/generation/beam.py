"""Beam search as in the papers on table-to-text: the settings, and the rule against repetition."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from dpft.recipes.config.generation import Generation

__all__ = ["NoRepetition", "generate"]


class NoRepetition(LogitsProcessor):
    """Rules out a token that would end a run of tokens which the text holds already.

    The rule of transformers counts the source of a decoder as text, and so forbids copying a name
    of four tokens out of the table. The papers count what was generated alone, as is done here.

    Args:
        size: Length of a run, >= 1.
        start: Number of tokens before the generated ones.

    Privacy:
        Nothing, no data touched: it reads what a model generates.

    References:
        Hu et al. 2022 (2106.09685), released beam search (`--no_repeat_ngram_size`).
    """

    def __init__(self, size: int, start: int) -> None:
        self._size = size
        self._start = start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores [B, V] of the next token, -inf where it would repeat a run."""
        ruled = scores.clone()
        for row, tokens in enumerate(input_ids[:, self._start :].tolist()):
            ruled[row, self._repeating(tokens)] = -torch.inf
        return ruled

    def _repeating(self, tokens: list[int]) -> list[int]:
        before = self._size - 1
        last = tokens[len(tokens) - before :]
        starts = range(len(tokens) - before) if len(tokens) >= before else range(0)
        return [tokens[i + before] for i in starts if tokens[i : i + before] == last]


@torch.no_grad()
def generate(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], settings: Generation
) -> list[str]:
    """Write a text after each prompt.

    Args:
        model: Decoder or encoder-decoder, with or without adapter; it is put into eval mode.
        tokenizer: Its tokenizer.
        prompts: Tokens to read, at least one prompt.
        settings: Beam search.

    Returns:
        The texts, in the order of the prompts.

    Privacy:
        What is written depends on the prompts and on the model; on training records only by what
        the model released already.
    """
    model.eval()
    alike = _counts_padding(model)
    texts = [""] * len(prompts)
    for chosen in _batches([len(ids) for ids in prompts], settings.batch_size, alike=alike):
        written = _written(model, tokenizer, [prompts[index] for index in chosen], settings)
        for index, text in zip(chosen, written, strict=True):
            texts[index] = text
    return texts


def _counts_padding(model: Any) -> bool:
    """Return whether padding before a text would move its positions.

    peft puts a soft prompt before the padding and drops the position ids of a decoder, whose text
    then starts later than it did in training.
    """
    config = getattr(model, "active_peft_config", None)
    return bool(getattr(config, "is_prompt_learning", False))


def _batches(lengths: list[int], size: int, *, alike: bool) -> Iterator[list[int]]:
    """Yield positions of texts to be written together, the short ones first."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    groups = groupby(order, key=lengths.__getitem__) if alike else [(0, iter(order))]
    for _, group in groups:
        members = list(group)
        yield from (members[start : start + size] for start in range(0, len(members), size))


def _written(model: Any, tokenizer: Any, ids: list[list[int]], settings: Generation) -> list[str]:
    longest = max(map(len, ids))
    left = not model.config.is_encoder_decoder  # a decoder goes on from the last token
    batch = {
        "input_ids": [_padded(each, longest, tokenizer.pad_token_id, left=left) for each in ids],
        "attention_mask": [_padded([1] * len(each), longest, 0, left=left) for each in ids],
    }
    device = next(model.parameters()).device
    inputs = {name: torch.tensor(values, device=device) for name, values in batch.items()}
    start = longest if left else 1
    rules = [NoRepetition(settings.no_repeat_ngram, start)] if settings.no_repeat_ngram else []
    with _plain_generation(model), _quiet_on_positions():
        out = model.generate(
            **inputs,
            generation_config=_config(model, tokenizer, settings),
            logits_processor=LogitsProcessorList(rules),
        )
    texts: list[str] = tokenizer.batch_decode(out[:, start:], skip_special_tokens=True)
    return [text.strip() for text in texts]


def _padded(values: list[int], length: int, fill: int, *, left: bool) -> list[int]:
    padding = [fill] * (length - len(values))
    return padding + values if left else values + padding


def _config(model: Any, tokenizer: Any, settings: Generation) -> GenerationConfig:
    return GenerationConfig(  # type: ignore[no-untyped-call]  # theirs
        num_beams=settings.beams,
        length_penalty=settings.length_penalty if settings.beams > 1 else None,
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
    )


@contextmanager
def _plain_generation(model: Any) -> Iterator[None]:
    """Hide the model's own generation settings, which would be mixed in without a word."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = base.generation_config
    base.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]  # theirs
    try:
        yield
    finally:
        base.generation_config = before


@contextmanager
def _quiet_on_positions() -> Iterator[None]:
    """Silence peft's notice that a soft prompt drops position ids: `_batches` sees to that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Position ids are not supported", UserWarning)
        yield
