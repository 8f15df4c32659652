"""Command line of the recipe that makes the decoder.

    python -m dpft.recipes.decoder.pretrain --assets DIR --output DIR

The folder of the public text is `--assets`, else the environment variable DPFT_ASSETS.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dpft.recipes.decoder.language_model import DecoderSize
from dpft.recipes.decoder.pretraining import DecoderPlan, pretrain

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
    named = options.assets or os.environ.get("DPFT_ASSETS")
    if not named:
        _parser().error("Expected --assets or DPFT_ASSETS. There is no text to read. Name it.")
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    pretrain(_plan(options), Path(named), options.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dpft.recipes.decoder.pretrain",
        description="Make the small decoder of table-to-text from public text.",
    )
    parser.add_argument("--assets", help="folder with data/text and data/nlg")
    parser.add_argument("--output", type=Path, required=True, help="folder to write the model to")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of torch; 0: its own choice"
    )
    for record in (DecoderPlan(), DecoderSize()):
        for name, value in dataclasses.asdict(record).items():
            if not isinstance(value, dict):
                flag = "--" + name.replace("_", "-")
                parser.add_argument(flag, type=type(value), default=value, help=f"default {value}")
    return parser


def _plan(options: argparse.Namespace) -> DecoderPlan:
    given = vars(options)
    size = DecoderSize(**{f.name: given[f.name] for f in dataclasses.fields(DecoderSize)})
    names = [f.name for f in dataclasses.fields(DecoderPlan) if f.name != "size"]
    return DecoderPlan(**{name: given[name] for name in names}, size=size)


if __name__ == "__main__":
    main()
