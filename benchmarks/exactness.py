"""Does an engine do what it says? A wrong step may be a fast one and must not win a table.

The step of an engine without noise is compared with a plain loop over single records.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from benchmarks.cases import Problem
from benchmarks.engines import IGNORED, Builder, Settings, trainable

__all__ = ["reason", "refuse_inexact"]

_REASON = 90  # characters of the reason why an engine failed
_RECORDS = 4
_SHARE = 0.5  # clip norm / smallest norm of a record: every record is clipped
_TOLERANCE = 1e-2  # dpft clips to 0.999 C
_NO_NOISE = 1e-9
_PERTURBATION = 0.02
_Gradients = Sequence[torch.Tensor]


def refuse_inexact(build: Builder, problem: Problem) -> None:
    """Raise if an engine does not sum every record's own clipped gradient.

    Args:
        build: Builder of the engine.
        problem: The problem; its model is copied.

    Raises:
        RuntimeError: Naming what is wrong.

    Privacy:
        Nothing, no data touched: the records are random, or public.
    """
    few = _unlike(problem.first(_RECORDS))
    _perturb(few.model)
    grads = _record_gradients(few)
    clip_norm = _SHARE * min(float(_norm(one)) for one in grads)
    moved = _moved(build, few, clip_norm)
    still = sum(not bool(one.any()) for one in moved)
    if still:
        raise RuntimeError(f"wrong: {still} of {len(moved)} trainable parameters stand still")
    expected = _clipped_sum(grads, clip_norm)
    gap = [one - ref for one, ref in zip(moved, expected, strict=True)]
    error = float(_norm(gap) / _norm(expected))
    if not error < _TOLERANCE:
        raise RuntimeError(f"wrong: not the sum of clipped gradients, off by {error:.0%}")


def _perturb(model: nn.Module) -> None:
    """Move parameters away from exact zeros (LoRA's B), where gradients of others vanish."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainable(model):
            parameter.add_(torch.randn_like(parameter), alpha=_PERTURBATION)


def _moved(build: Builder, problem: Problem, clip_norm: float) -> list[torch.Tensor]:
    """Return the sum of gradients that an engine's step without noise stands for."""
    before = [parameter.detach().clone() for parameter in trainable(problem.model)]
    rate = 1 / clip_norm  # large: the rounding of weights does not count
    settings = Settings(partial(_sgd, rate=rate), noise_multiplier=_NO_NOISE, clip_norm=clip_norm)
    build(problem, settings)()
    return [
        (old - new.detach()) * (problem.batch_size / rate)
        for old, new in zip(before, trainable(problem.model), strict=True)
    ]


def _clipped_sum(grads: Sequence[_Gradients], clip_norm: float) -> list[torch.Tensor]:
    factors = [clip_norm / _norm(one) for one in grads]
    return [
        torch.stack([factor * part for factor, part in zip(factors, parts, strict=True)]).sum(0)
        for parts in zip(*grads, strict=True)
    ]


def reason(error: Exception) -> str:
    """Return one short line of why an engine cannot do a problem, for a cell of a table.

    Args:
        error: What it raised.

    Privacy:
        Nothing, no data touched.
    """
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0] if lines else ''}".replace("|", "/")
    return text if len(text) <= _REASON else text[: _REASON - 3] + "..."


def _unlike(problem: Problem) -> Problem:
    """Let records of a language model predict one token each, at different places.

    Gradients of whole sequences of random tokens are nearly parallel: clipping their mean instead
    of each would go unseen.
    """
    labels = problem.batch["labels"]
    if labels.dim() == 1:
        return problem
    place_B = (torch.arange(len(labels)) + 1) * (labels.shape[1] - 1) // len(labels)
    kept = torch.zeros_like(labels, dtype=torch.bool)
    kept[torch.arange(len(labels)), place_B] = True
    batch = {**problem.batch, "labels": labels.masked_fill(~kept, IGNORED)}
    return dataclasses.replace(problem, batch=batch)


def _record_gradients(problem: Problem) -> list[_Gradients]:
    """Return the gradients of every record by itself."""
    parameters = trainable(problem.model)
    found: list[_Gradients] = []
    for record in range(problem.batch_size):
        one = {name: value[record : record + 1] for name, value in problem.batch.items()}
        found.append(torch.autograd.grad(problem.loss(problem.model, one).sum(), parameters))
    return found


def _norm(tensors: _Gradients) -> torch.Tensor:
    norms = torch.stack([tensor.norm() for tensor in tensors])
    return norms.square().sum().sqrt()


def _sgd(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(trainable(model), lr=rate)
