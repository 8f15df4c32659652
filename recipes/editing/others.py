"""The same sums by other tools: `add_weighted_adapter` of peft, and mergekit where there is one.

What they make is put into a model of the base's class, so that one judge judges all.
"""

import copy
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import BertModel

from dpft.taskvectors import TaskVector

__all__ = ["MERGEKIT_METHODS", "PEFT_TYPES", "by_mergekit", "by_peft"]

PEFT_TYPES = ("cat", "linear", "svd")
"""Ways of `add_weighted_adapter`, each with its default rank."""
MERGEKIT_METHODS: dict[str, Mapping[str, float]] = {
    "task_arithmetic": {},
    "ties": {"density": 0.5},
}
"""Methods of mergekit with their parameters beside the weights."""


def by_peft(
    base: nn.Module, vectors: Sequence[TaskVector], coefficient: float, combination: str
) -> nn.Module:
    """Add vectors as adapters with peft's own `add_weighted_adapter`.

    Args:
        base: The base model; it stays as it is.
        vectors: Vectors that peft can hold; they are saved as any vector is, and loaded by peft.
        coefficient: Weight of each.
        combination: One of `PEFT_TYPES`.

    Returns:
        A model of the base's class with the merged adapter in its weights.

    Privacy:
        Nothing, no data touched. The model owes what the sum of the vectors owes.
    """
    model: Any = copy.deepcopy(base)
    names = [f"task_{index}" for index in range(len(vectors))]
    with tempfile.TemporaryDirectory() as place:
        for name, vector in zip(names, vectors, strict=True):
            folder = Path(place, name)
            vector.save(folder)
            if isinstance(model, PeftModel):
                model.load_adapter(str(folder), adapter_name=name)
            else:
                model = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    weights = [coefficient] * len(names)
    model.add_weighted_adapter(names, weights, "sum", combination_type=combination)
    model.set_adapter("sum")
    merged: nn.Module = model.merge_and_unload()
    return merged


def by_mergekit(
    python: str, base: Any, vectors: Sequence[TaskVector], coefficient: float, method: str
) -> nn.Module:
    """Add vectors as fine-tuned models with mergekit.

    Args:
        python: Interpreter of an environment that has mergekit.
        base: The base model, a BERT with a head; it stays as it is.
        vectors: Vectors that are changes of weights.
        coefficient: Weight of each.
        method: One of `MERGEKIT_METHODS`.

    Returns:
        A copy of the base whose encoder is mergekit's.

    Raises:
        CalledProcessError: If mergekit fails.

    Privacy:
        Nothing, no data touched. The model owes what the sum of the vectors owes.
    """
    made: nn.Module = copy.deepcopy(base)
    with tempfile.TemporaryDirectory() as place:
        start = _saved(base, Path(place, "base"))
        tuned = [
            _saved(vector.apply_to(base), Path(place, f"task_{index}"))
            for index, vector in enumerate(vectors)
        ]
        config = Path(place, "merge.yml")
        config.write_text(json.dumps(_recipe(start, tuned, coefficient, method)), encoding="utf-8")
        out = Path(place, "out")
        command = [python, "-m", "mergekit.scripts.run_yaml", str(config), str(out)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command line
        encoder: Any = BertModel.from_pretrained(str(out), add_pooling_layer=False)
    made.bert = encoder
    return made


def _recipe(
    base: Path, tuned: Sequence[Path], coefficient: float, method: str
) -> dict[str, object]:
    """Return mergekit's configuration; JSON is YAML."""
    given = {"weight": coefficient, **MERGEKIT_METHODS[method]}
    return {
        "merge_method": method,
        "base_model": str(base),
        "models": [{"model": str(folder), "parameters": given} for folder in tuned],
        "parameters": {"normalize": False, "lambda": 1.0},  # else a sum becomes a mean
        "dtype": "float32",
    }


def _saved(model: Any, folder: Path) -> Path:
    model.bert.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # unknown to mergekit 0.1.4, which then goes by the names of the tensors: its table of BertModel
    # ends in a TypeError
    config["architectures"] = ["Exported"]
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder
