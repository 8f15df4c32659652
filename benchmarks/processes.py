"""How much faster is a private step in several processes than in one?

    python -m benchmarks.processes --counts 1 2 4 --rounds 5

Every process has one thread (`--threads`) and one core for itself, if the machine has as many to
spare; with fewer the table says nothing. All records enter every step, so that all counts do the
same work: LoRA on an encoder of random weights, records of equal length. Timed are whole steps,
what travels between processes included; starting and the preflight are not.
"""

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from torch import distributed, multiprocessing

import dpft
from benchmarks.measuring import Clock, Interval, Sample, median_ratio
from benchmarks.reporting import machine, machine_line, markdown, save
from dpft.losses import Classification
from dpft.records import Row, collate

__all__ = ["Work", "main"]

_VOCABULARY = 1000
_WARM_UP = 1  # steps that are not timed


@dataclasses.dataclass(frozen=True)
class Work:
    """What is timed.

    Args:
        records: Records of every step, over all processes.
        tokens: Length of each.
        width: Hidden size of the encoder.
        layers: Its layers.
        steps: Timed steps.
        threads: Of each process.

    Privacy:
        Nothing, no data touched: records are random.
    """

    records: int = 128
    tokens: int = 64
    width: int = 256
    layers: int = 4
    steps: int = 4
    threads: int = 1

    def rows(self) -> list[Row]:
        """Return random records."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.records, self.tokens)
        ids = torch.randint(5, _VOCABULARY, shape, generator=generator).tolist()
        mask = [1] * self.tokens
        return [
            {"input_ids": row, "attention_mask": mask, "labels": number % 2}
            for number, row in enumerate(ids)
        ]

    def model(self) -> torch.nn.Module:
        """Return an encoder with LoRA."""
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=_VOCABULARY,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=4,
            intermediate_size=4 * self.width,
        )
        base = transformers.BertForSequenceClassification(config)
        adapter = peft.LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"])
        model: torch.nn.Module = peft.get_peft_model(base, adapter)
        return model.train()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all counts in turn and print the table.

    Args:
        arguments: Command line; unset: that of the process.

    Privacy:
        Nothing, no data touched.
    """
    options = _arguments(arguments)
    work = Work()
    if options.quick:
        work = Work(records=8, tokens=8, width=16, layers=1, steps=1)
    work = dataclasses.replace(work, threads=options.threads)
    samples: dict[int, list[Sample]] = {count: [] for count in options.counts}
    order = np.random.default_rng(0)
    for _ in range(options.rounds):
        for count in order.permutation(options.counts).tolist():
            samples[count].append(_measured(count, work))
    first = samples[options.counts[0]]
    speed = {count: median_ratio(first, each, Clock.WALL) for count, each in samples.items()}
    print(_table(samples, speed))
    print(f"\n{options.rounds} rounds of {work}. {machine_line(machine('cpu'))}")
    rows = {str(count): dataclasses.asdict(each) for count, each in speed.items()}
    save(options.out, {"machine": machine("cpu"), "work": dataclasses.asdict(work), "speed": rows})


def _table(samples: Mapping[int, Sequence[Sample]], speed: Mapping[int, Interval]) -> str:
    rows = [
        [
            str(count),
            f"{1 / np.median([sample.seconds(Clock.WALL) for sample in each]):.3g}",
            str(speed[count]),
        ]
        for count, each in samples.items()
    ]
    return markdown(["processes", "records / s", "speed / that of the first row"], rows)


def _measured(count: int, work: Work) -> Sample:
    """Run a group of processes and return what its lead measured."""
    with tempfile.TemporaryDirectory() as folder:
        given = (count, work, folder)
        start: Callable[..., None] = vars(multiprocessing)["start_processes"]  # untyped
        start(_process, given, nprocs=count, start_method="fork")
        return Sample(**json.loads((Path(folder) / "sample.json").read_text(encoding="utf-8")))


def _process(rank: int, count: int, work: Work, folder: str) -> None:
    torch.set_num_threads(work.threads)
    os.environ.pop("WORLD_SIZE", None)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count
    )
    wall, cpu = _timed_steps(work)
    if rank == 0:
        sample = {"wall": wall, "cpu": cpu, "units": work.records * work.steps}
        (Path(folder) / "sample.json").write_text(json.dumps(sample), encoding="utf-8")
    distributed.destroy_process_group()


def _timed_steps(work: Work) -> tuple[float, float]:
    """Return seconds of the timed steps by the wall clock and by this process's processor time."""
    model = work.model()
    privacy = dpft.Privacy(
        noise_multiplier=1.0,
        delta=1e-4,
        expected_batch_size=work.records,
        steps=_WARM_UP + work.steps,
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    step = dpft.PrivateStep(model, optimizer, privacy, Classification())
    started = (0.0, 0.0)
    for number, batch in enumerate(step.batches(work.rows(), _tensors)):
        if number == _WARM_UP:
            started = (time.perf_counter(), time.process_time())
        step(batch)
    return time.perf_counter() - started[0], time.process_time() - started[1]


def _tensors(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    return collate(rows, pad_token_id=0)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--quick", action="store_true", help="a tiny model and one step")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
