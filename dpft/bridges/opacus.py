"""The bridge to opacus: gradients and our accountant for its engine, its accountant for ours.

The only module that imports opacus (and with it torch). The registry of accountants imports it
when `accountant=prv` is first asked for.
"""

import math
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from opacus.accountants import IAccountant, PRVAccountant
from opacus.accountants import registry as opacus_registry
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.optim import Optimizer

from dpft import adapters
from dpft.accounting.accountants import epsilon
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.grid import DEFAULT_GRID, Grid
from dpft.accounting.mechanisms import Adjacency, Gaussian, Mechanism, PoissonGaussian
from dpft.accounting.registry import register
from dpft.engine.attachment import Engine, PerRecordLoss, batch_size_of
from dpft.engine.record_gradients import RecordGradients
from dpft.engine.refusals import refuse_other_parameters
from dpft.errors import BrokenGuaranteeError

__all__ = ["GradSamples", "PldAccountant", "prv_epsilon", "register_accountant"]


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


class PldAccountant(IAccountant):  # type: ignore[misc]  # opacus is not typed; its API asks for it
    """Our accountant `pld` under the interface of opacus: tight, and a bound at every step.

    Made by `PrivacyEngine(accountant="pld")` once `register_accountant` was called.

    Privacy:
        What opacus reports to it is taken to be Poisson sampling and Gaussian noise, for adding
        and removing records: with `poisson_sampling=False` its number is wrong, as is that of any
        accountant of opacus. Several samples in one noisy step are refused, which opacus books
        too low (`tests/dpft/bridges/test_opacus_accountant.py`).

    References:
        Doroshenko et al. 2022 (2207.04380).
    """

    def __init__(self) -> None:
        """Start without any step."""
        super().__init__()
        self.history: list[tuple[float, float, int]] = []

    @classmethod
    def mechanism(cls) -> str:
        """Return the name under which opacus knows this accountant.

        Privacy:
            Nothing, no data touched.
        """
        return "pld"

    def __len__(self) -> int:
        return sum(steps for _, _, steps in self.history)

    def step(self, *, noise_multiplier: float, sample_rate: float) -> None:
        """Book one step.

        Args:
            noise_multiplier: Noise std divided by the clip norm, >= 0.
            sample_rate: Probability with which a record entered the step, in (0, 1].

        Privacy:
            Nothing, no data touched. Equal steps in a row are kept as one entry.
        """
        steps = 1
        if self.history and tuple(self.history[-1][:2]) == (noise_multiplier, sample_rate):
            steps += self.history.pop()[2]
        self.history.append((noise_multiplier, sample_rate, steps))

    def get_epsilon(self, delta: float, *, grid: Grid = DEFAULT_GRID) -> float:
        """Return the epsilon of all booked steps.

        Args:
            delta: In (0, 1).
            grid: How finely to discretise; `get_noise_multiplier` of opacus passes it on.

        Returns:
            An upper bound; 0 before the first step, infinite after a step without noise.

        Raises:
            ConfigurationError: If delta or a booked step is out of range.
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched (`test_epsilon_of_opacus_engine_is_ours`).
        """
        if not self.history:
            return 0.0
        if any(noise == 0 for noise, _, _ in self.history):
            return math.inf
        booked = [PoissonGaussian(noise, rate, steps) for noise, rate, steps in self.history]
        return epsilon(booked, delta, grid=grid)

    def get_optimizer_hook_fn(self, sample_rate: float) -> Callable[[DPOptimizer], None]:
        """Return what opacus calls after each step of its optimiser.

        Args:
            sample_rate: Probability with which a record enters one sample.

        Returns:
            A function that books the step.

        Privacy:
            Samples that were accumulated in one step are refused: a record may be in several of
            them, which a larger sample rate does not cover
            (`test_accumulated_samples_are_refused`).
        """

        def book(optimizer: DPOptimizer) -> None:
            if optimizer.accumulated_iterations != 1:
                raise BrokenGuaranteeError(
                    f"Expected accumulated_iterations={optimizer.accumulated_iterations} == 1. A "
                    "record that is in several samples of one step moves it by more than the clip "
                    "norm. Draw one sample per step, and split it with BatchMemoryManager."
                )
            self.step(noise_multiplier=optimizer.noise_multiplier, sample_rate=sample_rate)

        return book


def register_accountant() -> str:
    """Teach opacus the name of our accountant.

    Returns:
        The name, ``pld``, for `PrivacyEngine(accountant=...)` and `get_noise_multiplier`. Calling
        it again changes nothing.

    Raises:
        ConfigurationError: If opacus knows another accountant by this name.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> from opacus.accountants import create_accountant
        >>> type(create_accountant(register_accountant())).__name__
        'PldAccountant'
    """
    name = PldAccountant.mechanism()
    known = opacus_registry._ACCOUNTANTS.get(name)  # noqa: SLF001  # opacus has no way to ask
    if known is None:
        opacus_registry.register_accountant(name, PldAccountant)
    elif known is not PldAccountant:
        raise ConfigurationError(
            f"Expected accountant={name} to be unknown to opacus, not {known!r}. A second one "
            "would silently change what epsilon means. Register the other under another name."
        )
    return name


@register("prv")
def prv_epsilon(mechanisms: tuple[Mechanism, ...], delta: float, grid: Grid) -> float:
    """Bound epsilon by opacus' privacy random variables.

    Args:
        mechanisms: At least one; all share one adjacency, which is not replace-one.
        delta: In (0, 1).
        grid: Its `epsilon_error` is half the width of the interval that encloses epsilon.

    Returns:
        The upper end of the interval.

    Raises:
        ConfigurationError: For anything but Gaussian noise on Poisson samples or full batches, and
            under replace-one: opacus has no bound of them.

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
    accountant.history = [_history(mechanism) for mechanism in mechanisms]
    # With full batches opacus takes log(1 - sample_rate) = -inf, which is what it should be.
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        # The width of its grid comes from Renyi orders that are few; that costs time, not truth.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        return float(accountant.get_epsilon(delta, eps_error=grid.epsilon_error))


def _history(mechanism: Mechanism) -> tuple[float, float, int]:
    """Return a mechanism in the words of opacus: noise multiplier, sample rate, steps."""
    if isinstance(mechanism, PoissonGaussian):
        return mechanism.noise_multiplier, mechanism.sample_rate, mechanism.steps
    if isinstance(mechanism, Gaussian):
        return mechanism.noise_multiplier, 1.0, mechanism.steps
    raise ConfigurationError(
        f"Expected accountant=prv with poisson_gaussian or gaussian, not {mechanism.kind}. Opacus "
        "bounds Gaussian noise on Poisson samples alone. Set accountant to pld, or to rdp for "
        "repeat_and_select."
    )
