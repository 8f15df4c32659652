"""How exact is the arithmetic of task vectors, ours, peft's and mergekit's, on the same adapters?

    python -m benchmarks.taskvector_exactness --out docs/results/taskvector_exactness.json
    python -m benchmarks.taskvector_exactness --mergekit ENVIRONMENT/bin/python

Sums are made in float32 (ours also in float64) and run in float64. The error of the outputs is
|outputs - expected| / |expected - base|: relative to what the sum moves at all, the worst of the
six operations of `OPERATIONS`; the error of the weights likewise, over all that is added. What is
expected is written out in `benchmarks.taskvector_references`.
"""

import argparse
import copy
import json
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.reporting import machine, machine_line, markdown, save
from benchmarks.taskvector_cases import CASES, OPERATIONS, Case, Trained, trained
from benchmarks.taskvector_contenders import PEFT_SUMS, Made, PeftSum, ours, peft_sums, refusal
from benchmarks.taskvector_mergekit import (
    BESIDE,
    MERGEKIT_SUMS,
    PLAIN_SUM,
    Mergekit,
    export,
    read_back,
)
from benchmarks.taskvector_models import Probe, probe_for
from benchmarks.taskvector_references import (
    Changes,
    changes_in,
    reference_of,
    summed,
    with_changes,
)
from dpft.errors import ConfigurationError

__all__ = ["main", "measured", "methods_table", "table"]

_OURS, _OURS_DOUBLE, _OURS_MERGED = "dpft", "dpft, float64", "dpft, into the weights"
_BEST = "exact weights, rounded"
_FIRST = CASES[0].name
_MORE_PEFT = (
    *PEFT_SUMS,
    PeftSum("dare_linear_svd", whole_rank=True, density=1.0),
    PeftSum("ties_svd", whole_rank=True, density=1.0),
    PeftSum("dare_linear", density=1.0),
    PeftSum("dare_linear", density=0.5),
    PeftSum("magnitude_prune", density=1.0),
    PeftSum("ties", density=1.0),
    PeftSum("ties", density=0.5),
)
_Found = dict[str, dict[str, Any]]


def measured(case: Case, mergekit: Mergekit | None = None, *, quick: bool = False) -> _Found:
    """Return the errors of everybody in one row.

    Args:
        case: The row.
        mergekit: Its process; None leaves it out.
        quick: Whether a tiny random encoder stands for MiniLM.

    Returns:
        By contender and operation: errors of weights and outputs, or a refusal.

    Privacy:
        Nothing, no data touched.
    """
    made, probe = trained(case, quick=quick), probe_for(case.base)
    sums = {_OURS: _by_us(made, probe, torch.float32)}
    sums[_OURS_DOUBLE] = _by_us(made, probe, torch.float64)
    if case.name == _FIRST:
        sums[_OURS_MERGED] = _by_us(made, probe, torch.float32, merged=True)
    sums[_BEST] = _rounded(made, probe)
    ways = _MORE_PEFT if case.name == _FIRST else PEFT_SUMS
    for way, found in peft_sums(made, probe, OPERATIONS, ways).items():
        sums[f"peft {way}"] = found
    if mergekit is not None:
        sums |= _by_mergekit(made, probe, mergekit)
    judged = _judge(made, probe)
    return {
        name: {operation: judged(operation, one) for operation, one in found.items()}
        for name, found in sums.items()
        if found
    }


def table(rows: Mapping[str, _Found]) -> str:
    """Return the table of all kinds: the largest error of the outputs over the operations.

    Args:
        rows: What `measured` returned, by row.

    Privacy:
        Nothing, no data touched.
    """
    columns = {
        "dpft": [_OURS],
        "dpft, float64": [_OURS_DOUBLE],
        "best float32 weights": [_BEST],
        **{
            f"peft {way.name}": [f"peft {way.name}", "peft any", "peft sum of factors"]
            for way in PEFT_SUMS
        },
        f"mergekit {PLAIN_SUM.method}": [f"mergekit {PLAIN_SUM.name}"],
    }
    lines = [
        [case.name, *(_worst(_first_of(rows[case.name], names)) for names in columns.values())]
        for case in CASES
        if case.name in rows
    ]
    return markdown(["adapter", *columns], lines)


