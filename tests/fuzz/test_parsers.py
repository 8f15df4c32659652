"""Whatever stands in a file: it is read, or refused by an error of ours, and soon."""

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Target

INPUTS = 100_000
GUIDED = 20_000
PATIENCE_SECONDS = 20  # of an input; read in less than a thousandth of a second as a rule


class _HangError(BaseException):
    """Not an `Exception`: no parser can take it for one of its own."""


def _late(signum: int, frame: FrameType | None) -> None:
    raise _HangError


@contextmanager
def in_time() -> Iterator[None]:
    """End whatever takes too long; a limit of its own for each input."""
    before = signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_read(target: Target, data: bytes) -> bool:
    try:
        with in_time():
            return target.reads(data)
    except BaseException as error:
        error.add_note(f"input: {data[:2000]!r}")
        raise


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_sound_is_read(name: str) -> None:
    assert all(is_read(TARGETS[name], seed) for seed in TARGETS[name].seeds)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=15, database=None)
@given(number=st.integers(0, 2**32), anything=st.binary(max_size=80))
def test_what_is_changed_is_read_or_refused(name: str, number: int, anything: bytes) -> None:
    target, random = TARGETS[name], Random(number)
    is_read(target, anything)
    for _ in range(3):
        is_read(target, mutated(random, target.seeds, target.form))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_hundred_thousand_inputs_are_read_or_refused(name: str) -> None:
    target, random = TARGETS[name], Random(name)
    read = sum(is_read(target, mutated(random, target.seeds, target.form)) for _ in range(INPUTS))
    assert 0 < read < INPUTS  # else nothing was reached, or nothing refused


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: pip install dpft[fuzz]",
)
@pytest.mark.parametrize("name", TARGETS)
def test_inputs_led_by_coverage_are_read_or_refused(name: str, tmp_path: Path) -> None:
    for number, seed in enumerate(TARGETS[name].seeds):
        (tmp_path / str(number)).write_bytes(seed)
    script = Path(__file__).with_name("guided.py")
    options = [f"-runs={GUIDED}", f"-timeout={PATIENCE_SECONDS}", "-max_len=8192", "-seed=1"]
    done = subprocess.run(
        [sys.executable, str(script), name, *options, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path.parent,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"Done {GUIDED}" in done.stderr
