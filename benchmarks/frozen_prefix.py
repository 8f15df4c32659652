"""Records per second where adapters stand in the upper third: MiniLM on the lengths of SST-2.

    python -m benchmarks.frozen_prefix --rounds 7 --threads 1 --out frozen_prefix.json

LoRA r = 8 on the last two of six blocks, and a head. dpft: `PrivateStep`, noise included; kept:
with `frozen_prefix=memory` once the states of every record are kept; first epoch: the same while
nearly every record is new. plain: peft without privacy, AdamW on random batches of 32, and once
more sorted by length; it has no cache. Blocks of the loops take turns in random order; ratios are
formed within a round.
"""

import argparse
import copy
import dataclasses
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from torch import nn

import dpft
from benchmarks.cases import Family, base_model
from benchmarks.corpora import Corpus, material
from benchmarks.engines import adamw
from benchmarks.loops import LOOPS, Run
from benchmarks.measuring import Action, Clock, Interval, Plan, Sample, interleaved, median_ratio
from benchmarks.reporting import machine, machine_line, markdown, save
from dpft.losses import Classification
from dpft.performance import FrozenPrefix, Performance
from dpft.private_step import StepSettings

__all__ = ["Row", "main"]

_FIRST = "plain"
_HEADER = ["loop", "records/s, cpu", "plain / loop, cpu", "plain / loop, wall"]
_STEPS = 1_000_000  # of the plan; more than any benchmark takes
_RECORDS, _EXPECTED = 1024, 256
_FILLING = 16  # steps until as good as every record was drawn: 0.75^16 = 1 %


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found for one loop.

    Args:
        loop: Name of the loop.
        per_cpu_second: Records per second of processor time, median over rounds.
        cpu: Time of a record in the plain loop / in this one, by processor time.
        wall: The same by the wall clock.

    Privacy:
        Of a benchmark on public records.
    """

    loop: str
    per_cpu_second: float
    cpu: Interval
    wall: Interval

    @classmethod
    def of(cls, loop: str, samples: Mapping[str, Sequence[Sample]]) -> "Row":
        """Compare one loop with the plain one.

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
            cpu=median_ratio(first, own, Clock.CPU),
            wall=median_ratio(first, own, Clock.WALL),
        )

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        return [self.loop, f"{self.per_cpu_second:.0f}", str(self.cpu), str(self.wall)]


class _Counting:
    """A loss that counts the records of ordinary passes; those that fill the cache have no grad."""

    def __init__(self) -> None:
        self._loss = Classification()
        self.records = 0

    def __call__(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.records += len(batch["labels"])
        return self._loss(model, batch)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all loops and print the table.

    Args:
        arguments: Command line; unset: that of the process.

    Privacy:
        A benchmark on public records; the models are thrown away.
    """
    options = _arguments(arguments)
    warnings.simplefilter("ignore")  # the libraries', about themselves
    torch.set_num_threads(options.threads)
    actions, source = _actions(options)
    samples = interleaved(actions, Plan(options.rounds, options.warm_up, device=options.device))
    rows = [Row.of(name, samples) for name in actions]
    print(markdown(_HEADER, [row.cells() for row in rows]))
    facts = machine(options.device) | {"rounds": options.rounds, "lengths": source}
    print(f"\n{options.rounds} rounds, {source}. {machine_line(facts)}")
    save(options.out, facts | {"rows": [dataclasses.asdict(row) for row in rows]})


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    return parser.parse_args(arguments)


def _actions(options: argparse.Namespace) -> tuple[dict[str, Action], str]:
    """Return the loops, and in words where their records come from."""
    found = material(Corpus.SST2, quick=options.quick)
    count, expected = (64, 16) if options.quick else (_RECORDS, _EXPECTED)
    chosen = np.random.default_rng(0).choice(len(found.records), count, replace=False)
    model = _upper(quick=options.quick).to(options.device).train()
    whole = Run(
        model, found.records, found.loss, found.tokenizer, expected=expected, device=options.device
    )
    run = dataclasses.replace(whole, records=[found.records[index] for index in chosen])
    kept = _dpft(run, FrozenPrefix.MEMORY)
    for _ in range(_FILLING):
        kept()
    plain = ("plain", "plain, sorted by length")
    return {
        "dpft, kept": kept,
        "dpft, first epoch": _dpft(whole, FrozenPrefix.MEMORY),
        "dpft, no cache": _dpft(run, FrozenPrefix.OFF),
    } | {name: LOOPS[name](_own(run)) for name in plain}, found.source


def _own(run: Run) -> Run:
    return dataclasses.replace(run, model=copy.deepcopy(run.model))


def _upper(*, quick: bool) -> nn.Module:
    """Return a classifier whose last third is adapted; of a tiny one the head alone is trained."""
    torch.manual_seed(0)
    model: Any = base_model(Family.MINILM, quick=quick)
    if quick:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("classifier" in name)
        return model  # type: ignore[no-any-return]  # transformers'
    blocks = model.config.num_hidden_layers
    layers = list(range(blocks - blocks // 3, blocks))
    lora = peft.LoraConfig(
        task_type="SEQ_CLS", r=8, target_modules=["query", "value"], layers_to_transform=layers
    )
    return peft.get_peft_model(model, lora)


def _dpft(run: Run, place: FrozenPrefix) -> Action:
    own, loss = _own(run), _Counting()
    privacy = dpft.Privacy(
        noise_multiplier=1.0, delta=1e-6, expected_batch_size=run.expected, steps=_STEPS
    )
    settings = StepSettings(performance=Performance(frozen_prefix=place))
    private = dpft.PrivateStep(own.model, adamw(own.model), privacy, loss, settings)
    batches = private.batches(own.records, own.collate)

    def block() -> int:
        loss.records = 0
        private(next(batches))
        return loss.records

    return block


if __name__ == "__main__":
    main()
