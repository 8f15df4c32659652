"""The loop that pretrains the decoder: seeded, resumable after any kill, on public text alone.

May be imported by `pretrain.py`.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import LlamaForCausalLM

from dpft.accounting.errors import ConfigurationError
from dpft.recipes.decoder.corpus import Document, TokenisedDocuments, public_documents, tokenise
from dpft.recipes.decoder.language_model import DecoderSize, make_batch, save_decoder, text_loss
from dpft.recipes.decoder.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DecoderPlan", "perplexity", "pretrain", "train_decoder"]

_LOG = logging.getLogger(__name__)
_POOL_BATCHES = 16
_TOKENIZER_TEXTS = 60_000  # more change next to nothing in a vocabulary of this size
_HELD_OUT_EVERY = 100
_MAX_HELD_OUT = 1024


@dataclass(frozen=True)
class DecoderPlan:
    """Everything that decides the decoder.

    Args:
        steps: Optimiser steps, at least 1.
        batch_size: Documents in one step.
        learning_rate: Peak of the schedule (linear warm-up over a twentieth, cosine to a tenth).
        num_sentences: Sentences with a table made of them, at most.
        num_passages: Passages without one, at most.
        max_tokens: Longest document.
        seed: Public seed of corpus, initialisation and batches.
        checkpoint_every: Steps between two checkpoints.
        size: Size of the decoder.

    Raises:
        ConfigurationError: `steps` is below 1.

    Privacy:
        Nothing private: public text alone.
    """

    steps: int = 2500
    batch_size: int = 64
    learning_rate: float = 3e-3
    num_sentences: int = 250_000
    num_passages: int = 60_000
    max_tokens: int = 128
    seed: int = 20_240_229
    checkpoint_every: int = 50
    size: DecoderSize = field(default_factory=DecoderSize)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigurationError(
                f"Expected steps={self.steps} >= 1. Nothing would be learnt. Raise steps."
            )


def pretrain(plan: DecoderPlan, assets: Path, out: Path) -> None:
    """Train tokenizer and decoder, and write a Hugging Face folder.

    A run that was cut short, by kill -9 too, goes on from `out/checkpoint.pt`, which is replaced as
    a whole and removed at the end. Beside the model lies `pretraining.json`: the plan and the
    perplexity of held-out texts.

    Args:
        plan: What to train.
        assets: Folder with `data/text` and `data/nlg`.
        out: Folder to write; created where missing.

    Privacy:
        Nothing private: public text alone.
    """
    documents = public_documents(assets, plan.num_sentences, plan.num_passages, plan.seed)
    train_decoder(plan, documents, out)


def train_decoder(plan: DecoderPlan, documents: list[Document], out: Path) -> None:
    """Do what `pretrain` does, on documents that are given.

    Args:
        plan: What to train.
        documents: The corpus; every hundredth document is held out.
        out: Folder to write.

    Privacy:
        Nothing private: public text alone.
    """
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(
        (line for d in documents[:_TOKENIZER_TEXTS] for line in (d.table, d.text)),
        plan.size.vocabulary,
    )
    tokenizer.save_pretrained(out)
    held_out = tokenise(documents[::_HELD_OUT_EVERY][:_MAX_HELD_OUT], tokenizer, plan.max_tokens)
    del documents[::_HELD_OUT_EVERY]
    seen = tokenise(documents, tokenizer, plan.max_tokens)
    _LOG.info("%d documents, %d tokens, vocabulary %d", len(seen), len(seen.ids), len(tokenizer))
    torch.manual_seed(plan.seed)
    model = LlamaForCausalLM(plan.size.config(len(tokenizer)))
    _train(model, seen, held_out, plan, out / "checkpoint.pt")
    found = {"plan": asdict(plan), "held_out_perplexity": round(perplexity(model, held_out), 3)}
    (out / "pretraining.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    save_decoder(model, out)
    (out / "checkpoint.pt").unlink(missing_ok=True)


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, documents: TokenisedDocuments) -> float:
    """Return the perplexity of the texts of documents, given their tables.

    Args:
        model: The decoder.
        documents: Documents it has not seen.

    Privacy:
        Nothing private: public text alone.
    """
    total, tokens = 0.0, 0
    for start in range(0, len(documents), 64):
        batch = make_batch(documents, range(start, min(start + 64, len(documents))))
        counted = int((batch.labels >= 0).sum())
        total += float(text_loss(model, batch)) * counted
        tokens += counted
    return math.exp(total / tokens)


def _train(
    model: LlamaForCausalLM,
    seen: TokenisedDocuments,
    held_out: TokenisedDocuments,
    plan: DecoderPlan,
    checkpoint: Path,
) -> None:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=0.1
    )
    start = _resume(model, optimizer, checkpoint)
    losses: list[torch.Tensor] = []
    for step in range(start, plan.steps):
        loss = text_loss(model, make_batch(seen, _documents_of_step(seen, plan, step)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = plan.learning_rate * _schedule(step, plan.steps)
        optimizer.step()
        losses.append(loss.detach())
        if (step + 1) % plan.checkpoint_every == 0 and step + 1 < plan.steps:
            _log(step + 1, losses)
            _save(model, optimizer, step + 1, checkpoint)
            losses.clear()
        if (step + 1) % (5 * plan.checkpoint_every) == 0:
            _LOG.info("step %d held-out perplexity %.2f", step + 1, perplexity(model, held_out))


def _log(step: int, losses: list[torch.Tensor]) -> None:
    _LOG.info("step %d loss %.3f", step, torch.stack(losses).mean())


def _documents_of_step(documents: TokenisedDocuments, plan: DecoderPlan, step: int) -> list[int]:
    # Documents of like length share a step: a pool of several steps is drawn, sorted and cut.
    pool, place = divmod(step, _POOL_BATCHES)
    random = np.random.default_rng((plan.seed, pool))
    drawn = random.integers(len(documents), size=_POOL_BATCHES * plan.batch_size)
    by_length = sorted(drawn.tolist(), key=documents.length)
    first = int(random.permutation(_POOL_BATCHES)[place]) * plan.batch_size
    return by_length[first : first + plan.batch_size]


def _schedule(step: int, steps: int) -> float:
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return 0.1 + 0.45 * (1.0 + math.cos(math.pi * done))


def _save(
    model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int, checkpoint: Path
) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    unfinished = checkpoint.with_suffix(".unfinished")
    torch.save(state, unfinished)
    unfinished.replace(checkpoint)  # a kill leaves the old checkpoint or the new one


def _resume(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
