"""The entry of a noisy metric in a certificate, and which records it is taken on. No torch in here.

A metric on public records costs nothing and has no entry; without a declaration there is no metric.
"""

from dpft.accounting import RunRecord
from dpft.accounting.dataset_use import Partition
from dpft.accounting.run_record import LedgerReference
from dpft.privacy import Privacy, PrivacyPlan

__all__ = ["held_out_name", "metric_id", "metric_record", "training_part"]


def metric_id(run_id: str) -> str:
    """Return the name that a run's metric has in certificates.

    Privacy:
        Nothing, no data touched.
    """
    return f"{run_id}-metric"


def metric_record(
    plan: PrivacyPlan, run_id: str, ledger: LedgerReference | None = None
) -> RunRecord | None:
    """Return the entry of a run's metric in its certificate.

    Args:
        plan: The plan of the run.
        run_id: Random name of the run.
        ledger: Where the run stands in a ledger, which charged the metric with it.

    Returns:
        The entry, or None if nothing is charged. It stands from the start: a run that ends before
        its metric claims a little too much.

    Privacy:
        Public numbers. Unless a public rule keeps them apart, held-out records are taken to be
        training records, and both costs add up (`test_a_noisy_metric_is_part_of_every_number`).
    """
    privacy = plan.privacy
    mechanism = privacy.metric(plan.length.adjacency)
    if mechanism is None:
        return None
    return RunRecord(
        run_id=metric_id(run_id),
        dataset_id=privacy.dataset_id,
        mechanism=mechanism,
        adjacency=mechanism.adjacency,
        num_records=privacy.evaluation_records,
        expected_batch_size=None,
        clipping="one count, to which a record adds 0 or 1",
        clip_norm=None,
        delta=privacy.delta,
        private=True,
        generator="integers of the operating system's source, exact discrete Laplace",
        sampler="all held-out records, once",
        accountant=privacy.accountant.value,
        partition=_part(privacy, "held out"),
        divisor=privacy.evaluation_records,
        ledger=ledger,
    )


def training_part(privacy: Privacy) -> Partition | None:
    """Return which part of the data set is trained on, None if it may be all of it.

    Privacy:
        Nothing, no data touched: the rule is the user's statement.
    """
    return _part(privacy, "training")


def held_out_name(privacy: Privacy) -> str:
    """Return the name under which a ledger charges held-out records.

    Returns:
        That of the training records, unless a public rule keeps the two apart.

    Privacy:
        Nothing, no data touched.
    """
    apart = privacy.evaluation_split is not None
    return f"{privacy.dataset_id}, held out" if apart else privacy.dataset_id


def _part(privacy: Privacy, part: str) -> Partition | None:
    rule = privacy.evaluation_split
    return None if rule is None else Partition(rule=rule, part=part)
