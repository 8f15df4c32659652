"""Merges of mergekit, run by the Python of an environment that has it.

    PYTHON -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install mergekit==0.1.4 torch==2.13.0 transformers==4.57.6
    ENVIRONMENT/bin/python benchmarks/peers/mergekit_deltas.py

Reads folders from its input, one a line, and answers `done` to each. A folder holds `jobs.json`, a
list of {"name", "config"}: configurations of mergekit whose models are folders within it. Of each
merge the folder gets NAME.safetensors with the tensors that differ from those of `base`, or
NAME.txt with why there is none. Called by `benchmarks.taskvector_mergekit`.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["main"]

_VERSIONS = ("mergekit", "torch", "transformers")
_MADE = "made"


def main() -> int:
    """Run the jobs of every folder that is named.

    Returns:
        0, at the end of the input.

    Privacy:
        Nothing, no data touched.
    """
    for line in sys.stdin:
        os.chdir(line.strip())
        text = Path("jobs.json").read_text(encoding="utf-8")
        # whole paths: mergekit keeps what it has read by the name of the model
        for job in json.loads(text.replace('"./', f'"{Path.cwd()}/')):
            _run(job["name"], job["config"])
        numbers = {name: version(name) for name in _VERSIONS}
        Path("versions.json").write_text(json.dumps(numbers), encoding="utf-8")
        print("done", flush=True)
    return 0


def _run(name: str, config: Mapping[str, Any]) -> None:
    try:
        _merge(config)
        _keep_changed(name)
    except Exception as error:  # noqa: BLE001 - whatever mergekit raises is its answer
        Path(f"{name}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
    shutil.rmtree(_MADE, ignore_errors=True)


def _merge(config: Mapping[str, Any]) -> None:
    from mergekit.config import MergeConfiguration  # type: ignore[import-not-found]
    from mergekit.merge import run_merge  # type: ignore[import-not-found]
    from mergekit.options import MergeOptions  # type: ignore[import-not-found]

    options = MergeOptions(quiet=True, copy_tokenizer=False, write_model_card=False)
    run_merge(MergeConfiguration.model_validate(config), _MADE, options=options)


def _keep_changed(name: str) -> None:
    from safetensors.torch import save_file

    before, after = _tensors(Path("base")), _tensors(Path(_MADE))
    changed = {
        key: tensor
        for key, tensor in after.items()
        if key in before and not tensor.equal(before[key])
    }
    save_file(changed, f"{name}.safetensors")


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


if __name__ == "__main__":
    sys.exit(main())
