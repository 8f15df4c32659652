"""`dpft merge`: sums, differences and other merges of adapters, with the certificate of the result.

    dpft merge "a + b - 0.5*c" --with a=runs/a --with b=runs/b --with c=runs/c --output merged
    dpft merge config.yaml --output merged

torch is imported when the arguments were found sound.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpft.errors import ConfigurationError
from dpft.recipes.merging.config_file import read
from dpft.recipes.merging.request import OutputType, Request, Uncertain, request_of_expression

__all__ = ["main"]

_FILES = (".yaml", ".yml")


def main(argv: Sequence[str]) -> int:
    """Merge adapters into a new folder, or say what would be written.

    Args:
        argv: An expression or a configuration file, and options.

    Returns:
        0; every failure is raised.

    Raises:
        ConfigurationError: If the request is not understood or cannot be met exactly.
        BrokenGuaranteeError: If a certificate is missing or of other tensors, or runs share noise.

    Privacy:
        Released weights and public numbers; the result owes what all its runs owe together
        (`tests/recipes/merging/test_carrying_out.py`).
    """
    arguments = _parser().parse_intermixed_args(argv)  # names may follow options
    request = _request(arguments)

    from dpft.recipes.cli.merge_output import print_summary
    from dpft.recipes.merging.carrying_out import carry_out
    from dpft.recipes.merging.forecasting import forecast

    act = forecast if arguments.dry_run else carry_out
    summary = act(request, arguments.output)
    written = None if arguments.dry_run else arguments.output
    print_summary(summary, written, as_json=arguments.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "dpft merge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what",
        metavar="EXPRESSION|FILE.yaml",
        help="names, quoted paths, numbers, + - * /, sum(a, b), analogy(a, b, c) = c + (b - a); "
        "a leading minus in parentheses: (-a)",
    )
    parser.add_argument("adapters", nargs="*", metavar="NAME=DIR", help="as --with")
    parser.add_argument(
        "--with",
        dest="given",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="folder of an adapter or a run, by its name in the expression",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    _add_method(parser)
    parser.add_argument("--base", metavar="MODEL", help="refuse adapters of another base model")
    parser.add_argument(
        "--on-uncertified",
        choices=[each.value for each in Uncertain],
        help="adapters without certificate: refuse (default), or mark the result as not private",
    )
    parser.add_argument("--without-heads", action="store_true", help="leave heads out")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", help="linear (default: the exact sum), ties, dare, ...")
    parser.add_argument("--density", type=float, help="share of entries kept by ties, dare, ...")
    parser.add_argument("--scale", type=float, help="factor of the result")
    parser.add_argument("--normalize", action="store_true", help="divide weights by their sum")
    parser.add_argument("--seed", type=int, help="public seed of methods that drop at random")
    parser.add_argument(
        "--noise-std", type=float, nargs="+", help="level of the noise in each adapter"
    )
    parser.add_argument("--rank", type=int, help="rank of every matrix of the result")
    parser.add_argument("--tolerance", type=float, help="relative error allowed for each matrix")
    parser.add_argument(
        "--dtype", choices=[each.value for each in OutputType], help="unset: as it is"
    )


def _request(arguments: argparse.Namespace) -> Request:
    given = [*arguments.adapters, *arguments.given]
    if not arguments.what.endswith(_FILES):
        return _changed(request_of_expression(arguments.what, given), arguments)
    if given:
        raise ConfigurationError(
            f"Expected {given[0]} to stand in the file. A configuration names its adapters itself. "
            "Add it to models, or write an expression."
        )
    return _changed(read(Path(arguments.what)), arguments)


def _changed(request: Request, arguments: argparse.Namespace) -> Request:
    """Return a request with what the command line says on top."""
    named: dict[str, Any] = {
        "method": arguments.method,
        "density": arguments.density,
        "scaling": arguments.scale,
        "normalize": arguments.normalize or None,
        "seed": arguments.seed,
        "noise_std": arguments.noise_std,
        "rank": arguments.rank,
        "tolerance": arguments.tolerance,
        "dtype": None if arguments.dtype is None else OutputType(arguments.dtype),
        "base": arguments.base,
        "on_uncertified": _uncertain(arguments.on_uncertified),
        "without_heads": arguments.without_heads or None,
    }
    given = {name: value for name, value in named.items() if value is not None}
    return dataclasses.replace(request, **given)


def _uncertain(value: str | None) -> Uncertain | None:
    return None if value is None else Uncertain(value)
