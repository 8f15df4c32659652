"""Peak memory of one steady-state action over what is resident at rest.

On CPU the kernel's high-water mark of the process, reset before the action; in a process of its
own, whose allocator returns what is freed (`ENVIRONMENT`). On CUDA torch's own counter.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import Action

__all__ = ["ENVIRONMENT", "in_own_process", "peak_over_rest"]

ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "65536",  # tensors are pages of their own and go back when freed
    "MALLOC_TRIM_THRESHOLD_": "0",
}
_RESET_PEAK = "5"  # see proc(5), /proc/PID/clear_refs
_KIB = 1024


def peak_over_rest(action: Action, device: str, warm_up: int = 2) -> int:
    """Return the most bytes that one action held beyond those held before it.

    Args:
        action: What is measured.
        device: Whose memory counts.
        warm_up: Actions before, so that optimiser states and caches are there, >= 0.

    Privacy:
        Nothing, no data touched.
    """
    for _ in range(warm_up):
        action()
    return _peak_on_cuda(action) if device.startswith("cuda") else _peak_on_cpu(action)


def in_own_process(
    module: str, arguments: Sequence[str], environment: Mapping[str, str] = ENVIRONMENT
) -> dict[str, Any]:
    """Run a module of the benchmarks by itself and return the JSON on its last line.

    Args:
        module: Name, as in `benchmarks.step`.
        arguments: Its command line.
        environment: Variables set for it.

    Raises:
        RuntimeError: If it fails, with the end of what it wrote.

    Privacy:
        Nothing, no data touched.
    """
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        env=os.environ | environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _peak_on_cpu(action: Action) -> int:
    gc.collect()
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    rest = _resident("VmRSS")
    action()
    return _resident("VmHWM") - rest


def _peak_on_cuda(action: Action) -> int:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    rest = torch.cuda.memory_allocated()
    action()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - rest


def _resident(field: str) -> int:
    """Return a size of this process from the kernel, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * _KIB
    raise RuntimeError(f"Expected {field} in /proc/self/status. Run on Linux.")
