"""One training step at fixed shapes: time and memory of private engines against the plain step.

    python -m benchmarks.step --rounds 10 --threads 1 --out step.json
    python -m benchmarks.step --only "MiniLM LoRA" --peers FOLDER

All engines hold copies of one model in one process and take turns in random order. Ratios to the
plain step of the same round: median with its 95 % bootstrap interval. Memory: every engine in a
process of its own, peak of one step over what is resident at rest. An engine that cannot do a case,
or does not sum clipped gradients of single records, shows why instead of a number. With `--peers`
fastDP and private-transformers take part (`benchmarks.peers.older`). Large batches get fewer
rounds, at least three. Cases that `--out` holds already are not measured again: to begin anew,
delete the file.
"""

import argparse
import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import CASES, Case, Problem
from benchmarks.engines import ENGINES, OLDER_ENGINES, PLAIN, Builder, Settings
from benchmarks.exactness import reason, refuse_inexact
from benchmarks.measuring import Action, Clock, Interval, Plan, interleaved, median_ratio
from benchmarks.memory import in_own_process, peak_over_rest
from benchmarks.peers.older import add_sources
from benchmarks.reporting import machine, machine_line, markdown, markdown_row, save

__all__ = ["STEP", "Contest", "Row", "main"]

_RATIOS = ["cpu time / plain", "wall time / plain", "step memory / plain"]
_HEADER = ["case", "trainable", "engine", *_RATIOS]
_EVERY: dict[str, Builder] = {**ENGINES, **OLDER_ENGINES}
_TOKENS = 2**16  # that an engine goes through in the rounds of a case, if these are more than three
_FEWEST_ROUNDS = 3
_OF_RECORDS = ("opacus hooks", "opacus functorch", "private-transformers")
_MOST_BYTES = 6 * 2**30  # of the gradients of single records, of which these engines hold two


@dataclasses.dataclass(frozen=True)
class Contest:
    """Who is measured, and at what.

    Args:
        module: Module that is run for it, as in `python -m MODULE`.
        cases: Cases of the table.
        engines: Names of the engines, the plain step among them.
        summary: Makes another table of all rows, for the end; None if there is none.
    """

    module: str
    cases: tuple[Case, ...]
    engines: tuple[str, ...]
    summary: "Callable[[Sequence[Row]], str] | None" = None


STEP = Contest("benchmarks.step", CASES, tuple(ENGINES))
"""All engines at the shapes of the table of steps."""


@dataclasses.dataclass
class Row:
    """What was found for one engine at one case.

    Args:
        case: Name of the case.
        engine: Name of the engine.
        trainable: Number of trainable entries, the head included.
        cpu: Ratio of processor time to the plain step; None if the engine failed.
        wall: Ratio of wall time.
        memory: Ratio of peak memory over rest; None if it failed or was not measured.
        failure: Why the engine cannot do the case.
        rounds: Rounds behind the ratios.

    Privacy:
        Nothing, no data touched.
    """

    case: str
    engine: str
    trainable: int
    cpu: Interval | None = None
    wall: Interval | None = None
    memory: float | None = None
    failure: str | None = None
    rounds: int = 0

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Row":
        """Return a row as it was saved.

        Args:
            fields: What `dataclasses.asdict` made of it.

        Privacy:
            Nothing, no data touched.
        """
        times = {name: fields[name] and Interval(**fields[name]) for name in ("cpu", "wall")}
        return cls(**{**fields, **times})

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        memory = "" if self.memory is None else f"{self.memory:.3f}"
        times = [self.failure, ""] if self.failure else [str(self.cpu), str(self.wall)]
        return [self.case, f"{self.trainable:,}", self.engine, *map(str, times), memory]


