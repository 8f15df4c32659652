"""Runs whose process dies at its n-th event, one fork for each, for `test_crashes.py`.

    [FOLDER, JOB]       a line it reads; answered by how the process ended
    FOLDER/run          the run
    FOLDER/witness/     what was seen from outside it
    FOLDER/said         its last words

An event is whatever a crash may fall into: a write, a rename, a synchronisation, a commit of the
ledger, a sample, an update. The job says which one, whether the end comes before it, amid it or
after it, and how: by a signal, or by a power cut, which also takes from every file what was
never synchronised. With a full or read-only disk nothing can be written from the event on.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any, cast

import peft.peft_model
import torch
from peft import LoraConfig
from transformers import BertConfig, BertForSequenceClassification

import dpft
import dpft.charges
from dpft.accounting import Accountant
from dpft.losses import Classification
from dpft.optim import Averaging, Optim
from dpft.private_step import PrivateStep, StepSettings
from dpft.randomness import PinnedRandomness, SecretRandomness
from dpft.sampling import LogicalBatch, PoissonSampler
from dpft.training import FitOptions

WAYS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "power cut": signal.SIGKILL}
OFF_DISK = {"sample", "update"}
ERRORS = {"full disk": errno.ENOSPC, "read-only": errno.EROFS}


class Fate:
    """Counts events, and ends the process at one of them.

    Args:
        folder: Holds the run, and what the witness was told.
        job: `at`, `phase` and `how` of the end; `after` seconds instead of `at`; `steps`, `pinned`,
            and steps that are `lost`, which a reference leaves out.
    """

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        """Take what lies in the run folder for synchronised."""
        self.folder = folder
        self.run = folder / "run"
        self.job = job
        self._events = 0
        self._no_room = False
        self._synchronised = {path.stat().st_ino: path.stat().st_size for path in self._files()}

    def note(self, name: str, text: object) -> None:
        """Tell the witness; what it was told outlives this process."""
        witness = self.folder / "witness"
        witness.mkdir(exist_ok=True)
        descriptor = os.open(witness / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{text}\n".encode())
        os.close(descriptor)

    def note_events(self) -> None:
        """Tell the witness that the run is finished, and how many events it had."""
        self.note("events", self._events)

    def meet(self, name: str, act: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Let an event happen, if it does: before it, amid it or after it the process may end.

        Args:
            name: What happens.
            act: Makes it happen.
            half: Makes half of it happen, if there is such a thing.
        """
        half = half or (lambda: None)
        self._events += 1
        phase = self.job["phase"] if self._events == self.job.get("at") else None
        self._no_room |= phase is not None and self.job["how"] in ERRORS
        if self._no_room:
            return act() if name in OFF_DISK else self._refuse(half)
        if phase == "amid":
            half()
        if phase in {"before", "amid"}:
            self._end(name)
        result = act()
        if phase == "after":
            self._end(name)
        return result

    def remove(self, act: Callable[[], Any], half: Callable[[], Any], *, calmly: bool) -> None:
        """Let a removal happen, for which also a full disk has room."""
        if self._no_room and self.job["how"] == "full disk":
            act()
            return
        with contextlib.suppress(*[OSError] * calmly):
            self.meet("removal", act, half)

    def follow(self, descriptor: int) -> None:
        """Note what is synchronised."""
        found = os.fstat(descriptor)
        self._synchronised[found.st_ino] = found.st_size

    def end_at_a_moment(self) -> None:
        """Let another process end this one, wherever it then is."""
        victim = os.getpid()
        if os.fork() == 0:
            time.sleep(self.job["after"])
            if os.getppid() == victim:
                self.note("deaths", f"{self.job['how']} at a moment")
                os.kill(victim, WAYS[self.job["how"]])
            os._exit(0)

    def _refuse(self, half: Callable[[], Any]) -> None:
        half()
        number = ERRORS[self.job["how"]]
        raise OSError(number, os.strerror(number))

    def _end(self, name: str) -> None:
        self.note("deaths", f"{self.job['how']} {self.job['phase']} {name}")
        if self.job["how"] == "power cut":
            for path in self._files():
                found = path.stat()
                os.truncate(path, min(found.st_size, self._synchronised.get(found.st_ino, 0)))
        os.kill(os.getpid(), WAYS[self.job["how"]])
        time.sleep(60)

    def _files(self) -> list[Path]:
        return [path for path in self.run.rglob("*") if path.is_file()]


def watch_places(fate: Fate) -> None:
    """Make events of what is done to names, and of synchronisations."""
    sync, replace, link = os.fsync, os.replace, os.link
    rename, remove = Path.rename, shutil.rmtree

    def watched_sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        fate.meet(f"synchronisation of {kind(path)}", lambda: sync(descriptor))
        fate.follow(descriptor)

    def watched_replace(draft: Path, path: Path) -> None:
        fate.meet(f"replacement of {kind(path)}", lambda: replace(draft, path))

    def watched_rename(draft: Path, path: Path) -> None:
        fate.meet(f"renaming to {kind(path)}", lambda: rename(draft, path))

    def watched_link(draft: Path, path: Path) -> None:
        fate.meet("naming of the ledger", lambda: link(draft, path))

    def watched_remove(folder: Path, **options: Any) -> None:
        first = next(filter(Path.is_file, folder.rglob("*")), folder / "none")
        fate.remove(
            lambda: remove(folder, **options),
            lambda: first.unlink(missing_ok=True),
            calmly=options.get("ignore_errors", False),
        )

    put(os, fsync=watched_sync, replace=watched_replace, link=watched_link)
    put(shutil, rmtree=watched_remove)
    put(Path, rename=watched_rename)


