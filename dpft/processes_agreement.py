"""What all processes of a run have to hold alike, compared before the first record is sampled."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from dpft.fingerprint import fingerprint
from dpft.privacy import PrivacyPlan
from dpft.processes import Processes
from dpft.records import Row
from dpft.run_folder import environment

__all__ = ["refuse_other_records", "refuse_other_runs"]

_SECTIONS = {
    "privacy": "privacy plan",
    "generator": "randomness",
    "adapter": "adapter",
    "parameter": "parameters",
    "base model": "frozen weights",
}


def refuse_other_runs(
    processes: Processes, model: nn.Module, plan: PrivacyPlan, generator: str
) -> None:
    """Raise on all processes unless they are about to train the same model by the same plan.

    Args:
        processes: The processes.
        model: The model of this one.
        plan: The plan of this one.
        generator: Name of its source of randomness.

    Raises:
        ConfigurationError: Naming what differs.
        LostProcessError: If another process is gone.

    Privacy:
        Nothing, no data touched (`test_a_process_with_other_records_is_refused`).
    """
    if not processes.are_several:
        return
    held = fingerprint(model, plan, None, generator=generator)
    facts: dict[str, list[bytes]] = {name: [] for name in _SECTIONS.values()}
    for field, value in held.items():
        facts[_SECTIONS[field.split(".")[0]]].append(f"{field}={json.dumps(value)}".encode())
    versions = json.dumps(environment()["versions"], sort_keys=True).encode()
    processes.require_same({**facts, "versions of packages": [versions]})


def refuse_other_records(
    processes: Processes, records: Sequence[Row], owners: Sequence[str] | None
) -> None:
    """Raise on all processes unless they hold the same records in the same order.

    Args:
        processes: The processes.
        records: Encoded records of this one.
        owners: Owner of each, None where the unit is a record.

    Raises:
        ConfigurationError: If records or owners differ.
        LostProcessError: If another process is gone.

    Privacy:
        A record at two positions could be sampled twice in a step, and move the sum by twice the
        clip norm (`test_a_process_with_other_records_is_refused`). Digests are keyed, stay in
        memory and are forgotten at once.
    """
    if not processes.are_several:
        return
    names = (owner.encode() for owner in owners or ())
    processes.require_same({"records in the same order": _contents(records), "owners": names})


def _contents(records: Sequence[Row]) -> Iterator[bytes]:
    for index in range(len(records)):
        yield json.dumps(dict(records[index]), sort_keys=True, default=_plain).encode()


def _plain(value: Any) -> Any:
    """Return what JSON can hold; of tensors and arrays all entries, whatever their number."""
    entries = getattr(value, "tolist", None)
    return repr(value) if entries is None else entries()
