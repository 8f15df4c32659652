"""Full and read-only disks: what was there stays, what was charged stays, and the error says so."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import dpft
from dpft.artefacts import save_adapter
from dpft.charges import ChargesFile
from dpft.errors import DpftError, LedgerError, StorageError
from dpft.progress import Progress
from dpft.run_folder import RunFolder
from dpft.sampling import PoissonSampler
from dpft.verification import verify

Fit = Callable[..., dpft.FitResult]
Charged = Callable[[Path], tuple[int, int]]
Refuses = Callable[..., None]
STEPS = 6
PLACES = [
    ("charges.jsonl", errno.ENOSPC, 0),
    ("step_000004", errno.ENOSPC, 4),
    ("adapter.draft", errno.EIO, STEPS),
    ("run/.certificate.json", errno.ENOSPC, STEPS),
    ("report.md", errno.EROFS, STEPS),
    ("config.yaml", errno.EROFS, 0),
]


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


@pytest.mark.parametrize(("place", "number", "steps"), PLACES)
def test_a_disk_that_refuses_a_file_destroys_nothing_and_names_it(
    tmp_path: Path,
    fit: Fit,
    charged: Charged,
    disk_refuses: Refuses,
    place: str,
    number: int,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    disk_refuses(place, number)
    with pytest.raises(StorageError) as caught:
        fit(out, config_yaml="a: 1\n")
    monkeypatch.undo()
    said = str(caught.value)
    assert str(out) in said
    assert os.strerror(number) in said
    assert "Make room or give the right to write" in said
    assert not hidden(out)
    if steps:
        assert charged(out) == (steps, steps)
    assert fit(out, config_yaml="a: 1\n").history.lost == (2 if steps == 4 else 0)
    assert charged(out) == (STEPS, STEPS)
    assert all(finding.passed for finding in verify(out))


def test_no_step_is_sampled_whose_charge_the_disk_refuses(
    tmp_path: Path,
    fit: Fit,
    charged: Charged,
    disk_refuses: Refuses,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[int] = []
    plain = PoissonSampler.draw

    def draw(sampler: Any, step: int) -> Any:
        drawn.append(step)
        return plain(sampler, step)

    monkeypatch.setattr("dpft.sampling.PoissonSampler.draw", draw)

    def fill(progress: Progress) -> None:
        if progress.step == 3:
            disk_refuses("charges.jsonl")

    with pytest.raises(StorageError, match="nothing else is sampled"):
        fit(tmp_path / "run", on_step=fill)
    assert drawn == [0, 1, 2]
    assert charged(tmp_path / "run")[1] == 3


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system itself refuse what is written beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_adapter_is_replaced_once_the_new_one_is_whole(tmp_path: Path, fit: Fit) -> None:
    result = fit(tmp_path / "run")
    save_adapter(result.model, result.certificate, tmp_path / "saved", result.delta)
    before = contents(tmp_path / "saved")
    with torch.no_grad():
        result.model.get_parameter("weight").add_(1)
    for size in (10, 200):
        with files_of_at_most(size), pytest.raises(StorageError, match="unchanged") as caught:
            save_adapter(result.model, result.certificate, tmp_path / "saved", result.delta)
        assert str(tmp_path / "saved") in str(caught.value)
        assert contents(tmp_path / "saved") == before
        assert not hidden(tmp_path)
    save_adapter(result.model, result.certificate, tmp_path / "saved", result.delta)
    assert contents(tmp_path / "saved") != before
    assert not hidden(tmp_path)


@pytest.mark.parametrize("renaming", [1, 2])
def test_an_adapter_survives_an_interruption_while_it_is_replaced(
    tmp_path: Path, fit: Fit, renaming: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, folder = fit(tmp_path / "run"), tmp_path / "saved"
    save_adapter(result.model, result.certificate, folder, result.delta)
    before, plain, renamed = contents(folder), Path.rename, 0

    def rename(path: Path, other: Path) -> Path:
        nonlocal renamed
        renamed += 1
        if renamed == renaming:
            raise KeyboardInterrupt
        return plain(path, other)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            save_adapter(result.model, result.certificate, folder, result.delta)
    with files_of_at_most(10), pytest.raises(StorageError):
        save_adapter(result.model, result.certificate, folder, result.delta)
    assert contents(folder) == before
    save_adapter(result.model, result.certificate, folder, result.delta)
    assert not hidden(tmp_path)


def test_a_failed_step_that_the_folder_cannot_note_ends_the_run_in_the_ledger(
    tmp_path: Path, fit: Fit, charged: Charged, loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        if len(batch["labels"]) <= 3:  # the preflight's
            return torch.as_tensor(loss(model, batch))
        raise ValueError

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("dpft.charges.ChargesFile._append", _but_for_failures(refuse))
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(StorageError, match="must not be resumed"):
            fit(out, loss=failing)
    assert charged(out) == (1, 1)
    with pytest.raises(LedgerError, match="settled"):
        fit(out)


def _but_for_failures(refuse: Callable[..., None]) -> Callable[..., None]:
    plain = ChargesFile._append

    def append(charges: ChargesFile, entry: Any, length: int = 0) -> None:
        (refuse if isinstance(entry, list) else plain)(charges, entry, length)

    return append


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_charged(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    for resume in (True, False):
        with pytest.raises(StorageError, match="nothing was charged") as caught:
            fit(tmp_path / "run", resume=resume)
        assert str(tmp_path / "run") in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DpftError, match="Not a directory"):
        RunFolder.create(tmp_path / "file" / "run")
