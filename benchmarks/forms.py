"""When is the ghost form of a linear site's per-record gradient cheaper than the full one?

    python -m benchmarks.forms --rounds 5

One site: x [B, N, D] comes in, g [B, N, P] comes back; G_b = g_b^T x_b. Measured for each form is
what clipping needs: |G_b|^2 for every record, then sum_b w_b G_b.

full: G by bmm, its squares, one product with w. ghost: |G_b|^2 = sum((g g^T) * (x x^T)), then one
matrix product (w g)^T x over all B N terms. Both share the product of 2 B N P D operations; ghost
adds N^2 (P + D) a record where full walks over P D numbers. The cost measure is their ratio. Its
threshold is fitted for thin and wide matrices apart: gradients of thin ones stay in the cache,
those of wide ones are fresh pages of memory, which cost far more than operations.

Legend: B records, N terms (tokens) a record, P outputs, D inputs.
"""

import argparse
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import Action, Clock, Interval, Plan, interleaved, median_ratio
from benchmarks.reporting import machine, machine_line, markdown, save

__all__ = ["Site", "Threshold", "fitted", "full", "ghost", "main"]

_RECORDS = (8, 32)
_TERMS = (1, 8, 16, 32, 64, 128, 256)
_SHAPES = (
    (8, 384),
    (384, 8),
    (384, 384),
    (384, 1536),
    (768, 768),
    (1024, 16),
    (8000, 384),
    (50000, 64),
)
_THIN = 2**14  # entries of a matrix that counts as thin
_MAX_BYTES = 2e9
_SHORTEST = 2e8  # operations a sample: shorter ones are repeated, the clock is too coarse for them


