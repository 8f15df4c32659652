"""Command line of the recipe that makes the embedded encoder.

    python -m dpft.recipes.embedded.pretrain --assets DIR --out DIR

The folder of the prose is `--assets`, else the environment variable DPFT_ASSETS; with
`--num-passages 0` none is needed.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dpft.recipes.embedded.encoder import EncoderSize
from dpft.recipes.embedded.pretraining import PretrainingPlan, pretrain

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the recipe.

    Args:
        arguments: Command-line arguments; `None` takes those of the process.

    Privacy:
        Nothing private: public text alone.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    assets = _assets(options.assets)
    if options.num_passages and assets is None:
        _parser().error("Expected --assets or DPFT_ASSETS. Name it, or give --num-passages 0.")
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    pretrain(_plan(options), assets if options.num_passages else None, options.out)


def _assets(given: Path | None) -> Path | None:
    found = os.environ.get("DPFT_ASSETS")
    return given or (Path(found) if found else None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dpft.recipes.embedded.pretrain",
        description="Make the tiny encoder of the embedded default from public text.",
    )
    parser.add_argument("--assets", type=Path, help="folder of the public prose")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of torch; 0: its own choice"
    )
    for record in (PretrainingPlan(), EncoderSize()):
        for name, value in dataclasses.asdict(record).items():
            if not isinstance(value, dict):
                flag = "--" + name.replace("_", "-")
                parser.add_argument(flag, type=type(value), default=value, help=f"default {value}")
    return parser


def _plan(options: argparse.Namespace) -> PretrainingPlan:
    given = vars(options)
    size = EncoderSize(**{f.name: given[f.name] for f in dataclasses.fields(EncoderSize)})
    names = [f.name for f in dataclasses.fields(PretrainingPlan) if f.name != "size"]
    return PretrainingPlan(**{name: given[name] for name in names}, size=size)


if __name__ == "__main__":
    main()
