"""A run of milliseconds, and what its folder says was charged."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dpft
from dpft.accounting import Accountant
from dpft.accounting.ledger import Ledger
from dpft.charges import origin_of
from dpft.loop import LoopParts
from dpft.private_step import StepSettings
from dpft.training import FitOptions

STEPS = 6


class Line(nn.Linear):
    """A model of two numbers that publishes itself."""

    def save_pretrained(self, folder: Path, **_: object) -> None:
        folder.mkdir()
        save_file(self.state_dict(), folder / "adapter_model.safetensors")


def _row(index: int) -> dict[str, Any]:
    ids = [1 + index % 5] * (1 + index % 3)
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2}


def _loss(model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    total = (batch["input_ids"] * batch["attention_mask"]).sum(1, keepdim=True)
    losses: torch.Tensor = (model(total.float()).squeeze(1) - batch["labels"]).square()
    return losses


def _fit(out: Path, **arguments: Any) -> dpft.FitResult:
    torch.manual_seed(0)
    options = FitOptions(
        step=StepSettings(synthetic=[_row(index) for index in range(3)]),
        resume=arguments.pop("resume", True),
        checkpoint_every=2,
        config_yaml=arguments.pop("config_yaml", None),
        parts=LoopParts(observer=arguments.pop("observer", None)),
    )
    return dpft.fit(
        Line(1, 1),
        [_row(index) for index in range(60)],
        loss=arguments.pop("loss", _loss),
        privacy=dpft.Privacy(
            noise_multiplier=2.0,
            delta=1e-3,
            expected_batch_size=20,
            steps=STEPS,
            accountant=Accountant.RDP,
        ),
        out=out,
        options=options,
        **arguments,
    )


def _charged(out: Path) -> tuple[int, int]:
    lines = (out / "charges.jsonl").read_bytes().split(b"\n")[1:-1]
    origin = origin_of(out / "charges.jsonl")
    assert origin is not None
    with Ledger.read(out.with_name("dpft-ledger.sqlite")) as ledger:
        in_ledger = ledger.state.lease(origin.run_id).intended
    return sum("intend" in json.loads(line) for line in lines), in_ledger


@pytest.fixture
def fit() -> Callable[..., dpft.FitResult]:
    """Return `dpft.fit` of a tiny run of six steps with a checkpoint every two: (out, ...)."""
    return _fit


@pytest.fixture
def charged() -> Callable[[Path], tuple[int, int]]:
    """Return a reader of the steps charged in a run folder and in its ledger."""
    return _charged


@pytest.fixture
def loss() -> Callable[..., torch.Tensor]:
    """Return the loss of the tiny run."""
    return _loss


@pytest.fixture
def disk_refuses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes synchronising fail for files whose path holds a word: (word, errno).

    There a disk says at the latest that it has no room, also if it took the write before.
    """
    plain = os.fsync

    def refuse(word: str, number: int = errno.ENOSPC) -> None:
        def fsync(descriptor: int) -> None:
            if word in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
                raise OSError(number, os.strerror(number))
            plain(descriptor)

        monkeypatch.setattr("os.fsync", fsync)

    return refuse
