"""Records whose target is a text, as tokens: a prompt, which is read, and a target to learn.

For decoders both stand in one row, and the prompt carries no loss; for encoder-decoders the prompt
is the input. A table is followed by the token that starts a text, as in the papers on table-to-text
with GPT-2 (Hu et al. 2022, 2106.09685, released encoding); any other prompt by a line break. No
torch in here.
"""

from collections.abc import Sequence
from typing import Any

from dpft.recipes.tasks.task import Row
from dpft.recipes.tasks.traits import Traits

__all__ = ["encode_text_targets", "lengths_of_text_targets", "prompt_tokens", "shortened"]

_IGNORED = -100  # label of tokens that carry no loss, as in transformers
_END = "\n"


def encode_text_targets(
    rows: Sequence[Row], traits: Traits, tokenizer: Any, max_length: int, *, has_encoder: bool
) -> list[dict[str, Any]]:
    """Tokenise prompts and targets, each record for itself.

    Args:
        rows: Records with the fields `text`, `label` and, if the traits name one, a second text.
        traits: What the task says of itself.
        tokenizer: A Hugging Face tokenizer.
        max_length: Most tokens of a record; of input and of target each, where there is an encoder.
            What is longer is cut: the prompt first.
        has_encoder: Whether the model is an encoder-decoder.

    Returns:
        One row a record: `input_ids`, `attention_mask`, `labels`.

    Privacy:
        Row b depends on record b only. The rows are raw data.
    """
    encoded: list[dict[str, Any]] = []
    for prompt, target in _tokens(rows, traits, tokenizer, has_encoder=has_encoder):
        if has_encoder:
            encoded.append(_row(shortened(prompt, max_length), target[:max_length]))
            continue
        kept = target[:max_length]
        room = max_length - len(kept)
        before = shortened(prompt, room)
        encoded.append(_row([*before, *kept], [*[_IGNORED] * len(before), *kept]))
    return encoded


def lengths_of_text_targets(
    rows: Sequence[Row], traits: Traits, tokenizer: Any, *, has_encoder: bool
) -> list[int]:
    """Return the tokens of every record that `max_length` is compared with.

    Args:
        rows: Records.
        traits: What the task says of itself.
        tokenizer: A Hugging Face tokenizer.
        has_encoder: Whether the model is an encoder-decoder.

    Privacy:
        Raw: lengths of private texts.
    """
    pairs = _tokens(rows, traits, tokenizer, has_encoder=has_encoder)
    if has_encoder:
        return [max(len(prompt), len(target)) for prompt, target in pairs]
    return [len(prompt) + len(target) for prompt, target in pairs]


def prompt_tokens(
    rows: Sequence[Row], traits: Traits, tokenizer: Any, *, has_encoder: bool
) -> list[list[int]]:
    """Return the tokens that a model reads before it writes.

    Args:
        rows: Records; targets are not looked at.
        traits: What the task says of itself.
        tokenizer: A Hugging Face tokenizer.
        has_encoder: Whether the model is an encoder-decoder.

    Privacy:
        Row b depends on record b only. The rows are raw data.
    """
    if not rows:
        return []
    fields = ("text", *((traits.pair_field,) if traits.pair_field else ()))
    end = "" if traits.is_table else _END
    prompts = ["".join(f"{row[field]}{end}" for field in fields) for row in rows]
    ids = tokenizer(prompts, add_special_tokens=has_encoder, verbose=False)["input_ids"]
    starts = [] if has_encoder or not traits.is_table else _start_of_text(tokenizer)
    return [[*prompt, *starts] for prompt in ids]


def shortened(prompt: list[int], most: int) -> list[int]:
    """Return a prompt of at most so many tokens: its last one, which starts the text, stays.

    Args:
        prompt: Tokens of `prompt_tokens`.
        most: How many may stay, >= 0.

    Privacy:
        Depends on the prompt alone, and is as raw.

    Example:
        >>> shortened([5, 6, 7, 1], 3)
        [5, 6, 1]
    """
    return prompt if len(prompt) <= most else [*prompt[: most - 1], prompt[-1]][:most]


def _start_of_text(tokenizer: Any) -> list[int]:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return [token for token in (eos if bos is None else bos,) if token is not None]


def _row(inputs: list[int], labels: list[int]) -> dict[str, Any]:
    return {"input_ids": inputs, "attention_mask": [1] * len(inputs), "labels": labels}


def _tokens(
    rows: Sequence[Row], traits: Traits, tokenizer: Any, *, has_encoder: bool
) -> list[tuple[list[int], list[int]]]:
    if not rows:
        return []
    prompts = prompt_tokens(rows, traits, tokenizer, has_encoder=has_encoder)
    space = " " if traits.is_table else ""  # a word within a text has one before it
    targets = [f"{space}{row['label']}" for row in rows]
    outputs = tokenizer(targets, add_special_tokens=False, verbose=False)["input_ids"]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return [(prompt, [*target, *end]) for prompt, target in zip(prompts, outputs, strict=True)]
