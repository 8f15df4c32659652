"""Records per second from end to end, on the lengths of a public corpus: LoRA r = 8, and a head.

    python -m benchmarks.epoch --data sst2 --rounds 5 --threads 1 --out epoch.json
    python -m benchmarks.epoch --data mnli --peers FOLDER --memory

dpft: `PrivateStep` as in `dpft.fit`, logical batches of 1,024 by Poisson sampling, cut as it cuts
them by default, noise included. opacus: its Poisson loader, `BatchMemoryManager` with physical
batches of at most 32, hooks. Trainer: transformers' own with peft, without privacy, batches of 32,
as it comes and with its grouping by length. plain: the same written out, AdamW and nothing else;
once more with the records of a block sorted by length. With `--peers`: fastDP and
private-transformers (`benchmarks.peers.older`), batches of 32, noise and optimiser once in 1,024
records. All pad to the longest record of a batch. `benchmarks.corpora` names corpora and models.

Blocks of about 1,024 records (of 1,600 for the Trainer, which sorts so many at once) take turns in
random order; ratios are formed within a round. Before that, each private engine's noiseless step on
four records is compared with a loop over single records. Memory: each loop in a process of its own,
peak of one block over what is resident at rest.
"""

import argparse
import copy
import dataclasses
import json
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.cases import Problem
from benchmarks.corpora import Corpus, material
from benchmarks.engines import ENGINES, OLDER_ENGINES, Builder
from benchmarks.exactness import reason, refuse_inexact
from benchmarks.loops import LOOPS, OLDER_LOOPS, Loop, Run
from benchmarks.measuring import Action, Clock, Interval, Plan, Sample, interleaved, median_ratio
from benchmarks.memory import in_own_process, peak_over_rest
from benchmarks.peers.older import add_sources
from benchmarks.reporting import machine, machine_line, markdown, save
from benchmarks.trainers import TRAINERS
from dpft.losses import Classification

__all__ = ["Row", "main"]

_FIRST = "dpft"
_FEW = 4  # records that an engine is tried on
_MEBI = 2**20
_HEADER = [
    "loop",
    "records/s, cpu",
    "records/s, wall",
    "dpft is faster by, cpu",
    "dpft is faster by, wall",
    "peak memory, MiB",
]
_EVERY: dict[str, Loop] = {**LOOPS, **TRAINERS, **OLDER_LOOPS}
_CHECKED: dict[str, Builder] = {
    "dpft": ENGINES["dpft"],
    "opacus": ENGINES["opacus hooks"],
    **OLDER_ENGINES,
}


