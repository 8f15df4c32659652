"""One training step by each engine: forward, backward, clip, noise, optimiser.

Every builder takes a problem of its own and returns an action that does one step on its batch.
An engine that cannot do a problem raises, when it is built or at its first step; one that does
something else than clipping every record is found by `benchmarks.exactness`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import nn

import dpft
from benchmarks.cases import Problem
from benchmarks.measuring import Action
from benchmarks.peers.older import OLDER, Attach, Terms
from dpft.losses import CausalLanguageModelling
from dpft.performance import Performance
from dpft.privacy import ClippingStyle
from dpft.private_step import StepSettings

__all__ = [
    "ENGINES",
    "IGNORED",
    "OLDER_ENGINES",
    "PLAIN",
    "Builder",
    "Settings",
    "adamw",
    "trainable",
]

PLAIN = "plain"
_STEPS = 1_000_000  # of the plan; more than any benchmark takes
IGNORED = -100  # label of tokens that carry no loss
_Row = Mapping[str, Any]


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser that every engine uses."""
    return torch.optim.AdamW(trainable(model), lr=1e-4)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all engines are given alike.

    Args:
        optimizer: Makes the optimiser of a model.
        noise_multiplier: Noise std / clip norm, > 0.
        clip_norm: Bound on one record's contribution, > 0.

    Privacy:
        Nothing, no data touched.
    """

    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adamw
    noise_multiplier: float = 1.0
    clip_norm: float = 1.0

    def of_opacus(self, problem: Problem) -> dict[str, Any]:
        """Return the same for Opacus's optimisers."""
        return {
            "noise_multiplier": self.noise_multiplier,
            "max_grad_norm": self.clip_norm,
            "expected_batch_size": problem.batch_size,
        }


Builder = Callable[[Problem, Settings], Action]


def _plain(problem: Problem, settings: Settings) -> Action:
    """The step without privacy, as everybody writes it."""
    optimizer = settings.optimizer(problem.model)

    def step() -> int:
        problem.model(**problem.batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return 1

    return step


def _dpft(problem: Problem, settings: Settings) -> Action:
    """`PrivateStep` at sample rate 1, so that every sample is the same physical batch."""
    size = problem.batch_size
    rows = [{"row": row} for row in range(size)]
    privacy = dpft.Privacy(
        noise_multiplier=settings.noise_multiplier,
        delta=1e-5,
        clip_norm=settings.clip_norm,
        clipping=ClippingStyle.FLAT,
        expected_batch_size=size,
        steps=_STEPS,
    )
    uncut = StepSettings(
        performance=Performance(token_budget=size, max_physical_batch=size), synthetic=rows[:3]
    )
    optimizer = settings.optimizer(problem.model)
    private = dpft.PrivateStep(problem.model, optimizer, privacy, problem.loss, uncut)
    batches = private.batches(rows, _chosen_from(problem.batch))

    def step() -> int:
        private(next(batches))
        return 1

    return step


def _chosen_from(
    batch: Mapping[str, torch.Tensor],
) -> Callable[[Sequence[_Row]], dict[str, torch.Tensor]]:
    """Return a collate function that looks rows up in a batch."""

    def collate(rows: Sequence[_Row]) -> dict[str, torch.Tensor]:
        index = [row["row"] for row in rows]
        return {name: value[index] for name, value in batch.items()}

    return collate


def _opacus_hooks(problem: Problem, settings: Settings) -> Action:
    """Opacus's per-sample gradients by hooks, its default."""
    return _opacus(problem, settings, force_functorch=False)


def _opacus_functorch(problem: Problem, settings: Settings) -> Action:
    """Opacus's per-sample gradients by functorch, which needs no rule for a layer."""
    return _opacus(problem, settings, force_functorch=True)


def _opacus(problem: Problem, settings: Settings, *, force_functorch: bool) -> Action:
    optimizer = settings.optimizer(problem.model)
    module = GradSampleModule(problem.model, force_functorch=force_functorch)
    private = DPOptimizer(optimizer, **settings.of_opacus(problem))
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORED)

    def step() -> int:
        logits, labels = _flat(problem, module)
        criterion(logits, labels).backward()
        private.step()
        private.zero_grad(set_to_none=True)
        return 1

    return step


def _opacus_ghost(problem: Problem, settings: Settings) -> Action:
    """Opacus's ghost clipping: a second backward pass instead of per-sample gradients."""
    optimizer = settings.optimizer(problem.model)
    module = GradSampleModuleFastGradientClipping(
        problem.model, max_grad_norm=settings.clip_norm, use_ghost_clipping=True
    )
    private = DPOptimizerFastGradientClipping(optimizer, **settings.of_opacus(problem))
    criterion = DPLossFastGradientClipping(
        module, private, nn.CrossEntropyLoss(ignore_index=IGNORED)
    )
    is_lm = isinstance(problem.loss, CausalLanguageModelling)
    shape = tuple(problem.batch["labels"].shape) if is_lm else None

    def step() -> int:
        logits, labels = _flat(problem, module)
        criterion(logits, labels, shape=shape).backward()
        private.step()
        private.zero_grad(set_to_none=True)
        return 1

    return step


def _older(attach: Attach) -> Builder:
    """An engine of a peer whose sources have to be given."""

    def build(problem: Problem, settings: Settings) -> Action:
        terms = Terms(settings.noise_multiplier, settings.clip_norm, problem.batch_size)
        take = attach(problem.model, settings.optimizer(problem.model), terms)

        def step() -> int:
            take(problem.loss(problem.model, problem.batch), is_last=True)
            return 1

        return step

    return build


def _flat(problem: Problem, module: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels for a criterion, one row a prediction.

    The labels of a language model are shifted, not its logits, as transformers does it: no copy.
    """
    inputs = {name: value for name, value in problem.batch.items() if name != "labels"}
    logits, labels = module(**inputs).logits, problem.batch["labels"]
    if not isinstance(problem.loss, CausalLanguageModelling):
        return logits, labels
    logits = logits[:, -labels.shape[1] :]  # a soft prompt comes before them
    shifted = nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    return logits.flatten(0, 1), shifted.flatten()


ENGINES: dict[str, Builder] = {
    PLAIN: _plain,
    "dpft": _dpft,
    "opacus hooks": _opacus_hooks,
    "opacus ghost": _opacus_ghost,
    "opacus functorch": _opacus_functorch,
}
OLDER_ENGINES: dict[str, Builder] = {name: _older(attach) for name, attach in OLDER.items()}
"""Engines of peers whose sources have to be given."""