def main(arguments: Sequence[str] | None = None, contest: Contest = STEP) -> None:
    """Measure the chosen cases and print the table.

    Args:
        arguments: Command line; unset: that of the process.
        contest: Who is measured, and at what.

    Privacy:
        Nothing, no data touched.
    """
    options = _arguments(arguments)
    warnings.simplefilter("ignore")  # the peers', about themselves
    torch.set_num_threads(options.threads)
    if options.peers:
        add_sources(options.peers)
        contest = dataclasses.replace(contest, engines=(*contest.engines, *OLDER_ENGINES))
    engines = tuple(name for name in contest.engines if _is_asked(name, options))
    contest = dataclasses.replace(contest, engines=engines)
    cases = [case for case in contest.cases if options.only.lower() in case.name.lower()]
    if options.peak_of:
        print(json.dumps({"peak": _peak(_sized(cases[0], options), options)}))
        return
    facts = machine(options.device) | {"rounds": options.rounds}
    rows = _saved(options.out)
    print(markdown(_HEADER, [row.cells() for row in rows]), flush=True)
    for case in (_sized(case, options) for case in cases):  # long runs show and keep what they have
        if case.name in {row.case for row in rows}:
            continue
        found = _measured(case, options, contest)
        print("\n".join(markdown_row(row.cells()) for row in found), flush=True)
        rows += found
        save(options.out, facts | {"rows": [dataclasses.asdict(row) for row in rows]})
    if contest.summary is not None:
        print(f"\n{contest.summary(rows)}")
    print(f"\nAt most {options.rounds} rounds. {machine_line(facts)}")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    parser.add_argument("--engines", default="", help="parts of names, divided by commas; or all")
    parser.add_argument("--peers", type=Path, help="folder of fastDP and private_transformers")
    parser.add_argument("--no-memory", action="store_true", help="time alone")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--peak-of", choices=_EVERY, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _is_asked(engine: str, options: argparse.Namespace) -> bool:
    """Return whether an engine takes part: the plain step always does."""
    return engine == PLAIN or any(part in engine for part in options.engines.lower().split(","))


def _saved(path: Path | None) -> list[Row]:
    if path is None or not path.exists():
        return []
    return [Row.from_json(row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def _rounds(case: Case, options: argparse.Namespace) -> int:
    rounds: int = options.rounds
    return min(rounds, max(_FEWEST_ROUNDS, _TOKENS // (case.records * case.tokens)))


def _sized(case: Case, options: argparse.Namespace) -> Case:
    return case.shrunk() if options.quick else case


def _measured(case: Case, options: argparse.Namespace, contest: Contest) -> list[Row]:
    """Return a row for every engine at one case."""
    problem = case.problem(options.device)
    rows = {engine: Row(case.name, engine, problem.trainable) for engine in contest.engines}
    actions = _able(problem, rows)
    rounds = _rounds(case, options)
    warm_up = min(options.warm_up, 1 if rounds < options.rounds else options.warm_up)
    plan = Plan(rounds, warm_up, device=options.device)
    samples = interleaved(actions, plan)
    for engine in actions:
        row = rows[engine]
        row.rounds = rounds
        row.cpu = median_ratio(samples[engine], samples[PLAIN], Clock.CPU)
        row.wall = median_ratio(samples[engine], samples[PLAIN], Clock.WALL)
    engines = list(actions)
    del actions  # the copies of the model make room for the other processes
    if not options.no_memory:
        _add_memory(case, {engine: rows[engine] for engine in engines}, options, contest)
    return list(rows.values())


def _able(problem: Problem, rows: dict[str, Row]) -> dict[str, Action]:
    """Return the steps of the engines that can do a problem, having taken one each."""
    actions = {}
    for engine, row in rows.items():
        build = _EVERY[engine]
        try:
            if engine != PLAIN:
                _refuse_too_large(engine, problem)
                refuse_inexact(build, problem)
            action = build(problem.copy(), Settings())
            action()
            actions[engine] = action
        except Exception as error:
            if engine == PLAIN:
                raise
            row.failure = reason(error)
    return actions


def _refuse_too_large(engine: str, problem: Problem) -> None:
    size = problem.batch_size * problem.trainable * 4
    if engine in _OF_RECORDS and size > _MOST_BYTES:
        raise MemoryError(f"{size / 2**30:.0f} GiB for the gradients of single records")


def _add_memory(
    case: Case, rows: dict[str, Row], options: argparse.Namespace, contest: Contest
) -> None:
    peaks = {engine: _peak_in_own_process(case, engine, options, contest) for engine in rows}
    for engine, row in rows.items():
        row.memory = peaks[engine] / peaks[PLAIN] if peaks[PLAIN] else None


def _peak_in_own_process(
    case: Case, engine: str, options: argparse.Namespace, contest: Contest
) -> int:
    named = next(c for c in contest.cases if _sized(c, options) == case)
    arguments = ["--peak-of", engine, "--only", named.name, "--device", options.device]
    quick = ["--quick"] if options.quick else []
    peers = ["--peers", str(options.peers)] if options.peers else []
    threads = ["--threads", str(options.threads)]
    found = in_own_process(contest.module, [*arguments, *threads, *peers, *quick])
    return int(found["peak"])


def _peak(case: Case, options: argparse.Namespace) -> int:
    action = _EVERY[options.peak_of](case.problem(options.device), Settings())
    return peak_over_rest(action, options.device)


if __name__ == "__main__":
    main()
