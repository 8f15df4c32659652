"""The loop that pretrains the encoder: seeded, resumable, on public text alone.

May be imported by `pretrain.py`.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dpft.accounting.errors import ConfigurationError
from dpft.recipes.embedded.corpus import prose_passages, public_messages, split_sentences
from dpft.recipes.embedded.encoder import EncoderSize, Pretrainer, save_encoder
from dpft.recipes.embedded.objective import TokenisedText, make_batch, objective, word_weights
from dpft.recipes.embedded.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast


__all__ = ["PretrainingPlan", "pretrain", "public_corpus"]

_LOG = logging.getLogger(__name__)
_POOL_BATCHES = 8
_MIN_LETTERS = 18
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class PretrainingPlan:
    """Everything that decides the encoder.

    Args:
        steps: Optimiser steps, at least 1.
        decay_steps: Where the learning rate would reach 0, at least `steps`.
        batch_size: Texts in one step.
        learning_rate: Peak of the schedule (linear warm-up over a twelfth, linear decay).
        num_messages: Generated messages of the corpus.
        num_passages: Passages of prose of the corpus; 0 needs no assets.
        seed: Seed of corpus, initialisation and batches.
        checkpoint_every: Steps between two checkpoints.
        size: Size of the encoder.

    Raises:
        ConfigurationError: `steps` is below 1 or above `decay_steps`.

    Privacy:
        Nothing private: public text alone.
    """

    steps: int = 1600
    decay_steps: int = 2400
    batch_size: int = 128
    learning_rate: float = 2e-3
    num_messages: int = 120_000
    num_passages: int = 6_000
    seed: int = 20_240_229
    checkpoint_every: int = 200
    size: EncoderSize = field(default_factory=EncoderSize)

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= self.decay_steps:
            raise ConfigurationError(
                f"Expected steps={self.steps} between 1 and decay_steps={self.decay_steps}. "
                "Beyond it the learning rate would be negative. Raise decay_steps or lower steps."
            )


def public_corpus(plan: PretrainingPlan, assets: Path | None) -> list[str]:
    """Put the public corpus together.

    Args:
        plan: How many texts of each kind, and the seed.
        assets: Folder of the prose; `None` uses generated messages alone.

    Returns:
        The texts, messages first.

    Privacy:
        Nothing private: generated and published text alone, without labels.
    """
    messages = public_messages(plan.num_messages, plan.seed)
    if assets is None:
        return messages
    return messages + prose_passages(assets, plan.num_passages, plan.seed)


def pretrain(plan: PretrainingPlan, assets: Path | None, out: Path) -> None:
    """Train tokenizer and encoder, and write a Hugging Face folder.

    A run that was cut short goes on from `out/checkpoint.pt`, which is removed at the end.

    Args:
        plan: What to train.
        assets: Folder of the prose, or `None`.
        out: Folder to write; created where missing.

    Privacy:
        Nothing private: public text alone.
    """
    texts = public_corpus(plan, assets)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(texts, plan.size.vocabulary)
    tokenizer.save_pretrained(out)
    torch.manual_seed(plan.seed)
    model = Pretrainer(plan.size.config(len(tokenizer)))
    _train(model, _tokenise(texts, tokenizer), plan, out / "checkpoint.pt")
    save_encoder(model.encoder, out)


def _tokenise(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[TokenisedText]:
    lines = [split_sentences(text) for text in texts]
    flat = [line for text in lines for line in text]
    ids = iter(tokenizer(flat, add_special_tokens=False, verbose=False)["input_ids"])
    return [TokenisedText([next(ids) for _ in text], _removable(text)) for text in lines]


def _removable(lines: list[str]) -> list[int]:
    # Nobody can tell a telephone number from the rest of a message, so numbers stay where they are.
    if len(lines) < 2:
        return []
    return [
        i for i, line in enumerate(lines) if len(line) >= _MIN_LETTERS and not _DIGIT.search(line)
    ]


def _train(
    model: Pretrainer, texts: list[TokenisedText], plan: PretrainingPlan, checkpoint: Path
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98))
    start = _resume(model, optimizer, checkpoint)
    weights = word_weights(texts, len(model.token_bias))
    seen = []
    for step in range(start, plan.steps):
        batch = make_batch(_texts_of_step(texts, plan, step), weights, _random(plan, step, 1))
        losses = torch.stack(objective(model, batch))
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = plan.learning_rate * _schedule(step, plan.decay_steps)
        optimizer.step()
        seen.append(losses.detach())
        if (step + 1) % plan.checkpoint_every == 0:
            _log(step + 1, seen)
            _save(model, optimizer, step + 1, checkpoint)
            seen.clear()
    checkpoint.unlink(missing_ok=True)


def _log(step: int, seen: list[Tensor]) -> None:
    words, sentences = torch.stack(seen).mean(0).tolist()
    _LOG.info("step %d words %.3f sentences %.3f", step, words, sentences)


def _texts_of_step(
    texts: list[TokenisedText], plan: PretrainingPlan, step: int
) -> list[TokenisedText]:
    # Texts of like length share a step: a pool of several steps is drawn, sorted and cut.
    pool, place = divmod(step, _POOL_BATCHES)
    drawn = _random(plan, pool, 0).integers(len(texts), size=_POOL_BATCHES * plan.batch_size)
    by_length = sorted(drawn.tolist(), key=lambda i: sum(map(len, texts[i].lines)))
    order = _random(plan, pool, 2).permutation(_POOL_BATCHES)
    first = int(order[place]) * plan.batch_size
    return [texts[i] for i in by_length[first : first + plan.batch_size]]


def _random(plan: PretrainingPlan, step: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((plan.seed, step, purpose))


def _schedule(step: int, decay_steps: int) -> float:
    warm_up = max(1, decay_steps // 12)
    return min((step + 1) / warm_up, (decay_steps - step) / max(1, decay_steps - warm_up), 1.0)


def _save(model: Pretrainer, optimizer: torch.optim.Optimizer, step: int, checkpoint: Path) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, checkpoint)


def _resume(model: Pretrainer, optimizer: torch.optim.Optimizer, checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
