"""The ledger: who may spend how much of a data set's privacy, kept in one SQLite file.

Runs reserve before they start, intend before they sample, and settle at the end. torch is not
imported, nor any other folder of ours; `dpft.booking` joins the ledger to a run.
"""

from dpft.accounting.ledger.budget import Budget, Plans, planned_epsilon
from dpft.accounting.ledger.chain import Entry, Head
from dpft.accounting.ledger.export import export
from dpft.accounting.ledger.lease import Lease, Reservation, Use
from dpft.accounting.ledger.ledger import Ledger
from dpft.accounting.ledger.privacy_filter import FilterOrder, filter_epsilon, orders_for
from dpft.accounting.ledger.record_digests import DigestKey, RecordDigests, private_folder
from dpft.accounting.ledger.summary import DatasetSummary, RunSummary, summarise
from dpft.accounting.ledger.verification import Verdict, verify

__all__ = [
    "Budget",
    "DatasetSummary",
    "DigestKey",
    "Entry",
    "FilterOrder",
    "Head",
    "Lease",
    "Ledger",
    "Plans",
    "RecordDigests",
    "Reservation",
    "RunSummary",
    "Use",
    "Verdict",
    "export",
    "filter_epsilon",
    "orders_for",
    "planned_epsilon",
    "private_folder",
    "summarise",
    "verify",
]
