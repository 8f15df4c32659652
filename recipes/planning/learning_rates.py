"""Learning rates of published private runs, and what follows from them for another batch."""

import dataclasses
import math
from collections.abc import Sequence

from dpft.errors import ConfigurationError

__all__ = ["RUNS", "PublishedRun", "nearest_run", "scaled_learning_rate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """A private run whose learning rate is known.

    Args:
        adapter: Name of the method.
        writes_text: Whether texts are written, not labels named.
        parameters: Weights of the base model.
        batch: Its batch size.
        learning_rate: Of Adam.
        source: Where it stands.

    Privacy:
        Nothing, no data touched.
    """

    adapter: str
    writes_text: bool
    parameters: int
    batch: int
    learning_rate: float
    source: str


_YU = "the released code of Yu et al. 2022 (2110.06500)"
_ROBERTA_BASE = 125_000_000


def _yu(adapter: str, learning_rate: float, parameters: int = _ROBERTA_BASE) -> PublishedRun:
    return PublishedRun(
        adapter=adapter,
        writes_text=False,
        parameters=parameters,
        batch=2000,
        learning_rate=learning_rate,
        source=_YU,
    )


def _lora(
    batch: int, learning_rate: float, parameters: int, source: str, *, writes_text: bool = False
) -> PublishedRun:
    return PublishedRun(
        adapter="lora",
        writes_text=writes_text,
        parameters=parameters,
        batch=batch,
        learning_rate=learning_rate,
        source=source,
    )


RUNS: tuple[PublishedRun, ...] = (
    _lora(2048, 4e-3, 22_700_000, "experiment=sst2_minilm_lora, docs/results.md"),
    _yu("lora", 1e-3),
    _yu("lora", 1e-3, 355_000_000),
    _lora(1024, 3e-4, 7_240_000_000, "the recipe for Mistral-7B of dp-transformers"),
    _lora(128, 4e-4, 355_000_000, _YU, writes_text=True),
    _yu("bottleneck", 1e-3),
    _yu("compacter", 5e-3),
    PublishedRun(
        adapter="bitfit",
        writes_text=False,
        parameters=355_000_000,
        batch=1000,
        learning_rate=5e-3,
        source="the released code of Bu et al. 2022 (2210.00036)",
    ),
)
"""Those with a source; a method that is not among them has no private learning rate we know of."""


def nearest_run(adapter: str, parameters: int, *, writes_text: bool) -> PublishedRun:
    """Return the published run of a method whose model is nearest in size.

    Args:
        adapter: Name of the method.
        parameters: Weights of the base model.
        writes_text: Whether texts are written; a method without such a run falls back on labels.

    Returns:
        The run.

    Raises:
        ConfigurationError: If none of the method is known.

    Privacy:
        Nothing, no data touched.
    """
    known = [run for run in RUNS if run.adapter == adapter]
    if not known:
        raise ConfigurationError(
            f"Expected adapter={adapter} to be one of {', '.join(_methods(RUNS))}. A private "
            "learning rate is known for these alone. Plan with one of them, or choose the "
            "learning rate by dpft tune."
        )
    fitting = [run for run in known if run.writes_text == writes_text] or known
    return min(fitting, key=lambda run: abs(math.log(run.parameters / parameters)))


def scaled_learning_rate(run: PublishedRun, batch: int) -> float:
    """Return the learning rate of a run for another batch, to two digits.

    Args:
        run: A published run.
        batch: Expected batch size.

    Returns:
        learning_rate x sqrt(batch / run.batch).

    Privacy:
        Nothing, no data touched.

    References:
        Larger batches need larger learning rates: Li et al. 2022 (2110.05679), section 3. The root
        is the rule for adaptive optimisers of Malladi et al. 2022 (2205.10287), derived without
        privacy.
    """
    return float(f"{run.learning_rate * math.sqrt(batch / run.batch):.2g}")


def _methods(runs: Sequence[PublishedRun]) -> list[str]:
    return sorted({run.adapter for run in runs})
