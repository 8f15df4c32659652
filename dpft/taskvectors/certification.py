"""What a sum of deltas may claim: the union of the runs that its leaves hold traces of.

The certificate is a function of the set of runs, not of the arithmetic: negation refunds nothing, a
leaf used twice is one release, and what has no certificate makes epsilon infinite for good.
"""

import re
from collections.abc import Iterable, Sequence
from enum import Enum

from dpft.accounting import Adjacency, Certificate, RunRecord
from dpft.accounting.composition import adjacency_of, is_bounded, unit_of_runs
from dpft.errors import BrokenGuaranteeError
from dpft.randomness import PinnedRandomness

__all__ = ["Uncertified", "check_runs", "composed", "marked"]

_DELTA = 1e-5  # of the plan that nobody made; epsilon is infinite at every delta
_HASH = re.compile(r"[0-9a-fA-F]{32,}")
_SEEDED = (PinnedRandomness.name.lower(), "seed")


class Uncertified(str, Enum):
    """What to do with a delta that has no certificate."""

    REFUSE = "refuse"
    MARK = "mark"
    """Take it with infinite epsilon, as does everything that is made of it."""


def marked(digest: str) -> Certificate:
    """Return the certificate of tensors of which nothing is known.

    Args:
        digest: SHA-256 of the tensors, so that they are counted once.

    Returns:
        One run that promises nothing.

    Privacy:
        Epsilon is infinite, and stays so in every composition
        (`test_what_has_no_certificate_stays_infinite`).
    """
    run = RunRecord(
        run_id=f"uncertified-{digest[:32]}",
        dataset_id="unknown",
        mechanism=None,
        adjacency=Adjacency.ADD_OR_REMOVE,
        num_records=None,
        expected_batch_size=None,
        clipping="unknown",
        clip_norm=None,
        delta=_DELTA,
        private=False,
        generator="unknown",
        sampler="unknown",
        accountant="pld",
    )
    return Certificate((run,))


def composed(certificates: Iterable[Certificate]) -> Certificate | None:
    """Return the certificate of what is made of several deltas.

    Args:
        certificates: Of the leaves that are left after cancelling.

    Returns:
        The union of their runs; None for nothing, which was made of no data.

    Raises:
        ConfigurationError: If one name stands for two runs, or private runs share no unit or
            neighbouring relation.

    Privacy:
        Nothing, no data touched. Sums, differences and multiples are post-processing
        (`test_negation_refunds_nothing`).
    """
    every = list(certificates)
    if not every:
        return None
    union = every[0].compose(*every[1:])
    bounded = [run for run in union.runs if is_bounded(run)]
    if bounded:
        unit_of_runs(bounded)
        adjacency_of(bounded)
    return union


def check_runs(runs: Sequence[RunRecord]) -> None:
    """Refuse runs whose statement cannot hold, or leaks by itself.

    Args:
        runs: Of one certificate.

    Raises:
        BrokenGuaranteeError: If noise came from a seed, or a partition names hashes of members.

    Privacy:
        Noise that can be drawn again protects nobody, and is cancelled by subtraction
        (`test_noise_from_a_seed_is_refused`). A plain hash of an id tells who is in a data set
        (`test_hashes_of_members_are_refused_as_evidence`).
    """
    for run in runs:
        if run.private and any(word in run.generator.lower() for word in _SEEDED):
            raise BrokenGuaranteeError(
                f"Expected generator={run.generator!r} of the private run {run.run_id[:8]} to be "
                "secret. Noise from a seed can be drawn again and taken off. Train again without a "
                "seed for the noise."
            )
        texts = [text for use in run.touched if use.partition for text in (use.partition.part,)]
        if any(_HASH.search(text) for text in texts):
            raise BrokenGuaranteeError(
                f"Expected partition of the run {run.run_id[:8]} to be named by a public rule, not "
                "by hashes. A plain hash of an id tells everybody who is a member. Name the parts "
                "by a rule such as 'sha256(user id) mod 4' and '0'."
            )
