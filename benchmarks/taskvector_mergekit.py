"""mergekit in the exactness table: models exported, merged in its own environment, read back."""

import copy
import dataclasses
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.taskvector_cases import FULL, Trained
from benchmarks.taskvector_contenders import Made
from benchmarks.taskvector_models import Probe
from benchmarks.taskvector_references import with_changes

__all__ = ["BESIDE", "MERGEKIT_SUMS", "PLAIN_SUM", "Mergekit", "MergekitSum", "export", "read_back"]

_SCRIPT = Path(__file__).parent / "peers" / "mergekit_deltas.py"
_BASE = "base"
_UNKNOWN = "Exported"
BESIDE = frozenset({"bottleneck", "compacter", "prompt", "prefix"})
"""Methods that are no change of weights."""
_Operations = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class MergekitSum:
    """How mergekit is asked to merge.

    Args:
        method: Its name.
        normalize: Whether it divides by the sum of the weights; None leaves the method's default.

    Privacy:
        Nothing, no data touched.
    """

    method: str
    _: dataclasses.KW_ONLY
    normalize: bool | None = None

    @property
    def name(self) -> str:
        """As the table has it."""
        if self.normalize is None:
            return f"{self.method}, defaults"
        return self.method if not self.normalize else f"{self.method}, normalised"

    def config(self, weights: Mapping[str, float]) -> dict[str, Any]:
        """Return mergekit's configuration.

        Args:
            weights: Coefficients by name of the model.

        Privacy:
            Nothing, no data touched.
        """
        given = dict(weights)
        if self.method == "linear":  # of models, not of deltas: the base takes what is left
            given[_BASE] = 1 - sum(weights.values())
        parameters = {} if self.normalize is None else {"normalize": self.normalize}
        sparse = {} if self.method in {"linear", "task_arithmetic"} else {"density": 1.0}
        return {
            "merge_method": self.method,
            "models": [
                {"model": f"./{name}", "parameters": {"weight": weight, **sparse}}
                for name, weight in given.items()
            ],
            **({} if self.method == "linear" else {"base_model": f"./{_BASE}"}),
            "parameters": parameters,
            "dtype": "float32",
        }


PLAIN_SUM = MergekitSum("task_arithmetic", normalize=False)
"""What every row is tried with."""
MERGEKIT_SUMS = (
    PLAIN_SUM,
    MergekitSum("linear", normalize=False),
    MergekitSum("dare_linear", normalize=False),
    MergekitSum("ties", normalize=False),
    MergekitSum("ties"),
    MergekitSum("della"),
)
"""What the first row is tried with, at density 1."""


def export(made: Trained, folder: Path, jobs: Mapping[str, dict[str, Any]]) -> bool:
    """Write the base model and the models with one adapter merged into each, and what to merge.

    Args:
        made: The row's models.
        folder: A new folder.
        jobs: Configurations by name.

    Returns:
        Whether the adapters are changes of weights at all.

    Privacy:
        Nothing, no data touched.
    """
    if made.case.method in BESIDE:
        return False
    _save(made.base, folder / _BASE)
    for name, model in made.models.items():
        whole = model if made.case.method == FULL else copy.deepcopy(model).merge_and_unload()
        _save(whole, folder / name)
    listed = [{"name": name, "config": config} for name, config in jobs.items()]
    (folder / "jobs.json").write_text(json.dumps(listed), encoding="utf-8")
    return True


class Mergekit:
    """mergekit's process, which stays for all rows: it takes long to start.

    Args:
        python: The Python of its environment.

    Privacy:
        Nothing, no data touched.
    """

    def __init__(self, python: Path) -> None:
        self.versions: dict[str, str] = {}
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [str(python), str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def merge(self, folder: Path) -> None:
        """Do what a folder asks for.

        Args:
            folder: What `export` wrote.

        Raises:
            RuntimeError: If the process ended.

        Privacy:
            Nothing, no data touched.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(folder.resolve(), file=self._process.stdin, flush=True)
        if not any(line.strip() == "done" for line in self._process.stdout):
            raise RuntimeError("mergekit's process ended. Run benchmarks/peers/mergekit_deltas.py.")
        self.versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))

    def close(self) -> None:
        """End the process.

        Privacy:
            Nothing, no data touched.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def read_back(made: Trained, probe: Probe, folder: Path, job: str) -> Made | str:
    """Return what mergekit made, or why it made nothing.

    Args:
        made: The row's models.
        probe: The batch.
        folder: Where it was made.
        job: Name of the configuration.

    Privacy:
        Nothing, no data touched.
    """
    path = folder / f"{job}.safetensors"
    if not path.exists():
        return (folder / f"{job}.txt").read_text(encoding="utf-8").partition("\n")[0][:90]
    base = copy.deepcopy(made.base).double()
    changes = dict(_changes(base, load_file(path)))
    return Made(with_changes(base, changes, probe), changes)


def _changes(base: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, Any]]:
    before = dict(base.named_parameters())
    for name, tensor in tensors.items():
        yield name, (tensor.double() - before[name]).detach()


def _save(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # Unknown to mergekit 0.1.4, so that it goes by the names of the tensors: its own table of
    # BertModel raises a TypeError.
    config["architectures"] = [_UNKNOWN]
    path.write_text(json.dumps(config), encoding="utf-8")
