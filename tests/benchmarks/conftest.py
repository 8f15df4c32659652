"""The benchmarks lie beside the package, not in it: they are imported from the checkout."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

# First on the path while the package is found, because opacus installs a package of this name;
# not for longer, because the folders beside it must not shadow anything.
sys.path.insert(0, str(Path(__file__).parents[2]))
importlib.import_module("benchmarks")
del sys.path[0]

_Main = Callable[[Sequence[str]], None]
_Run = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[_Run]:
    """Run a benchmark at tiny shapes and return its table and its result."""
    threads = torch.get_num_threads()

    def run(main: _Main, *arguments: str) -> tuple[str, dict[str, Any]]:
        out = tmp_path / "result.json"
        main([*arguments, "--quick", "--rounds", "2", "--out", str(out)])
        return capsys.readouterr().out, json.loads(out.read_text(encoding="utf-8"))

    yield run
    torch.set_num_threads(threads)
