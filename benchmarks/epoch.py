"""Records per second from end to end, on the lengths of SST-2: MiniLM, LoRA r = 8 and a head.

    python -m benchmarks.epoch --rounds 5 --threads 1 --out epoch.json

dpft: `PrivateStep` as in `dpft.fit`, logical batches of 1,024 by Poisson sampling, cut by a budget
of tokens after sorting by length, noise included. opacus: its Poisson loader, `BatchMemoryManager`
with physical batches of at most 32, hooks. plain: peft without privacy, AdamW on random batches of
32; once more with batches sorted by length. All pad to the longest record of a batch. Blocks of
about 1,024 records take turns in random order; ratios are formed within a round.
"""

import argparse
import copy
import dataclasses
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.cases import Family, Method, adapted, assets, base_model
from benchmarks.lengths import drawn_records, sst2_records
from benchmarks.loops import LOOPS, Run
from benchmarks.measuring import Clock, Interval, Plan, Sample, interleaved, median_ratio
from benchmarks.reporting import machine, machine_line, markdown, save

__all__ = ["Row", "main"]

_FIRST = "dpft"
_HEADER = [
    "loop",
    "records/s, cpu",
    "records/s, wall",
    "dpft is faster by, cpu",
    "dpft is faster by, wall",
]


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found for one loop.

    Args:
        loop: Name of the loop.
        per_cpu_second: Records per second of processor time, median over rounds.
        per_second: Records per second by the wall clock.
        cpu: Records per second of dpft / of this loop, by processor time.
        wall: The same by the wall clock.

    Privacy:
        Of a benchmark on public records.
    """

    loop: str
    per_cpu_second: float
    per_second: float
    cpu: Interval
    wall: Interval

    @classmethod
    def of(cls, loop: str, samples: Mapping[str, Sequence[Sample]]) -> "Row":
        """Compare one loop with dpft.

        Args:
            loop: Name of the loop.
            samples: Samples of all loops, of the same rounds.

        Privacy:
            Of a benchmark on public records.
        """
        own, first = samples[loop], samples[_FIRST]
        return cls(
            loop=loop,
            per_cpu_second=1 / statistics.median(sample.seconds(Clock.CPU) for sample in own),
            per_second=1 / statistics.median(sample.seconds(Clock.WALL) for sample in own),
            cpu=median_ratio(own, first, Clock.CPU),
            wall=median_ratio(own, first, Clock.WALL),
        )

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        speeds = [f"{self.per_cpu_second:.0f}", f"{self.per_second:.0f}"]
        return [self.loop, *speeds, str(self.cpu), str(self.wall)]


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
    run = _run(options)
    actions = {
        name: build(dataclasses.replace(run, model=copy.deepcopy(run.model)))
        for name, build in LOOPS.items()
    }
    samples = interleaved(actions, Plan(options.rounds, options.warm_up, device=options.device))
    rows = [Row.of(name, samples) for name in LOOPS]
    print(markdown(_HEADER, [row.cells() for row in rows]))
    facts = machine(options.device) | {"rounds": options.rounds, "lengths": _source(options)}
    print(f"\n{options.rounds} rounds, {facts['lengths']}. {machine_line(facts)}")
    save(options.out, facts | {"rows": [dataclasses.asdict(row) for row in rows]})


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> Run:
    torch.manual_seed(0)
    model = adapted(base_model(Family.MINILM, quick=options.quick), Method.LORA)
    model = model.to(options.device).train()
    if options.quick:
        records = drawn_records(400, vocabulary=100)
        return Run(model, records, expected=64, physical=16, device=options.device)
    return Run(model, sst2_records(), device=options.device)


def _source(options: argparse.Namespace) -> str:
    if options.quick or assets() is None:
        return "lengths drawn from a log-normal distribution"
    return "sentences of SST-2"


if __name__ == "__main__":
    main()
