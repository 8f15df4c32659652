"""What the certificate of a sum says, by mechanisms and by published pairs.

    python -m benchmarks.taskvector_certificates

Runs of DP-SGD with Poisson sampling, sample rate 0.01, 500 steps, each with the least noise that
meets its epsilon at delta 1e-5 by itself. Composed are the mechanisms, by PLD and by RDP; the
pairs (epsilon, delta) alone, each taken at delta / 2k so that half of delta is left; and, for the
simplest, the sum of the epsilons, which holds at the sum of the deltas only.
"""

import dataclasses
import sys
from collections.abc import Sequence
from functools import cache

from benchmarks.reporting import markdown
from dpft.accounting import (
    Adjacency,
    Certificate,
    Opaque,
    Partition,
    PoissonGaussian,
    PrivacyTarget,
    RunRecord,
    calibrate,
)

__all__ = ["Row", "main", "table"]

_DELTA, _SAMPLE_RATE, _STEPS = 1e-5, 0.01, 500
_RECORDS = 10_000
_RULE = "sha256(user id) mod 2"
_SUMS = ((2.0, 2.0), (1.0, 4.0), (8.0, 8.0), (2.0,) * 4, (1.0, 2.0, 4.0, 8.0), (2.0,) * 8)


@dataclasses.dataclass(frozen=True)
class Row:
    """Epsilon of a sum of vectors.

    Args:
        epsilons: Of its runs, each alone at delta 1e-5.
        mechanisms: Of the composed mechanisms, by PLD.
        renyi: Likewise, by RDP.
        pairs: Of the composed pairs.

    Privacy:
        Nothing, no data touched.
    """

    epsilons: tuple[float, ...]
    mechanisms: float
    renyi: float
    pairs: float

    @classmethod
    def of(cls, epsilons: tuple[float, ...]) -> "Row":
        """Compose runs on the same people.

        Args:
            epsilons: Of the runs.

        Privacy:
            Nothing, no data touched.
        """
        runs = tuple(_run(number, _private(each)) for number, each in enumerate(epsilons))
        certificate = Certificate(runs)
        share = _DELTA / (2 * len(epsilons))
        published = tuple(
            _run(number, Opaque(Certificate((run,)).epsilon(share), share))
            for number, run in enumerate(runs)
        )
        return cls(
            epsilons,
            certificate.epsilon(_DELTA),
            certificate.epsilon(_DELTA, accountant="rdp"),
            Certificate(published).epsilon(_DELTA),
        )


def table(rows: Sequence[Row]) -> str:
    """Return rows in Markdown.

    Args:
        rows: Sums.

    Privacy:
        Nothing, no data touched.
    """
    lines = [
        [
            ", ".join(f"{each:g}" for each in row.epsilons),
            *(f"{each:.2f}" for each in (row.mechanisms, row.renyi, row.pairs)),
            f"{sum(row.epsilons):g}",
        ]
        for row in rows
    ]
    return markdown(["runs on the same people", "PLD", "RDP", "pairs", "sum"], lines)


def main() -> int:
    """Print the table, and what disjoint people cost.

    Returns:
        0.

    Privacy:
        Nothing, no data touched.
    """
    print(table([Row.of(each) for each in _SUMS]))
    parts = [Partition(_RULE, part) for part in ("0", "1")]
    for name, partitions in (("disjoint", parts), ("overlapping", [None, None])):
        runs = tuple(
            _run(number, _private(epsilon), partition)
            for number, (epsilon, partition) in enumerate(zip((2.0, 4.0), partitions, strict=True))
        )
        print(f"2 and 4, {name}: {Certificate(runs).epsilon(_DELTA):.2f}")
    return 0


@cache
def _private(epsilon: float) -> PoissonGaussian:
    made = calibrate(
        PrivacyTarget(epsilon=epsilon, delta=_DELTA), sample_rate=_SAMPLE_RATE, steps=_STEPS
    )
    assert isinstance(made, PoissonGaussian)
    return made


def _run(
    number: int, mechanism: PoissonGaussian | Opaque, partition: Partition | None = None
) -> RunRecord:
    return RunRecord(
        run_id=f"run {number}",
        dataset_id="people",
        mechanism=mechanism,
        adjacency=Adjacency.ADD_OR_REMOVE,
        num_records=_RECORDS,
        expected_batch_size=int(_RECORDS * _SAMPLE_RATE),
        clipping="auto_s",
        clip_norm=1.0,
        delta=_DELTA,
        private=True,
        generator="chacha20",
        sampler="poisson",
        accountant="pld",
        divisor=int(_RECORDS * _SAMPLE_RATE),
        partition=partition,
    )


if __name__ == "__main__":
    sys.exit(main())
