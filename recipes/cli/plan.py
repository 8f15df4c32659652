"""`dpft plan`: from records, epsilon and hardware to batch, steps, noise and learning rate.

Nothing is trained and no record is read; torch is not imported, but for `--dry-run`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dpft.errors import ConfigurationError
from dpft.recipes.cli.plan_output import as_json, as_text
from dpft.recipes.planning.demand import Demand
from dpft.recipes.planning.memory import parameters_in
from dpft.recipes.planning.plan import Wish, plan_for

__all__ = ["main"]

_NUMBERS = ("epsilon", "delta", "hours", "records_per_second", "memory_gib")


def main(argv: Sequence[str]) -> int:
    """Plan a run, and print it with the command that carries it out.

    Args:
        argv: The arguments after ``dpft plan``.

    Returns:
        The exit code, 0.

    Raises:
        ConfigurationError: If an argument is missing or wrong, or the demand cannot be met.

    Privacy:
        Nothing, no data touched: all arguments are public numbers.
    """
    if "--dry-run" in argv:
        from dpft.recipes.cli.plan_dry_run import main as dry_run

        return dry_run(argv)
    arguments = _parser().parse_args(argv)
    model = arguments.model
    demand = _demand(arguments, _parameters(arguments, model))
    plan = plan_for(demand, Wish(task=arguments.task, adapter=arguments.adapter, model=model))
    print((as_json if arguments.json else as_text)(plan))
    return 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="dpft plan",
        description="Batch, steps, noise and learning rate for a guarantee and a machine.",
    )
    add = made.add_argument
    add("--records", metavar="N", dest="num_records", required=True, help="public number")
    add("--epsilon", metavar="X", required=True, help="target epsilon")
    add("--delta", metavar="D", help="below 1/N; unset: 1/(10 N), at most 1e-5")
    add("--parameters", metavar="M", help="number of the base model's weights")
    add("--model", metavar="MODEL", help="folder or Hub name; the weights in a folder are counted")
    add("--hours", metavar="H", help="time for training")
    add("--records-per-second", metavar="R", help="speed of training, needed with --hours")
    add("--memory", metavar="GIB", dest="memory_gib", help="memory of the device, in GiB")
    add("--task", metavar="NAME", default=Wish.task, help=f"default {Wish.task}")
    add("--adapter", metavar="NAME", default=Wish.adapter, help=f"default {Wish.adapter}")
    add("--json", action="store_true", help="print JSON")
    add("--dry-run", action="store_true", help="memory and time from shapes; --dry-run --help")
    return made


def _parameters(arguments: argparse.Namespace, model: str | None) -> int | None:
    if arguments.parameters is not None:
        return int(_number("parameters", arguments.parameters, int))
    if model is not None and Path(model).expanduser().is_dir():
        return parameters_in(Path(model).expanduser())
    return None


def _demand(arguments: argparse.Namespace, parameters: int | None) -> Demand:
    numbers = {
        name: _number(name, text, float)
        for name in _NUMBERS
        if (text := getattr(arguments, name)) is not None
    }
    num_records = int(_number("num_records", arguments.num_records, int))
    return Demand(num_records=num_records, parameters=parameters, **numbers)


def _number(name: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ConfigurationError(
            f"Expected {name}={text} to be {what}. Nothing can be computed with it. Correct it."
        ) from None
