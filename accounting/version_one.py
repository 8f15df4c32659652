"""Certificates of version 1, read as what they meant. Their runs had fewer fields."""

from dpft.accounting.canonical_json import exactly, misfit
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.run_record import SelectionStatus

__all__ = ["run_of_version_one"]

_KNOWN = (
    "accountant",
    "adjacency",
    "clip_norm",
    "clipping",
    "dataset_id",
    "delta",
    "expected_batch_size",
    "generator",
    "inputs",
    "mechanism",
    "num_records",
    "private",
    "run_id",
    "sampler",
    "unit",
)
# Weights that dpft trained lie in a folder of this name. Version 1 did not compose them.
_TRAINED = "adapter"


def run_of_version_one(fields: object) -> dict[str, object]:
    """Return the fields of a run of version 1 as those of the present version.

    Args:
        fields: One run, as version 1 wrote it.

    Returns:
        The same statement: inputs are base models that were taken to be public, the divisor is the
        expected batch size, nothing is claimed on how settings were chosen.

    Raises:
        ConfigurationError: If a field is unknown or missing, or the statement has no exact
            counterpart: an input that was itself trained, whose runs version 1 left out.

    Privacy:
        Nothing, no data touched (`tests/accounting/test_version_one.py`).
    """
    values = exactly("run", fields, _KNOWN)
    names = values["inputs"]
    if not isinstance(names, list) or _TRAINED in names:
        raise ConfigurationError(
            misfit("inputs", names, "names of public base models in format_version=1")
        )
    return values | {
        "divisor": values["expected_batch_size"],
        "excluded": [],
        "inputs": [_public(name).fields() for name in names],
        "ledger": None,
        "partition": None,
        "selection": SelectionStatus.NOT_ACCOUNTED.value,
        "uses": [],
        "versions": {},
    }


def _public(name: str) -> Input:
    return Input(name=name, role=InputRole.BASE_MODEL, status=InputStatus.PUBLIC)