def methods_table(found: _Found) -> str:
    """Return the table of one row: every contender and operation.

    Args:
        found: What `measured` returned.

    Privacy:
        Nothing, no data touched.
    """
    lines = [[name, *map(_cell, errors.values())] for name, errors in found.items()]
    return markdown(["made by", *OPERATIONS], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all rows, or some, and print the tables.

    Args:
        argv: Flags; unset: those of the process.

    Returns:
        0.

    Privacy:
        Nothing, no data touched.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit", type=Path, help="Python of an environment with mergekit")
    parser.add_argument("--out", type=Path, help="results as JSON; rows found there are kept")
    parser.add_argument("--quick", action="store_true", help="a tiny random encoder, as in tests")
    parser.add_argument("--only", nargs="*", help="parts of the names of rows")
    chosen = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # peft's, about its own merging
    torch.set_num_threads(1)
    kept = json.loads(chosen.out.read_text("utf-8")) if chosen.out and chosen.out.exists() else {}
    result = {"machine": machine("cpu"), "mergekit": {}, **kept}
    result.setdefault("rows", {})
    mergekit = Mergekit(chosen.mergekit) if chosen.mergekit else None
    for case in CASES:
        wanted = chosen.only is None or any(part in case.name for part in chosen.only)
        if wanted and case.name not in result["rows"]:
            result["rows"][case.name] = measured(case, mergekit, quick=chosen.quick)
            save(chosen.out, result)
    if mergekit:
        mergekit.close()
        result["mergekit"] = mergekit.versions
        save(chosen.out, result)
    print(machine_line(result["machine"]), "\n")
    print(table(result["rows"]), "\n")
    if _FIRST in result["rows"]:
        print(methods_table(result["rows"][_FIRST]))
    return 0


def _by_us(
    made: Trained, probe: Probe, dtype: torch.dtype, *, merged: bool = False
) -> dict[str, Made | str]:
    try:
        contender = ours(made, probe, dtype, merged=merged)
        return {operation: contender(weights) for operation, weights in OPERATIONS.items()}
    except ConfigurationError as error:
        return dict.fromkeys(OPERATIONS, refusal(error))


def _by_mergekit(
    made: Trained, probe: Probe, mergekit: Mergekit
) -> dict[str, dict[str, Made | str]]:
    ways = MERGEKIT_SUMS if made.case.name == _FIRST else (PLAIN_SUM,)
    jobs = {
        f"{number}_{index}": way.config(weights)
        for number, way in enumerate(ways)
        for index, weights in enumerate(OPERATIONS.values())
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not export(made, folder, jobs):
            return {f"mergekit {PLAIN_SUM.name}": dict.fromkeys(OPERATIONS, "no change of weights")}
        mergekit.merge(folder)
        return {
            f"mergekit {way.name}": {
                operation: read_back(made, probe, folder, f"{number}_{index}")
                for index, operation in enumerate(OPERATIONS)
            }
            for number, way in enumerate(ways)
        }


def _rounded(made: Trained, probe: Probe) -> dict[str, Made | str]:
    """Return the exact sums rounded to float32 as weights: no file of float32 weights is better."""
    if made.case.method in BESIDE:
        return dict.fromkeys(OPERATIONS, "no change of weights")
    base = copy.deepcopy(made.base).double()
    deltas = {name: changes_in(made.base, model) for name, model in made.models.items()}
    found: dict[str, Made | str] = {}
    for operation, weights in OPERATIONS.items():
        nearest = {
            place: (before + added).float().double() - before
            for place, added in summed(deltas, weights).items()
            for before in [base.get_parameter(place).detach()]
        }
        found[operation] = Made(with_changes(base, nearest, probe), nearest)
    return found


def _judge(made: Trained, probe: Probe) -> Callable[[str, Made | str], dict[str, Any]]:
    reference = reference_of(made, probe)
    alone = reference({})
    expected = {operation: reference(weights) for operation, weights in OPERATIONS.items()}
    deltas: Mapping[str, Any] = {}
    if made.case.method not in BESIDE:
        deltas = {name: changes_in(made.base, model) for name, model in made.models.items()}

    def judged(operation: str, one: Made | str) -> dict[str, Any]:
        if isinstance(one, str):
            return {"refused": one}
        wanted = expected[operation]
        off = float((one.outputs - wanted).norm() / (wanted - alone).norm())
        errors = {"outputs": _short(off)}
        if one.changes is not None:
            errors["weights"] = _short(_gap(one.changes, summed(deltas, OPERATIONS[operation])))
        return errors

    return judged


def _gap(found: Changes, wanted: Changes) -> float:
    """Return the relative Frobenius error over all weights together."""
    off, size = 0.0, 0.0
    for place in {*found, *wanted}:
        zeros = torch.zeros(())
        right = wanted.get(place, zeros)
        off += float((found.get(place, zeros) - right).square().sum())
        size += float(right.square().sum())
    return math.sqrt(off / size)


def _short(number: float) -> float:
    return float(f"{number:.2g}")


def _first_of(found: _Found, names: Sequence[str]) -> Mapping[str, Any]:
    return next((found[name] for name in names if name in found), {})


def _worst(errors: Mapping[str, Any]) -> str:
    refused = [one["refused"] for one in errors.values() if "refused" in one]
    measured_ones = [one["outputs"] for one in errors.values() if "outputs" in one]
    if not errors or (not measured_ones and refused[0].startswith("no ")):
        return "-"
    if not measured_ones:
        return "refused"
    text = _number(max(measured_ones))
    return f"{text}; {len(refused)} of {len(errors)} refused" if refused else text


def _cell(error: Mapping[str, Any]) -> str:
    return "refused" if "refused" in error else _number(error["outputs"])


def _number(error: float) -> str:
    return f"{error:.1g}" if error < 1 else f"{error:.2g}"


if __name__ == "__main__":
    sys.exit(main())
