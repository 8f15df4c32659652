"""The bridge to opacus: per-record gradients for its optimisers, its accountant for our numbers.

The only module that imports opacus (and with it torch). The registry of accountants imports it
when `accountant=prv` is first asked for.
"""

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from opacus.accountants import PRVAccountant
from torch import nn
from torch.optim import Optimizer

from dpft import adapters
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.grid import Grid
from dpft.accounting.mechanisms import Adjacency, PoissonGaussian
from dpft.accounting.registry import register
from dpft.engine.attachment import Engine, PerRecordLoss, batch_size_of
from dpft.engine.record_gradients import RecordGradients
from dpft.engine.refusals import refuse_other_parameters
from dpft.errors import BrokenGuaranteeError

__all__ = ["GradSamples", "prv_epsilon"]


class GradSamples:
    """Fills `p.grad_sample`, so that opacus can train what its own hooks cannot.

    opacus clips, adds noise and accounts; the per-record gradients are ours, by the same engine as
    in `dpft.fit`: (IA)^3, prompts, DoRA, Compacter, ATTEMPT, shared parameters.

    Args:
        model: The model itself, before or after `PrivacyEngine.make_private` wrapped it with
            `grad_sample_mode="no_op"`; not the wrapper.
        optimizer: The optimiser that will step, opacus' own or the one that it wraps.
        loss: Callable (model, batch) -> losses [B], each a function of its own record only.

    Raises:
        BrokenGuaranteeError: If the optimiser does not hold exactly the trainable parameters.
        ConfigurationError: If an adapter must not be trained as it stands.
        UnsupportedError: If the model cannot be clipped exactly, or carries opacus' own hooks.

    Privacy:
        Between `fill` and the optimiser's step the parameters hold raw per-record gradients:
        neither save nor send the model in between. A record whose gradient is not finite
        contributes zero. The rest of the guarantee is opacus': its sampler, its noise, its
        accountant. There is NO preflight: that records are independent of their batch-mates is
        not checked, as `dpft.fit` and `dpft.PrivateStep` do
        (`tests/dpft/bridges/test_grad_samples.py`).

    Example:
        >>> import torch, warnings
        >>> from opacus import PrivacyEngine
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> model = torch.nn.Linear(2, 1)
        >>> data = DataLoader(TensorDataset(torch.ones(20, 2)), batch_size=5)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # opacus advises its secure_mode
        ...     engine = PrivacyEngine()
        >>> _, optimizer, data = engine.make_private(
        ...     module=model,
        ...     optimizer=optimizer,
        ...     data_loader=data,
        ...     noise_multiplier=1.0,
        ...     max_grad_norm=1.0,
        ...     grad_sample_mode="no_op",
        ... )
        >>> loss = lambda model, batch: model(batch["x"]).square().sum(1)
        >>> samples = GradSamples(model, optimizer, loss)
        >>> for (x,) in data:
        ...     samples.fill({"x": x})
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> round(float(engine.get_epsilon(delta=1e-3)))
        3
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, loss: PerRecordLoss) -> None:
        """Look the parameters up and refuse what is not supported."""
        adapters.refuse_unfit(model)
        self._engine = Engine(model, loss)
        refuse_other_parameters(optimizer, self._engine.parameters)

    def fill(self, batch: Mapping[str, torch.Tensor]) -> None:
        """Set `grad_sample` [B, *shape] of every trainable parameter, in one backward pass.

        Args:
            batch: Tensors whose first dimension is B >= 0: Poisson samples may be empty.

        Raises:
            BrokenGuaranteeError: If the last gradients were not used yet, or one by-passed the
                engine; no parameter then holds `grad_sample`.
            UnsupportedError: If an operation's per-record gradient cannot be shown to be exact.
        """
        parameters = self._engine.parameters
        self._refuse_unused()
        for parameter in parameters.values():
            parameter.grad = None  # what opacus' zero_grad leaves
        self._engine.refuse_changed_model()
        is_empty = all(value.dim() > 0 and len(value) == 0 for value in batch.values())
        size = 0 if is_empty else batch_size_of(batch)
        raw = {} if is_empty else _finite(self._engine.gradients(batch))
        for name, parameter in parameters.items():
            absent = parameter.new_zeros(size, *parameter.shape)
            vars(parameter)["grad_sample"] = raw.get(name, absent).detach()

    def _refuse_unused(self) -> None:
        unused = []
        for name, parameter in self._engine.parameters.items():
            if vars(parameter).get("grad_sample") is not None:
                vars(parameter)["grad_sample"] = None
                unused.append(name)
        if unused:
            raise BrokenGuaranteeError(
                f"Expected no parameter to hold grad_sample before fill, got {unused[:5]}; they "
                "were deleted. Two batches in one step were not accounted for. Call "
                "optimizer.step() and optimizer.zero_grad() after each batch."
            )


def _finite(gradients: RecordGradients) -> dict[str, torch.Tensor]:
    """Return gradients in full, zero for records whose whole gradient has no finite norm."""
    norms_B = gradients.raw_norms()
    raw = gradients.instantiated()
    if norms_B is None or bool(torch.isfinite(norms_B).all()):
        return raw
    return {
        name: torch.where(
            torch.isfinite(norms_B).view(-1, *[1] * (grads.dim() - 1)), grads, grads.new_zeros(())
        )
        for name, grads in raw.items()
    }


@register("prv")
def prv_epsilon(mechanisms: tuple[PoissonGaussian, ...], delta: float, grid: Grid) -> float:
    """Bound epsilon by opacus' privacy random variables.

    Args:
        mechanisms: At least one; all share one adjacency, which is not replace-one.
        delta: In (0, 1).
        grid: Its `epsilon_error` is half the width of the interval that encloses epsilon.

    Returns:
        The upper end of the interval.

    Raises:
        ConfigurationError: Under replace-one, for which opacus has no bound.

    Privacy:
        Nothing, no data touched (`test_prv_agrees_with_the_published_anchor`).

    References:
        Gopi et al. 2021 (2106.02848), algorithm 1.
    """
    if mechanisms[0].adjacency is Adjacency.REPLACE_ONE:
        raise ConfigurationError(
            "Expected accountant=prv with adjacency=add_or_remove or zero_out, not replace_one. "
            "Opacus bounds adding and removing records alone. Set accountant to pld."
        )
    accountant = PRVAccountant()
    accountant.history = [
        (mechanism.noise_multiplier, mechanism.sample_rate, mechanism.steps)
        for mechanism in mechanisms
    ]
    # With full batches opacus takes log(1 - sample_rate) = -inf, which is what it should be.
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        # The width of its grid comes from Renyi orders that are few; that costs time, not truth.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        return float(accountant.get_epsilon(delta, eps_error=grid.epsilon_error))
