"""fastDP and private-transformers on today's libraries, from a folder that holds their sources.

    git clone https://github.com/awslabs/fast-differential-privacy      # fastDP 2.0.0, 3d5cc56
    git clone https://github.com/lxuechen/private-transformers          # 0.2.3, 18ccc4e
    cp -r fast-differential-privacy/fastDP private-transformers/private_transformers PEERS

Both rewrite the forward pass of some models of transformers to repeat positions; their code does
not fit transformers 5 and is left out, so that models with trained positions have to be given them.
private-transformers asks for a package of which it uses two functions, and knows no model of peft.
Neither samples by Poisson, nor do they refuse what they cannot see: `benchmarks.exactness` does.
"""

import contextlib
import io
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

__all__ = ["OLDER", "Attach", "Take", "Terms", "add_sources"]

_PT = "private_transformers"
_HOOKS = {"default": "default", "ghost": "ghost_norm"}
_MANY = 1_000_000  # records of a data set; only their accounting reads it


@dataclass(frozen=True)
class Terms:
    """What an engine is told.

    Args:
        noise_multiplier: Noise std / clip norm, > 0.
        clip_norm: Bound on one record's contribution, > 0.
        expected_batch_size: Divisor of the sum of a logical batch.

    Privacy:
        Nothing, no data touched.
    """

    noise_multiplier: float
    clip_norm: float
    expected_batch_size: int


class Take(Protocol):
    """Takes the losses of a physical batch."""

    def __call__(self, losses: torch.Tensor, *, is_last: bool) -> None:
        """Add the clipped gradients of records to the logical batch.

        Args:
            losses: [B], one of each record.
            is_last: Whether the logical batch ends here and the optimiser moves.
        """


Attach = Callable[[nn.Module, torch.optim.Optimizer, Terms], Take]


def add_sources(folder: Path) -> None:
    """Let sources be imported, and let them find what is missing.

    Args:
        folder: Holds `fastDP` and `private_transformers`, or one of them.

    Privacy:
        Nothing, no data touched.
    """
    sys.path.append(str(folder))
    utils = types.ModuleType("ml_swissknife.utils")
    vars(utils).update(ContainerMeta=_Container, handle_unused_kwargs=_pass_over)
    package = types.ModuleType("ml_swissknife")
    vars(package)["utils"] = utils
    sys.modules.setdefault("ml_swissknife", package)


def _pass_over(_: object) -> None:
    """Stand for a notice of options that are not used."""


class _Container(type):
    """Lists the values of a class of names."""

    def all(cls) -> list[str]:
        return [value for name, value in vars(cls).items() if not name.startswith("_")]


def _fastdp(model: nn.Module, optimizer: torch.optim.Optimizer, terms: Terms) -> Take:
    """Clip by "MixOpt": one backward pass, and of each layer the cheaper of two norms."""
    engine = _engine("fastDP")(model, clipping_fn="Abadi", **_common(terms))
    engine.attach(optimizer)

    def take(losses: torch.Tensor, *, is_last: bool) -> None:
        torch.autograd.backward(losses.mean())
        if is_last:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return take


def _private_transformers(mode: str) -> Attach:
    """Clip by gradients of records ("default"), or by a second backward pass ("ghost")."""

    def attach(model: nn.Module, optimizer: torch.optim.Optimizer, terms: Terms) -> Take:
        options = {"clipping_mode": mode, "skip_checks": True, "record_snr": False}
        engine = _engine(_PT)(model, **options, **_common(terms))
        engine.attach(optimizer)
        virtual: Any = optimizer  # the engine adds a method
        set_hooks_mode = import_module(f"{_PT}.autograd_grad_sample").set_hooks_mode

        def take(losses: torch.Tensor, *, is_last: bool) -> None:
            set_hooks_mode(_HOOKS[mode])  # one for all engines of a process
            if not is_last:
                virtual.virtual_step(loss=losses)
                return
            virtual.step(loss=losses)
            optimizer.zero_grad()

        return take

    return attach


def _common(terms: Terms) -> dict[str, Any]:
    return {
        "batch_size": terms.expected_batch_size,
        "sample_size": _MANY,
        "epochs": 1,
        "max_grad_norm": terms.clip_norm,
        "noise_multiplier": terms.noise_multiplier,
    }


def _engine(package: str) -> Callable[..., Any]:
    """Return what makes an engine, which says much that nobody asked for."""

    def make(model: nn.Module, **options: Any) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            support = import_module(f"{package}.transformers_support")
            vars(support)["forward_swapper"] = _leave_as_it_is
            return import_module(package).PrivacyEngine(model, **options)

    return make


def _leave_as_it_is(module: nn.Module) -> None:
    """Stand for the rewriting of forward passes."""


OLDER: dict[str, Attach] = {
    "fastDP": _fastdp,
    "private-transformers": _private_transformers("default"),
    "private-transformers, ghost": _private_transformers("ghost"),
}
"""Engines whose sources have to be given."""
