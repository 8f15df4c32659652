"""What a run charges survives every crash, is never taken back, and is held by one process."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dpft
from dpft.charges import ChargesFile, Origin, RunHistory, has_failed, hold, origin_of
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.private_step import PrivateStep, StepSettings
from dpft.run_folder import RunFolder
from dpft.sampling import LogicalBatch, PoissonSampler

STEPS = 9
FINGERPRINT = {"privacy.steps": STEPS, "optim.betas": (0.9, 0.999)}
HOLDER = """
import sys
from pathlib import Path
from dpft.charges import ChargesFile

charges = ChargesFile(Path(sys.argv[1]), {}, 9)
charges.attach()
print("holding", flush=True)
sys.stdin.read()
"""


def opened(path: Path, **changes: object) -> ChargesFile:
    return ChargesFile(path, FINGERPRINT | changes, STEPS)


def written(path: Path, steps: int = 3) -> list[bytes]:
    """Charge some steps and return the lines."""
    charges = opened(path)
    charges.attach()
    for step in range(steps):
        charges.intend(step)
    charges.close()
    return path.read_bytes().splitlines(keepends=True)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def intended(path: Path) -> int:
    charges = opened(path)
    charges.close()
    return charges.intended


def test_every_start_and_step_has_its_line(tmp_path: Path) -> None:
    written(tmp_path / "charges")
    charges = opened(tmp_path / "charges")
    charges.attach()
    charges.intend(3)
    charges.close()
    header, *rest = entries(tmp_path / "charges")
    assert set(header) == {"format_version", "run_id", "fingerprint", "ledger"}
    assert header["ledger"] is None
    assert header["fingerprint"]["privacy.steps"] == STEPS
    assert [entry.get("attach", entry.get("intend")) for entry in rest] == [1, 1, 2, 3, 2, 4]
    assert charges.intended == 4
    assert len(set(charges.names)) == 2


def test_opening_alone_writes_nothing(tmp_path: Path) -> None:
    opened(tmp_path / "charges").close()
    assert not (tmp_path / "charges").exists()
    before = b"".join(written(tmp_path / "charges"))
    opened(tmp_path / "charges").close()
    assert (tmp_path / "charges").read_bytes() == before


class Seen(Exception):  # noqa: N818 - ends the test at the right place
    """Raised from inside draw."""


def test_a_step_is_in_the_file_and_synchronised_before_it_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "charges"
    synchronised: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synchronised.append(path.read_bytes())

    def draw(self: PoissonSampler, step: int) -> LogicalBatch:
        assert entries(path)[-1] == {"intend": step + 1}
        assert synchronised[-1] == path.read_bytes()
        raise Seen

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(PoissonSampler, "draw", draw)
    charges = opened(path)
    charges.attach()
    with pytest.raises(Seen):
        next(private_step(charges).batches(rows(), collate))
    charges.close()


def test_making_the_file_synchronises_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        folders.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc on this machine")
    monkeypatch.setattr(os, "fsync", fsync)
    charges = opened(tmp_path / "charges")
    charges.attach()
    charges.close()
    assert str(tmp_path) in folders


@given(st.integers(0, 400))
def test_wherever_the_file_is_torn_no_whole_line_is_forgotten(cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "charges"
        lines = written(path)
        whole = b"".join(lines)
        header = len(lines[0])
        kept = whole[: header + cut % (len(whole) - header)]
        path.write_bytes(kept)
        durable = sum(b"intend" in line for line in kept.split(b"\n")[:-1])
        torn = not kept.endswith(b"\n")
        assert intended(path) == durable + torn
        assert intended(path) == durable + torn  # completed once, counted once
        charges = opened(path)
        charges.attach()
        charges.intend(charges.intended)
        charges.close()
        assert intended(path) == durable + torn + 1


def test_a_torn_line_that_may_be_anything_counts_as_a_step(tmp_path: Path) -> None:
    lines = written(tmp_path / "charges")
    (tmp_path / "charges").write_bytes(b"".join(lines) + b"\0\0\0garbage longer than any line" * 9)
    assert intended(tmp_path / "charges") == 4
    assert intended(tmp_path / "charges") == 4


def test_a_torn_line_after_the_last_step_is_no_step(tmp_path: Path) -> None:
    lines = written(tmp_path / "charges", STEPS)
    (tmp_path / "charges").write_bytes(b"".join(lines) + b'{"att')
    assert intended(tmp_path / "charges") == STEPS


def test_a_torn_failure_is_a_failure_wherever_it_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "charges"
    whole = b"".join(written(path))
    charges = opened(path)
    charges.fail(2)
    charges.close()
    line = path.read_bytes().removeprefix(whole)
    for cut in range(1, len(line) + 1):
        path.write_bytes(whole + line[:cut])
        for _ in range(2):
            with pytest.raises(BrokenGuaranteeError, match="failed step"):
                opened(path)
        assert has_failed(path)


def test_a_second_writer_is_found_where_locks_are_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "charges")
    monkeypatch.setattr("dpft.charges.fcntl.flock", lambda *_: None)
    one, other = opened(tmp_path / "charges"), opened(tmp_path / "charges")
    one.attach()
    one.intend(3)
    with pytest.raises(BrokenGuaranteeError, match="Another process"):
        other.attach()
    one.close()
    other.close()


def test_a_line_that_the_disk_takes_in_part_is_not_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "charges")
    charges = opened(tmp_path / "charges")
    charges.attach()
    plain = FileIO.write

    class Full(FileIO):
        def write(self, content: Any) -> int:
            return plain(self, content[:4])

    held = charges._file
    charges._file = Full(os.dup(held.fileno()), "r+")
    held.close()
    with pytest.raises(OSError, match="whole line"):
        charges.intend(3)
    assert charges.intended == 3
    charges.close()


def test_a_file_without_a_whole_first_line_has_charged_nothing(tmp_path: Path) -> None:
    (tmp_path / "charges").write_bytes(b'{"fingerpr')
    charges = opened(tmp_path / "charges")
    charges.attach()
    charges.close()
    assert len(entries(tmp_path / "charges")) == 2


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda line: b"\0" * len(line[:-1]) + b"\n",
    "gone": lambda line: line[:0],
    "twice": lambda line: line + line,
    "other": lambda line: line.replace(b'": ', b's": '),
}


@pytest.mark.parametrize("line", range(4))
@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_before_the_last_line_is_refused(tmp_path: Path, line: int, damage: str) -> None:
    lines = written(tmp_path / "charges")
    lines[line] = DAMAGED[damage](lines[line])
    (tmp_path / "charges").write_bytes(b"".join(lines))
    with pytest.raises(BrokenGuaranteeError, match="to be whole"):
        opened(tmp_path / "charges")


def test_a_line_that_says_more_than_it_should_is_damage(tmp_path: Path) -> None:
    lines = written(tmp_path / "charges")
    lines[2] = lines[2].replace(b"}", b', "time": 1}')
    (tmp_path / "charges").write_bytes(b"".join(lines))
    with pytest.raises(BrokenGuaranteeError, match="line 3"):
        opened(tmp_path / "charges")


def test_a_failed_step_ends_the_run_for_good(tmp_path: Path) -> None:
    written(tmp_path / "charges")
    charges = opened(tmp_path / "charges")
    assert not has_failed(tmp_path / "charges")
    charges.fail(2)
    assert has_failed(tmp_path / "charges")
    with pytest.raises(BrokenGuaranteeError, match="none after a failed one"):
        charges.intend(3)
    charges.close()
    with pytest.raises(BrokenGuaranteeError, match="new release"):
        opened(tmp_path / "charges")


@pytest.mark.parametrize("error", [BlockingIOError, MemoryError])
def test_a_failure_that_cannot_be_noted_ends_the_run_too(
    tmp_path: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "charges.jsonl")
    charges = opened(tmp_path / "charges.jsonl")
    monkeypatch.setattr(charges, "_write", raising(error))
    with pytest.raises(error):
        charges.fail(2)
    charges.close()
    with pytest.raises(ConfigurationError, match="absent or empty"):
        RunFolder.reopen(tmp_path)


@pytest.mark.parametrize("step", [0, 2, 4])
def test_only_the_following_step_can_be_charged(tmp_path: Path, step: int) -> None:
    written(tmp_path / "charges")
    charges = opened(tmp_path / "charges")
    with pytest.raises(BrokenGuaranteeError, match="in order"):
        charges.intend(step)
    charges.close()
    assert intended(tmp_path / "charges") == 3


def test_no_step_beyond_the_plan_is_charged(tmp_path: Path) -> None:
    written(tmp_path / "charges", STEPS)
    charges = opened(tmp_path / "charges")
    with pytest.raises(BrokenGuaranteeError):
        charges.intend(STEPS)
    charges.close()


def test_another_fingerprint_is_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path / "charges")
    with pytest.raises(ConfigurationError) as caught:
        opened(tmp_path / "charges", **{"privacy.steps": 7, "seed": 1})
    assert len(caught.value.messages) == 2
    assert "privacy.steps=7 to be 9" in str(caught.value)
    assert "seed=1 to be '(absent)'" in str(caught.value)
    assert intended(tmp_path / "charges") == 3  # and the lock was let go


def test_another_format_is_refused(tmp_path: Path) -> None:
    lines = written(tmp_path / "charges")
    lines[0] = lines[0].replace(b'"format_version": 2', b'"format_version": 1')
    (tmp_path / "charges").write_bytes(b"".join(lines))
    with pytest.raises(ConfigurationError, match="format_version=1"):
        opened(tmp_path / "charges")


def test_the_origin_stands_in_the_file_and_cannot_change(tmp_path: Path) -> None:
    path, origin = tmp_path / "charges", Origin("a run", "a ledger")
    assert origin_of(path) is None
    charges = ChargesFile(path, FINGERPRINT, STEPS, origin)
    charges.attach()
    charges.close()
    assert origin_of(path) == origin
    ChargesFile(path, FINGERPRINT, STEPS, origin).close()
    with pytest.raises(ConfigurationError, match="charged to another run"):
        ChargesFile(path, FINGERPRINT, STEPS, Origin("a run", "another ledger"))


def test_a_torn_header_says_nothing_of_an_origin(tmp_path: Path) -> None:
    (tmp_path / "charges").write_bytes(b'{"format_ver')
    assert origin_of(tmp_path / "charges") is None


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    path = tmp_path / "charges"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holding\n"
        with pytest.raises(ConfigurationError, match="to be free"):
            ChargesFile(path, {}, STEPS)
        with pytest.raises(ConfigurationError, match="to be free"), hold(path):
            pass
        holder.kill()
    charges = ChargesFile(path, {}, STEPS)
    charges.attach()
    charges.close()
    with hold(path):
        pass


def test_two_processes_cannot_both_make_the_file(tmp_path: Path) -> None:
    one, other = opened(tmp_path / "charges"), opened(tmp_path / "charges")
    one.attach()
    with pytest.raises(ConfigurationError, match="to be free"):
        other.attach()
    one.close()


def test_a_full_disk_leaves_the_step_unsampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charges = opened(tmp_path / "charges")
    charges.attach()
    step = private_step(charges)

    def full(self: object, entry: object, length: int = 0) -> None:
        raise OSError(28, "No space left on device")

    def draw(self: PoissonSampler, step: int) -> LogicalBatch:
        pytest.fail("sampled without a charge")

    monkeypatch.setattr(ChargesFile, "_write", full)
    monkeypatch.setattr(PoissonSampler, "draw", draw)
    with pytest.raises(OSError, match="No space"):
        next(step.batches(rows(), collate))
    charges.close()


def test_what_is_lost_is_charged_and_not_kept() -> None:
    assert RunHistory(starts=2, intended=10, updates=7).lost == 3


def rows() -> list[dict[str, Any]]:
    return [{"x": [float(i % 5), 1.0], "y": float(i % 2)} for i in range(50)]


def collate(chosen: Any) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in chosen]) for name in chosen[0]}


def private_step(charges: ChargesFile) -> PrivateStep:
    model = nn.Linear(2, 1)
    return PrivateStep(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=10, steps=STEPS),
        lambda model, batch: (model(batch["x"]).squeeze(-1) - batch["y"]).square(),
        StepSettings(charges=charges),
    )


def test_a_step_goes_on_where_the_charges_end(tmp_path: Path) -> None:
    written(tmp_path / "charges")
    charges = opened(tmp_path / "charges")
    charges.attach()
    step = private_step(charges)
    assert step.steps_taken == 3
    drawn = []
    for batch in step.batches(rows(), collate):
        drawn.append(batch.step)
        step(batch)
    charges.close()
    assert drawn == list(range(3, STEPS))
    assert step.mechanism == step.plan.mechanism(STEPS)
    assert charges.intended == STEPS


def test_a_step_that_fails_is_noted_and_one_that_is_interrupted_is_not(tmp_path: Path) -> None:
    for error, noted in ((ValueError, True), (KeyboardInterrupt, False)):
        path = tmp_path / error.__name__
        charges = opened(path)
        charges.attach()
        step = private_step(charges)
        batch = next(step.batches(rows(), collate))
        step._optimizer.step = raising(error)
        with pytest.raises(error):
            step(batch)
        charges.close()
        assert has_failed(path) is noted


def test_a_record_that_cannot_be_drawn_fails_the_step(tmp_path: Path) -> None:
    charges = opened(tmp_path / "charges")
    charges.attach()
    step = private_step(charges)
    batches = step.batches(rows(), collate)
    step._randomness.poisson_sample = lambda *_: [10**9]
    with pytest.raises(IndexError):
        next(batches)
    charges.close()
    assert has_failed(tmp_path / "charges")


def raising(error: type[BaseException]) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail
