"""Runs of several processes, for `test_processes.py`: what each of them did, and how it ended.

    python ranks.py COUNT FOLDER JOBS

forks COUNT processes that form a group, and lets all of them do the jobs (JSON) one after the other
until one fails. FOLDER/<rank>.pt holds what a process has seen; one that was killed leaves nothing.
A process that hangs is killed, which shows as `hung`.
"""

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import distributed, nn

import dpft
from dpft.charges import ChargesFile
from dpft.loop import LoopParts
from dpft.performance import Performance
from dpft.private_step import PrivateStep, StepSettings
from dpft.progress import Progress
from dpft.randomness import PinnedRandomness
from dpft.sampling import PoissonSampler
from dpft.training import FitOptions

WIDTH = 5
_PATIENCE = 60.0  # seconds; no job takes two
_Row = dict[str, Any]
_BROKEN: list[str] = []  # says that the next loss is to fail


class Model(nn.Sequential):
    """A small model that can be saved."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__(nn.Linear(WIDTH, 4), nn.Tanh(), nn.Linear(4, 1))
        self.double()

    def save_pretrained(self, folder: Path, *, safe_serialization: bool) -> None:
        assert safe_serialization
        folder.mkdir()
        save_file(self.state_dict(), folder / "adapter_model.safetensors")


def frozen_but_last(count: int = 1, *, sharded: bool = False) -> nn.Sequential:
    """Return a model whose last layer is trained, the others sharded over processes if asked."""
    torch.manual_seed(0)
    frozen = [nn.Linear(WIDTH, 6), nn.Tanh(), nn.Linear(6, 4)]
    model = nn.Sequential(*frozen, nn.Tanh(), nn.Linear(4, 1)).double()
    for layer in frozen:
        layer.requires_grad_(requires_grad=False)
    if sharded:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (count,))
        for layer in (frozen[0], frozen[2]):
            fully_shard(layer, mesh=mesh)
        trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
        fully_shard(model, mesh=mesh, ignored_params=trained)
    return model


def rows(count: int, seed: int = 0) -> list[_Row]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)
    return [
        {"x": values.tolist(), "y": float(number % 3), "input_ids": [1] * (1 + number % 2)}
        for number, values in enumerate(x)
    ]


def collate(chosen: Sequence[_Row]) -> dict[str, torch.Tensor]:
    return {
        name: torch.tensor([row[name] for row in chosen], dtype=torch.float64)
        for name in ("x", "y")
    }


def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if _BROKEN:
        raise ValueError("no such loss")
    return (model(batch["x"]).squeeze(-1) - batch["y"]).square()


def privacy(job: Mapping[str, Any], rank: int = 0) -> dpft.Privacy:
    fields: dict[str, Any] = {
        "noise_multiplier": 1.0,
        "delta": 1e-3,
        "expected_batch_size": job.get("records", 12),
        "steps": 3,
        **job.get("privacy", {}),
        **job.get("privacies", [{}] * 9)[rank],
    }
    return dpft.Privacy(**fields)


def settings(job: Mapping[str, Any]) -> StepSettings:
    seed = job.get("seed")
    pinned = None if seed is None else PinnedRandomness(seed)
    cut = Performance(max_physical_batch=job.get("physical", 512))
    return StepSettings(randomness=pinned, synthetic=rows(3, seed=9), performance=cut)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


def step_by_step(job: Mapping[str, Any], rank: int, folder: Path) -> dict[str, Any]:
    """Take steps in an own loop, and return the weights after each."""
    model: nn.Module = Model(seed=job.get("model", rank))
    if job.get("sharded"):
        model = frozen_but_last(distributed.get_world_size(), sharded=True)
    count, trained = job.get("records", 12), [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5, momentum=job.get("momentum", 0.5))
    step = PrivateStep(model, optimizer, privacy(job, rank), loss, settings(job))
    data = rows(count, seed=job.get("data", [0] * 9)[rank])
    seen = []
    for batch in step.batches(data, collate, job.get("owners")):
        step(batch)
        seen.append(weights(model))
        if len(seen) == job.get("leave_at", {}).get(str(rank)):
            break
        if len(seen) == job.get("forgo_at", {}).get(str(rank)):
            step.forgo()
    return {
        "weights": torch.stack(seen),
        "final": weights(model),
        "steps": step.steps_taken,
        "sampler": step.sampler,
        "generator": step.generator,
        "epsilon": step.spent_epsilon,
        "multiplier": step.plan.noise_multiplier,
        "moments": len(optimizer.state),
    }


def whole_run(job: Mapping[str, Any], rank: int, folder: Path) -> dict[str, Any]:
    """Let `fit` do everything, in the folder of the job."""
    watch(job, rank, folder)
    told: list[int] = []

    def tell(progress: Progress) -> None:
        told.append(progress.step)
        if progress.step == job.get("told_off_at"):
            raise ValueError("no such step")

    result = dpft.fit(
        Model(seed=0),
        rows(job.get("records", 12)),
        loss=loss,
        privacy=privacy(job),
        out=None if job.get("out") is None else folder / job["out"],
        on_step=tell,
        options=FitOptions(
            step=settings(job),
            resume=job.get("resume", False),
            checkpoint_every=job.get("checkpoint_every"),
            parts=LoopParts(collate=collate),
        ),
    )
    return {
        "final": weights(result.model),
        "run_id": result.run_id,
        "epsilon": result.epsilon,
        "folder": None if result.folder is None else str(result.folder.path),
        "history": [result.history.starts, result.history.intended, result.history.updates],
        "certificate": result.certificate.to_json(),
        "told": told,
    }


def watch(job: Mapping[str, Any], rank: int, folder: Path) -> None:
    """Note charges and samples in the order in which they happen, and let a process end."""
    ends = job.get("ends", {}).get(str(rank))
    note = folder / "order"

    def charged(self: ChargesFile, step: int, original: Any = ChargesFile.intend) -> None:
        original(self, step)
        _append(note, f"charge {step}")

    def drawn(self: PoissonSampler, step: int, original: Any = PoissonSampler.draw) -> Any:
        _append(note, f"sample {step}")
        if ends is not None and step == ends["at"]:
            _end(ends["how"])
        return original(self, step)

    ChargesFile.intend = charged
    PoissonSampler.draw = drawn


def _end(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "loss":
        _BROKEN.append(how)
        return
    raise ValueError("no such record")


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")


JOBS = {"step": step_by_step, "fit": whole_run}


def _process(rank: int, count: int, folder: Path, jobs: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[str, Any] = {"error": None, "done": []}
    try:
        if "MASTER_PORT" not in os.environ:
            distributed.init_process_group(
                "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count
            )
        for job in jobs:
            seen["done"].append(JOBS[job["kind"]](job, rank, folder))
    except BaseException as error:
        seen |= {"error": type(error).__name__, "said": str(error)}
        if not isinstance(error, Exception | KeyboardInterrupt):
            raise
    finally:
        torch.save(seen, folder / f"{rank}.pt")
    if jobs[0].get("lingers"):  # as in a notebook, which survives an error: the others must end
        while len(list(folder.glob("*.pt"))) < count:
            time.sleep(0.01)


def main() -> None:
    count, folder, jobs = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = _launcher(count) if jobs[0].get("launched") else None
    if any(job.get("sharded") for job in jobs):  # once, before the forks
        importlib.import_module("torch.distributed.fsdp")
    children = {}
    for rank in range(count):
        child = os.fork()
        if child == 0:
            os.environ["RANK"] = str(rank)
            torch.set_num_threads(1)
            _process(rank, count, folder, jobs)
            sys.stderr.flush()
            os._exit(0)
        children[child] = rank
    deadline = time.monotonic() + _PATIENCE
    while children:
        child, _ = os.waitpid(-1, os.WNOHANG)
        children.pop(child, None)
        if children and time.monotonic() > deadline:
            (folder / "hung").write_text(str(sorted(children.values())))
            for each in children:
                os.kill(each, signal.SIGKILL)
        time.sleep(0.002)
    del store


def _launcher(count: int) -> Any:
    """Set the environment that torchrun sets, and return the store that it holds."""
    make: Any = vars(distributed)["TCPStore"]
    store = make("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(count),
    }
    return store


if __name__ == "__main__":
    main()