@dataclasses.dataclass
class Row:
    """What was found for one loop.

    Args:
        loop: Name of the loop.
        per_cpu_second: Records per second of processor time, median over rounds.
        per_second: Records per second by the wall clock.
        cpu: Records per second of dpft / of this loop, by processor time.
        wall: The same by the wall clock.
        peak: Most bytes that a block held; None if not measured.
        failure: Why the loop has no numbers.

    Privacy:
        Of a benchmark on public records.
    """

    loop: str
    per_cpu_second: float | None = None
    per_second: float | None = None
    cpu: Interval | None = None
    wall: Interval | None = None
    peak: int | None = None
    failure: str | None = None

    def compare(self, samples: Mapping[str, Sequence[Sample]]) -> None:
        """Compare the loop with dpft.

        Args:
            samples: Samples of all loops, of the same rounds.

        Privacy:
            Of a benchmark on public records.
        """
        own, first = samples[self.loop], samples[_FIRST]
        self.per_cpu_second = 1 / statistics.median(sample.seconds(Clock.CPU) for sample in own)
        self.per_second = 1 / statistics.median(sample.seconds(Clock.WALL) for sample in own)
        self.cpu = median_ratio(own, first, Clock.CPU)
        self.wall = median_ratio(own, first, Clock.WALL)

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        if self.failure:
            return [self.loop, self.failure, "", "", "", ""]
        speeds = [f"{self.per_cpu_second:.0f}", f"{self.per_second:.0f}"]
        peak = "" if self.peak is None else f"{self.peak / _MEBI:.0f}"
        return [self.loop, *speeds, str(self.cpu), str(self.wall), peak]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all loops and print the table.

    Args:
        arguments: Command line; unset: that of the process.

    Privacy:
        A benchmark on public records; the models are thrown away.
    """
    options = _arguments(arguments)
    warnings.simplefilter("ignore")  # the peers', about themselves
    torch.set_num_threads(options.threads)
    if options.peers:
        add_sources(options.peers)
    run, source = _run(options)
    if options.peak_of:
        action = _EVERY[options.peak_of](run)
        print(json.dumps({"peak": peak_over_rest(action, options.device, warm_up=1)}))
        return
    rows = {name: Row(name) for name in _names(options)}
    actions = _able(run, rows)
    samples = interleaved(actions, Plan(options.rounds, options.warm_up, device=options.device))
    for name in actions:
        rows[name].compare(samples)
        if options.memory:
            rows[name].peak = _peak_in_own_process(name, options)
    print(markdown(_HEADER, [row.cells() for row in rows.values()]))
    facts = machine(options.device) | {"rounds": options.rounds, "lengths": source}
    print(f"\n{options.rounds} rounds, {source}. {machine_line(facts)}")
    save(options.out, facts | {"rows": [dataclasses.asdict(row) for row in rows.values()]})


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = ", ".join(corpus.value for corpus in Corpus)
    parser.add_argument("--data", type=Corpus, default=Corpus.SST2, help=f"one of {names}")
    parser.add_argument("--loops", default="", help="part of the names of the loops beside dpft")
    parser.add_argument("--peers", type=Path, help="folder of fastDP and private_transformers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--memory", action="store_true", help="peaks too")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--peak-of", choices=_EVERY, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _names(options: argparse.Namespace) -> list[str]:
    known = list(_EVERY) if options.peers else [*LOOPS, *TRAINERS]
    chosen = [name for name in known if options.loops.lower() in name.lower()]
    return [_FIRST, *(name for name in chosen if name != _FIRST)]


def _run(options: argparse.Namespace) -> tuple[Run, str]:
    """Return what the loops are given, and in words where it comes from."""
    found = material(options.data, quick=options.quick)
    run = Run(
        found.model.to(options.device),
        found.records,
        found.loss,
        found.tokenizer,
        device=options.device,
    )
    if options.quick:
        run = dataclasses.replace(run, expected=64, physical=16, trainer_steps=4)
    return run, found.source


def _able(run: Run, rows: Mapping[str, Row]) -> dict[str, Action]:
    """Return the blocks of the loops whose engine can do the problem."""
    actions: dict[str, Action] = {}
    for name, row in rows.items():
        own = dataclasses.replace(run, model=copy.deepcopy(run.model))
        try:
            if name in _CHECKED:
                refuse_inexact(_CHECKED[name], _few(run))
            actions[name] = _EVERY[name](own)
        except Exception as error:
            if name == _FIRST:
                raise
            row.failure = reason(error)
    return actions


def _few(run: Run) -> Problem:
    """Return some records cut to one length; every token of a text is a label."""
    rows = [dict(row) for row in run.records[:_FEW]]
    shortest = min(len(row["input_ids"]) for row in rows)
    for row in rows:
        row |= {name: ids[:shortest] for name, ids in row.items() if isinstance(ids, list)}
    batch = run.collate(rows)
    if not isinstance(run.loss, Classification):
        batch["labels"] = batch["input_ids"].clone()
    return Problem(run.model, batch, run.loss)


def _peak_in_own_process(name: str, options: argparse.Namespace) -> int:
    arguments = ["--peak-of", name, "--data", options.data.value, "--device", options.device]
    peers = ["--peers", str(options.peers)] if options.peers else []
    quick = ["--quick"] if options.quick else []
    threads = ["--threads", str(options.threads)]
    found = in_own_process("benchmarks.epoch", [*arguments, *threads, *peers, *quick])
    return int(found["peak"])


if __name__ == "__main__":
    main()