def watch_contents(fate: Fate) -> None:
    """Make events of what is written into files."""
    plain_bytes, plain_text = Path.write_bytes, Path.write_text
    plain_tensors = vars(peft.peft_model)["safe_save_file"]

    def write_bytes(path: Path, content: bytes) -> None:
        half = functools.partial(plain_bytes, path, content[: len(content) // 2])
        fate.meet(f"write of {kind(path)}", lambda: plain_bytes(path, content), half)

    def write_text(path: Path, text: str, **options: Any) -> None:
        half = functools.partial(plain_text, path, text[: len(text) // 2], **options)
        fate.meet(f"write of {kind(path)}", lambda: plain_text(path, text, **options), half)

    def write_tensors(tensors: Any, path: str, **options: Any) -> None:
        def half() -> None:
            plain_tensors(tensors, path, **options)
            os.truncate(path, Path(path).stat().st_size // 2)

        fate.meet("write of the adapter", lambda: plain_tensors(tensors, path, **options), half)

    put(Path, write_bytes=write_bytes, write_text=write_text)
    put(peft.peft_model, safe_save_file=write_tensors)


def watch_charges(fate: Fate) -> None:
    """Make events of what is written into the run's charges and the ledger."""

    class Watched(FileIO):
        def write(self, content: Any) -> int:
            act = functools.partial(super().write, content)
            half = functools.partial(super().write, content[: len(content) // 2])
            return int(fate.meet("write of charges.jsonl", act, half))

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            act = functools.partial(super().execute, sql, *values)
            word = {"INSERT": "entry", "COMMIT": "commit"}.get(sql.split(maxsplit=1)[0])
            cursor = act() if word is None else fate.meet(f"{word} of the ledger", act)
            return cast("sqlite3.Cursor", cursor)

    put(dpft.charges, FileIO=Watched)
    put(sqlite3, connect=functools.partial(sqlite3.connect, factory=Connection))


def watch_steps(fate: Fate) -> None:
    """Tell the witness of every sample and update before it happens; both are events."""
    plain_draw, plain_take = PoissonSampler.draw, PrivateStep._take
    plain_key = SecretRandomness.__init__

    def draw(sampler: PoissonSampler, step: int) -> LogicalBatch:
        fate.note("samples", step + 1)
        return cast("LogicalBatch", fate.meet("sample", lambda: plain_draw(sampler, step)))

    def take(step: PrivateStep, batch: LogicalBatch) -> None:
        if batch.step + 1 not in fate.job.get("lost", []):
            fate.note("updates", batch.step + 1)
            fate.meet("update", lambda: plain_take(step, batch))

    def key(source: SecretRandomness) -> None:
        plain_key(source)
        fate.note("keys", hashlib.sha256(source._key).hexdigest())

    put(PoissonSampler, draw=draw)
    put(PrivateStep, _take=take)
    put(SecretRandomness, __init__=key)


def put(owner: Any, **watched: Any) -> None:
    """Put watched functions in the place of plain ones; the process ends before they are needed."""
    for name, function in watched.items():
        setattr(owner, name, function)


def kind(path: Path) -> str:
    """Name what a file or folder is of."""
    parts = [part.strip(".") for part in path.parts]
    if "checkpoints" in parts:
        return "a checkpoint"
    if "certificate.json" in parts[-1]:
        return "a certificate"
    if {"adapter", "adapter.draft", "adapter.former"} & set(parts):
        return "the adapter"
    return parts[-1].removesuffix(".draft")


def model() -> torch.nn.Module:
    """Return the public base model."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "vocab_size": 30,
        "num_labels": 2,
    }
    config = BertConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
    return BertForSequenceClassification(config)


def row(index: int) -> dict[str, Any]:
    """Return one record."""
    ids = [3 + index % 2, *range(5, 7 + index % 3)]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2}


def train(fate: Fate) -> None:
    """Start the run, or go on with it."""
    randomness = PinnedRandomness(3) if fate.job["pinned"] else None
    dpft.fit(
        model(),
        [row(index) for index in range(40)],
        loss=Classification(),
        privacy=dpft.Privacy(
            noise_multiplier=2.0,
            delta=1e-3,
            expected_batch_size=10,
            steps=fate.job["steps"],
            accountant=Accountant.RDP,
            ledger=str(fate.folder / "dpft-ledger.sqlite"),
        ),
        adapter=LoraConfig(
            task_type="SEQ_CLS", target_modules=["query"], r=2, modules_to_save=["classifier"]
        ),
        optim=Optim(learning_rate=0.05, averaging=Averaging.EMA),
        out=fate.run,
        options=FitOptions(
            resume=True,
            checkpoint_every=3,
            config_yaml="of: a test\n",
            step=StepSettings(randomness=randomness),
        ),
    )


def live(folder: Path, job: dict[str, Any]) -> None:
    """Train until the end, whichever comes first."""
    fate = Fate(folder, job)
    if "after" in job:
        fate.end_at_a_moment()
    for watch in (watch_places, watch_contents, watch_charges, watch_steps):
        watch(fate)
    train(fate)
    fate.note_events()


def live_in_a_fork(folder: Path, job: dict[str, Any]) -> int:
    """Return how a process ended that did so."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        try:
            live(folder, job)
        except BaseException:  # noqa: BLE001 - whatever it was, it is told
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Do what a first run alone has to do, then answer one job after the other."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        train(Fate(Path(folder), {"steps": 2, "pinned": False}))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        folder, job = json.loads(line)
        sys.stdout.write(f"{live_in_a_fork(Path(folder), job)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
