"""What a run spends beside its steps: accounting, ledger, preflight, checkpoints, report.

    python -m benchmarks.overhead --rounds 3 --threads 1 --out overhead.json
    python -m benchmarks.overhead experiment=sst2_minilm_lora

The run is `dpft train` with the settings given, by default that of `dpft demo`. Each round is a
process of its own, since a second run would find what the first has computed. Functions of the
library are wrapped from outside; time within one of another part counts for the inner one alone.
Shares are of the time after the imports, which are named beside; medians over rounds.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import dp_accounting.pld.privacy_loss_distribution  # noqa: F401 - the accountants import it late
import torch

from benchmarks.memory import in_own_process
from benchmarks.reporting import machine, machine_line, markdown, save
from dpft.recipes import preparation, training
from dpft.recipes.config.composition import compose_config, compose_settings, yaml_of

__all__ = ["Part", "Parts", "main"]

_HEADER = ["part", "share, cpu", "share, wall", "cpu seconds"]
_IMPORTS = "imports, beside the run"
_QUICK = ("debug=short",)
_Seconds = tuple[float, float]  # of processor time, and by the wall clock


class Part(str, Enum):
    """Parts of a run."""

    STEPS = "steps"
    EVALUATION = "evaluation"
    DATA = "records read and encoded"
    MODEL = "base model loaded"
    ACCOUNTING = "accounting"
    LEDGER = "ledger and charges"
    PREFLIGHT = "preflight"
    BUDGET = "token budget found"
    CHECKPOINTS = "checkpoints"
    PAPERS = "adapter, certificate, report"
    REST = "the rest"


_OVERHEAD = (Part.ACCOUNTING, Part.LEDGER, Part.PREFLIGHT)
_WRAPPED: dict[Part, tuple[str, ...]] = {
    Part.STEPS: ("dpft.loop:Loop.run",),
    Part.EVALUATION: ("dpft.recipes.judgement:judge",),
    Part.DATA: ("dpft.recipes.preparation:prepare", "dpft.recipes.models:LoadedModel.encode"),
    Part.MODEL: ("dpft.recipes.assembly:load_model",),
    Part.ACCOUNTING: (
        "dpft.privacy:Privacy.plan",
        "dpft.privacy:PrivacyPlan.epsilon",
        "dpft.accounting.certificate:Certificate.epsilon",
        "dpft.accounting.certificate:Certificate.binding",
        "dpft.accounting.certificate:Certificate.numerical_error",
        "dpft.accounting.certificate:Certificate.attack_bound",
    ),
    Part.LEDGER: (
        "dpft.recipes.preparation:book_run",
        "dpft.booking:Booking.attach",
        "dpft.booking:Booking.close",
        "dpft.booking:Booking.intend",
        "dpft.booking:Booking.refuse_another",
        "dpft.booking:Booking.settle",
        "dpft.charges:ChargesFile.attach",
        "dpft.charges:ChargesFile.intend",
        "dpft.loop:Loop.hold",
    ),
    Part.PREFLIGHT: ("dpft.preflight:run_preflight", "dpft.synthetic:synthetic_rows"),
    Part.BUDGET: ("dpft.physical_cut:PhysicalCut.settle",),
    Part.CHECKPOINTS: ("dpft.continuity:Continuity.save",),
    Part.PAPERS: (
        "dpft.artefacts:save_artefacts",
        "dpft.recipes.model_card:write_model_card",
        "dpft.recipes.whole_models:save_tokenizer",
        "dpft.run_folder:RunFolder.write_metrics",
    ),
}


class Parts:
    """Tells to which part of a run its time belongs.

    Privacy:
        A benchmark: times may depend on records, which are invented or public.
    """

    def __init__(self) -> None:
        """Begin with the rest."""
        self._spent: defaultdict[Part, _Seconds] = defaultdict(lambda: (0.0, 0.0))
        self._within = [Part.REST]
        self._mark = _now()

    def spent(self) -> dict[Part, _Seconds]:
        """Return the seconds of every part so far."""
        self._charge()
        return {part: self._spent[part] for part in Part}

    @contextmanager
    def within(self, part: Part) -> Iterator[None]:
        """Let time belong to a part, but for parts within it.

        Args:
            part: Which one.
        """
        self._charge()
        self._within.append(part)
        try:
            yield
        finally:
            self._charge()
            self._within.pop()

    @contextmanager
    def watching(self, wrapped: Mapping[Part, Sequence[str]]) -> Iterator[None]:
        """Wrap functions wherever the library has them by name, and leave them as they were.

        Args:
            wrapped: For each part, places as "module:function" or "module:Class.method".
        """
        undo: list[tuple[Any, str, Any]] = []
        try:
            for part, places in wrapped.items():
                for place in places:
                    for owner, name, function in _found(place):
                        undo.append((owner, name, function))
                        setattr(owner, name, self._timed(part, function))
            yield
        finally:
            for owner, name, function in reversed(undo):
                setattr(owner, name, function)

    def _timed(self, part: Part, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            with self.within(part):
                return function(*arguments, **options)

        return timed

    def _charge(self) -> None:
        now, part = _now(), self._within[-1]
        spent = zip(self._spent[part], now, self._mark, strict=True)
        cpu, wall = (before + (end - begin) for before, end, begin in spent)
        self._spent[part], self._mark = (cpu, wall), now


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts of a run and print the table.

    Args:
        arguments: Command line; unset: that of the process.

    Privacy:
        A benchmark; what is trained is thrown away.
    """
    options = _arguments(arguments)
    if options.once:
        print(json.dumps(_measured(options)))
        return
    quick = ["--quick"] if options.quick else []
    given = ["--once", "--threads", str(options.threads), *quick, *options.overrides]
    rounds = [
        in_own_process("benchmarks.overhead", given, environment={}) for _ in range(options.rounds)
    ]
    found = {name: [_median(rounds, name, clock) for clock in (0, 1)] for name in rounds[0]}
    print(markdown(_HEADER, _table(found)))
    facts = machine("cpu") | {"threads": options.threads, "rounds": options.rounds}
    print(f"\n{options.rounds} rounds. {machine_line(facts)}")
    save(options.out, facts | {"overrides": options.overrides, "seconds": found})


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="settings, as for dpft train")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a run of a few steps")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _measured(options: argparse.Namespace) -> dict[str, _Seconds]:
    """Return the seconds of every part of one run, and of the imports before it."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    overrides = [*options.overrides, *(_QUICK if options.quick else ())]
    imports = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts()
        with parts.watching(_WRAPPED):
            prepared = preparation.prepare(compose_settings(overrides))
            training.train(prepared, Path(folder) / "run", yaml_of(compose_config(overrides)))
        spent = parts.spent()
    return {**{part.value: seconds for part, seconds in spent.items()}, _IMPORTS: (imports, 0.0)}


def _median(rounds: Sequence[Mapping[str, _Seconds]], name: str, clock: int) -> float:
    return statistics.median(one[name][clock] for one in rounds)


def _table(found: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Return a line for every part, and one for those whose share has an aim."""
    whole = [sum(found[part.value][clock] for part in Part) for clock in (0, 1)]
    aimed = [sum(found[part.value][clock] for part in _OVERHEAD) for clock in (0, 1)]
    lines = {part.value: found[part.value] for part in Part}
    lines |= {" + ".join(part.value for part in _OVERHEAD): aimed, "all": whole}
    table = [
        [name, *(f"{own / all_:.2%}" for own, all_ in zip(spent, whole, strict=True)), _one(spent)]
        for name, spent in lines.items()
    ]
    return [*table, [_IMPORTS, "", "", _one(found[_IMPORTS])]]


def _one(spent: Sequence[float]) -> str:
    return f"{spent[0]:.2f}"


def _found(place: str) -> Iterator[tuple[Any, str, Any]]:
    """Yield who holds a function, by which name, and the function itself."""
    module, _, path = place.partition(":")
    owner, _, name = path.rpartition(".")
    if owner:
        holder = getattr(import_module(module), owner)
        yield holder, name, vars(holder)[name]
        return
    function = getattr(import_module(module), name)
    for each in [each for key, each in sys.modules.items() if key.partition(".")[0] == "dpft"]:
        for known, value in list(vars(each).items()):
            if value is function:
                yield each, known, value


def _now() -> _Seconds:
    return time.process_time(), time.perf_counter()


if __name__ == "__main__":
    main()