@dataclasses.dataclass(frozen=True)
class Site:
    """Shape of one linear site.

    Args:
        records: B.
        terms: N.
        outputs: P.
        inputs: D.

    Privacy:
        Nothing, no data touched.
    """

    records: int
    terms: int
    outputs: int
    inputs: int

    @property
    def cost(self) -> float:
        """Cost measure N^2 (P + D) / (P D): extra work of ghost over extra work of full."""
        return self.terms**2 * (self.outputs + self.inputs) / (self.outputs * self.inputs)

    @property
    def is_thin(self) -> bool:
        """Whether the gradients of a batch fit into a cache."""
        return self.outputs * self.inputs <= _THIN

    @property
    def bytes(self) -> float:
        """Memory of either form in float32: the gradients and their squares, or the two Grams."""
        grads = 2 * self.outputs * self.inputs
        return 4.0 * self.records * max(grads, 2 * self.terms**2)

    @property
    def repeats(self) -> int:
        """Runs in one sample, so that it is long enough for the clock."""
        each = 2 * self.records * self.terms * self.outputs * self.inputs
        return max(1, min(100, round(_SHORTEST / each)))


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A bound on the cost measure below which ghost is taken.

    Args:
        value: The bound.
        mean_loss: Geometric mean over sites of (time of the form taken / time of the faster one).
        worst_loss: The largest of these.

    Privacy:
        Nothing, no data touched.
    """

    value: float
    mean_loss: float
    worst_loss: float


def full(x_BND: torch.Tensor, g_BNP: torch.Tensor, w_B: torch.Tensor) -> torch.Tensor:
    """Return sum_b w_b G_b [P, D] by way of every G_b, having taken their norms.

    Privacy:
        Nothing, no data touched: the tensors are random.
    """
    rows_BK = torch.bmm(g_BNP.transpose(1, 2), x_BND).flatten(1)
    w_B = w_B + 0 * rows_BK.square().sum(1)  # as in clipping, the weights wait for the norms
    return (w_B @ rows_BK).view(g_BNP.shape[2], x_BND.shape[2])


def ghost(x_BND: torch.Tensor, g_BNP: torch.Tensor, w_B: torch.Tensor) -> torch.Tensor:
    """Return sum_b w_b G_b [P, D] without any G_b, having taken their norms.

    Privacy:
        Nothing, no data touched: the tensors are random.
    """
    gram_BNN = torch.bmm(g_BNP, g_BNP.transpose(1, 2))
    gram_BNN *= torch.bmm(x_BND, x_BND.transpose(1, 2))
    w_B = w_B + 0 * gram_BNN.sum((1, 2))
    return (g_BNP * w_B.view(-1, 1, 1)).flatten(0, 1).T @ x_BND.flatten(0, 1)


def fitted(costs: Sequence[float], ratios: Sequence[float]) -> Threshold:
    """Return the threshold that loses least over all sites.

    Args:
        costs: Cost measure of each site.
        ratios: Time of ghost / time of full of each site.

    Privacy:
        Nothing, no data touched.
    """
    ordered = sorted(costs)
    between = [math.sqrt(one * other) for one, other in itertools.pairwise(ordered)]
    return min(
        (
            _judged(value, np.array(costs), np.log(ratios))
            for value in (ordered[0] / 2, *between, ordered[-1] * 2)
        ),
        key=lambda threshold: threshold.mean_loss,
    )


def _judged(value: float, costs: np.ndarray, log_ratios: np.ndarray) -> Threshold:
    taken = np.where(costs < value, log_ratios, 0.0)
    losses = taken - np.minimum(log_ratios, 0.0)
    return Threshold(value, float(np.exp(losses.mean())), float(np.exp(losses.max())))


def _sites(*, quick: bool) -> Iterator[Site]:
    terms, shapes = (_TERMS[:3], _SHAPES[:3]) if quick else (_TERMS, _SHAPES)
    for (outputs, inputs), records, count in itertools.product(shapes, _RECORDS, terms):
        site = Site(records, count, outputs, inputs)
        if site.bytes <= _MAX_BYTES:
            yield site


def _compared(site: Site, plan: Plan) -> tuple[Interval, Interval]:
    """Return time of ghost / time of full, by processor and by wall time."""
    generator = torch.Generator().manual_seed(plan.seed)
    x_BND = torch.randn(site.records, site.terms, site.inputs, generator=generator)
    g_BNP = torch.randn(site.records, site.terms, site.outputs, generator=generator)
    tensors = [tensor.to(plan.device) for tensor in (x_BND, g_BNP, torch.rand(site.records))]
    actions = {form.__name__: _repeated(form, tensors, site.repeats) for form in (full, ghost)}
    samples = interleaved(actions, plan)
    by_cpu, by_wall = (
        median_ratio(samples["ghost"], samples["full"], clock) for clock in (Clock.CPU, Clock.WALL)
    )
    return by_cpu, by_wall


def _repeated(form: object, tensors: Sequence[torch.Tensor], repeats: int) -> Action:
    assert callable(form)

    def run() -> int:
        for _ in range(repeats):
            form(*tensors)
        return repeats

    return run


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--quick", action="store_true", help="a few small sites")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sites, print the table and the fitted thresholds.

    Args:
        arguments: Command line; unset: that of the process.

    Privacy:
        Nothing, no data touched.
    """
    options = _arguments(arguments)
    torch.set_num_threads(options.threads)
    plan = Plan(options.rounds, warm_up=1, device=options.device)
    found = {site: _compared(site, plan) for site in _sites(quick=options.quick)}
    thresholds = _thresholds({site: by_cpu.median for site, (by_cpu, _) in found.items()})
    print(_table(found))
    for group, threshold in thresholds.items():
        print(
            f"\n{group} sites: ghost where N^2 (P+D) / PD < {threshold.value:.3g}; this takes "
            f"{threshold.mean_loss:.3g} of the faster form's time, {threshold.worst_loss:.3g} at "
            "worst."
        )
    print(f"\n{options.rounds} rounds. {machine_line(machine(options.device))}")
    save(options.out, _result(found, thresholds, options.device))


def _thresholds(ratios: Mapping[Site, float]) -> dict[str, Threshold]:
    groups = {
        "All": list(ratios),
        f"Thin (P D <= {_THIN})": [site for site in ratios if site.is_thin],
        f"Wide (P D > {_THIN})": [site for site in ratios if not site.is_thin],
    }
    return {
        name: fitted([site.cost for site in sites], [ratios[site] for site in sites])
        for name, sites in groups.items()
    }


def _table(found: Mapping[Site, tuple[Interval, Interval]]) -> str:
    rows = [
        [f"({s.outputs}, {s.inputs})", str(s.records), str(s.terms), f"{s.cost:.3g}", *map(str, r)]
        for s, r in found.items()
    ]
    header = ["(P, D)", "B", "N", "N^2 (P+D) / PD", "ghost / full, cpu", "ghost / full, wall"]
    return markdown(header, rows)


def _result(
    found: Mapping[Site, tuple[Interval, Interval]],
    thresholds: Mapping[str, Threshold],
    device: str,
) -> dict[str, object]:
    sites = [
        dataclasses.asdict(site)
        | {"cost": site.cost, "cpu": dataclasses.asdict(cpu), "wall": dataclasses.asdict(wall)}
        for site, (cpu, wall) in found.items()
    ]
    fits = {name: dataclasses.asdict(threshold) for name, threshold in thresholds.items()}
    return {"machine": machine(device), "thresholds": fits, "sites": sites}


if __name__ == "__main__":
    main()
