"""`dpft ledger`: budgets of data sets, and what was charged to them.

Nothing is trained and no record is read; torch is not imported.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dpft.accounting.ledger import Budget, Head, Ledger, Plans, export, summarise, verify
from dpft.accounting.rules import delta_problems, require
from dpft.errors import ConfigurationError
from dpft.ledger_place import FILE_NAME, VARIABLE

__all__ = ["main"]

_DELTA = 1e-5


def main(argv: Sequence[str]) -> int:
    """Show, check or change a ledger.

    Args:
        argv: `show`, `verify`, `export`, `settle`, `budget` or `disjoint`, with its arguments.

    Returns:
        0; every failure is raised.

    Raises:
        ConfigurationError: If there is no such ledger, data set or run.
        LedgerError: If the ledger cannot be read, trusted or written.

    Privacy:
        Public numbers and names; no digest of a record is ever shown
        (`tests/recipes/test_cli_ledger.py`).
    """
    arguments = _parser().parse_args(argv)
    act: Callable[[argparse.Namespace, Path], None] = arguments.act
    act(arguments, _file(arguments.ledger))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dpft ledger", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    show = _verb(verbs, "show", _show, "what is charged to data sets, and what is left")
    show.add_argument("dataset", nargs="?", help="one data set, with its runs")
    show.add_argument("--delta", type=float, default=_DELTA, help="where there is no budget")
    show.add_argument("--json", action="store_true", help="print JSON")
    check = _verb(verbs, "verify", _verify, "compute everything again from the entries")
    check.add_argument("--head", help="HASH:SEQ that a certificate quotes")
    out = _verb(verbs, "export", _export, "write all entries as JSON lines, without digests")
    out.add_argument("file", type=Path, help="a new file")
    end = _verb(verbs, "settle", _settle, "close a run that will not be resumed")
    end.add_argument("run", help="name of the run, as dpft ledger show DATASET has it")
    budget = _verb(verbs, "budget", _budget, "set what may be spent on a data set")
    budget.add_argument("dataset", help="privacy.dataset_id of the runs")
    budget.add_argument("--epsilon", type=float, help="unset: as before")
    budget.add_argument("--delta", type=float, help="unset: as before")
    budget.add_argument("--plans", choices=[each.value for each in Plans], help="unset: as before")
    apart = _verb(verbs, "disjoint", _disjoint, "state that two data sets share no record")
    apart.add_argument("one")
    apart.add_argument("other")
    apart.add_argument("--rule", required=True, help="the public rule, in words")
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    act: Callable[[argparse.Namespace, Path], None],
    meaning: str,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=meaning, description=meaning)
    verb.add_argument(
        "--ledger",
        type=Path,
        help=f"the file; unset: ${VARIABLE}, else {FILE_NAME} here or in runs",
    )
    verb.set_defaults(act=act)
    return verb


def _file(named: Path | None) -> Path:
    """Return the ledger; never a new one that no run would look at."""
    variable = os.environ.get(VARIABLE)
    if named or variable:
        return named or Path(str(variable)).expanduser()
    here = [place for place in (Path(FILE_NAME), Path("runs") / FILE_NAME) if place.exists()]
    if len(here) > 1:
        raise ConfigurationError(
            f"Expected --ledger or {VARIABLE} to be given: there are {here[0]} and {here[1]}. They "
            "know nothing of each other. Name the one that the runs are charged in."
        )
    if not here:
        raise ConfigurationError(
            f"Expected --ledger or {VARIABLE} to be given: there is no {FILE_NAME} here or in "
            "runs. Runs are charged in the file that dpft train prints at its start, and a budget "
            "elsewhere binds nobody. Name that file, and give it to dpft train as privacy.ledger."
        )
    return here[0]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ConfigurationError(
            f"Expected ledger={path} to exist. Nothing was charged there. Name the file that dpft "
            f"train printed, by --ledger or {VARIABLE}."
        )
    return path


def _show(arguments: argparse.Namespace, path: Path) -> None:
    from dpft.recipes.cli.ledger_output import (
        print_dataset,
        print_datasets,
        print_json,
        print_open_runs,
    )

    require(delta_problems(arguments.delta))
    with Ledger.read(_existing(path)) as ledger:
        state = ledger.state
    names = [arguments.dataset] if arguments.dataset else state.datasets
    summaries = [summarise(state, name, arguments.delta) for name in names]
    if arguments.json:
        print_json(summaries)
        return
    if arguments.dataset:
        print_dataset(summaries[0])
    else:
        print_datasets(summaries)
    print_open_runs(summaries, path)


def _verify(arguments: argparse.Namespace, path: Path) -> None:
    quoted = None if arguments.head is None else Head.parse(arguments.head)
    with Ledger.read(_existing(path)) as ledger:
        verdict = verify(ledger, quoted)
    print(f"{verdict.entries} entries, each follows the one before. Head {verdict.head}")
    if quoted is None:
        print("Whether the end was cut off shows against the head in a certificate: --head.")
    else:
        print(f"Entry {quoted.seq} is the one that was quoted.")


def _export(arguments: argparse.Namespace, path: Path) -> None:
    with Ledger.read(_existing(path)) as ledger:
        count = export(ledger, arguments.file)
    print(f"{count} entries in {arguments.file}, without digests of records")


def _settle(arguments: argparse.Namespace, path: Path) -> None:
    with Ledger.open(_existing(path)) as ledger:
        ledger.settle(arguments.run)
        lease = ledger.state.lease(arguments.run)
    print(f"run {arguments.run} is settled: {lease.intended} of {lease.steps} steps may have begun")


def _budget(arguments: argparse.Namespace, path: Path) -> None:
    with Ledger.open(path) as ledger:
        budget = _changed(ledger.state.budgets.get(arguments.dataset), arguments)
        ledger.set_budget(arguments.dataset, budget)
        is_used = arguments.dataset in ledger.state.keys
    print(
        f"budget of {arguments.dataset} in {path}: epsilon {budget.epsilon:g} at delta "
        f"{budget.delta:g}, {budget.plans.value} plans"
    )
    if not is_used:
        print(f"No run named {arguments.dataset} as its privacy.dataset_id so far.")


def _changed(present: Budget | None, arguments: argparse.Namespace) -> Budget:
    values = {
        name: given if given is not None else getattr(present, name, None)
        for name, given in (
            ("epsilon", arguments.epsilon),
            ("delta", arguments.delta),
            ("plans", arguments.plans),
        )
    }
    if values["epsilon"] is None or values["delta"] is None:
        raise ConfigurationError(
            f"Expected --epsilon and --delta with the first budget of {arguments.dataset}. One "
            "says nothing without the other. Give both."
        )
    return Budget(**values | {"plans": values["plans"] or Plans.ADAPTIVE})


def _disjoint(arguments: argparse.Namespace, path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.declare_disjoint(arguments.one, arguments.other, arguments.rule)
    print(f"{arguments.one} and {arguments.other} do not share a budget: {arguments.rule}")
