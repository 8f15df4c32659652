"""`dpft account`: what a run would cost, or what it needs to stay within a budget.

Of noise multiplier, batch size, length and epsilon any three give the fourth. Nothing is trained
and no data is read; torch is imported for `--accountant prv` alone.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence

from dpft.accounting import (
    DEFAULT_GRID,
    Accountant,
    Adjacency,
    DpftError,
    PoissonGaussian,
    PrivacyTarget,
    calibrate,
    calibrate_batch_size,
    calibrate_steps,
    epsilon,
    sample_rate_of,
    steps_from_epochs,
)
from dpft.accounting.rules import (
    count_problems,
    delta_problems,
    name_problems,
    positive_problems,
    require,
)

__all__ = ["main"]

_INTEGERS = {
    "records": "num_records",
    "batch_size": "expected_batch_size",
    "epochs": "epochs",
    "steps": "steps",
}
_NUMBERS = {"epsilon": "epsilon", "noise_multiplier": "noise_multiplier", "delta": "delta"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Question:
    """What the user gave; None is what is asked for, or not needed."""

    num_records: int
    expected_batch_size: int | None
    epochs: int | None
    steps: int | None
    epsilon: float | None
    noise_multiplier: float | None
    delta: float
    accountant: str
    adjacency: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Answer:
    """A complete run, and the epsilon it spends."""

    epsilon: float
    target_epsilon: float | None
    delta: float
    noise_multiplier: float
    num_records: int
    expected_batch_size: int
    sample_rate: float
    steps: int
    accountant: str
    adjacency: str
    grid: float | None


def main(argv: Sequence[str]) -> int:
    """Answer one question about the cost of a run, on standard output.

    Args:
        argv: The arguments after ``dpft account``.

    Returns:
        The exit code, 0.

    Raises:
        ConfigurationError: If arguments are missing, out of range or contradict each other; all
            of them are named together.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched: all arguments are public numbers.

    Example:
        >>> main(
        ...     "--records 1000 --batch-size 100 --epochs 30 --noise-multiplier 2".split()
        ...     + ["--delta", "1e-4"]
        ... )
        epsilon              3.5965...
        delta                0.0001
        noise_multiplier     2.0
        num_records          1000
        expected_batch_size  100
        sample_rate          0.1
        steps                300
        accountant           pld
        adjacency            add_or_remove
        grid                 0.0001
        0
    """
    arguments = _parser().parse_args(argv)
    question = _question(arguments)
    mechanism, batch_size = _run(question)
    answer = _answer(question, mechanism, batch_size)
    comparison = _comparison(mechanism, question.delta) if arguments.compare else {}
    print(_as_json(answer, comparison) if arguments.json else _as_table(answer, comparison))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dpft account",
        description="The price of a run. Of --noise-multiplier, --batch-size, --epochs or --steps, "
        "and --epsilon leave one out: it is computed from the others.",
    )
    add = parser.add_argument
    add("--records", metavar="N", help="public number of records")
    add("--batch-size", metavar="B", help="expected batch size; the sample rate is B/N")
    add("--epochs", metavar="E", help="expected passes: steps are E x ceil(N/B)")
    add("--steps", metavar="T", help="number of optimiser steps, instead of --epochs")
    add("--epsilon", metavar="X", help="target epsilon")
    add("--noise-multiplier", metavar="S", help="noise std divided by the clip norm")
    add("--delta", metavar="D", help="below 1/N")
    add("--accountant", default=Accountant.PLD.value, help="pld (default), rdp or prv")
    add(
        "--adjacency",
        default=Adjacency.ADD_OR_REMOVE.value,
        help="add_or_remove (default), zero_out or replace_one",
    )
    add("--compare", action="store_true", help="show epsilon by every accountant")
    add("--json", action="store_true", help="print JSON")
    return parser


def _parsed(text: str | None, kind: type[int] | type[float]) -> object:
    """Return the number, or the text itself for a rule to complain about."""
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        return text


def _question(arguments: argparse.Namespace) -> _Question:
    integers = {name: _parsed(getattr(arguments, flag), int) for flag, name in _INTEGERS.items()}
    numbers = {name: _parsed(getattr(arguments, flag), float) for flag, name in _NUMBERS.items()}
    given = {**integers, **numbers}
    records = given["num_records"]
    require(
        _missing_problems(given),
        *(count_problems(name, value) for name, value in integers.items() if value is not None),
        *(
            positive_problems(name, given[name])
            for name in ("epsilon", "noise_multiplier")
            if given[name] is not None
        ),
        []
        if given["delta"] is None
        else delta_problems(given["delta"], records if isinstance(records, int) else None),
        name_problems("accountant", arguments.accountant, [each.value for each in Accountant]),
        name_problems("adjacency", arguments.adjacency, [each.value for each in Adjacency]),
    )
    return _Question(
        **given,  # type: ignore[arg-type]  # the rules above have checked every value
        accountant=arguments.accountant,
        adjacency=arguments.adjacency,
    )


def _missing_problems(given: dict[str, object]) -> list[str]:
    """Check that --records and --delta are there, and exactly one of the other four is not."""
    problems = [
        f"Expected {name} to be given. Nothing can be computed without it. Add {flag}."
        for name, flag in (("num_records", "--records N"), ("delta", "--delta D"))
        if given[name] is None
    ]
    lengths = [name for name in ("epochs", "steps") if given[name] is not None]
    if len(lengths) > 1:
        problems.append(
            "Expected one of epochs and steps, not both. The number of steps is decided once. "
            "Leave out --epochs or --steps."
        )
    names = ("epsilon", "noise_multiplier", "expected_batch_size")
    absent = [name for name in names if given[name] is None] + ["epochs or steps"] * (not lengths)
    if len(absent) != 1:
        problems.append(
            "Expected three of --epsilon, --noise-multiplier, --batch-size and --epochs or --steps "
            f"to be given; absent: {', '.join(absent) or 'none'}. "
            "The three give the fourth. Leave out exactly one."
        )
    if absent == ["expected_batch_size"] and given["epochs"] is not None:
        problems.append(
            f"Expected steps instead of epochs={given['epochs']} where the batch size is asked "
            "for. Steps of an epoch depend on it. Set --steps."
        )
    return problems


def _target(question: _Question, target_epsilon: float) -> PrivacyTarget:
    return PrivacyTarget(
        epsilon=target_epsilon,
        delta=question.delta,
        accountant=question.accountant,
        adjacency=Adjacency(question.adjacency),
        num_records=question.num_records,
    )


def _run(question: _Question) -> tuple[PoissonGaussian, int]:
    """Return the run that was asked about, with what was left out computed from the rest."""
    records, noise = question.num_records, question.noise_multiplier
    batch_size = question.expected_batch_size or _largest_batch_size(question)
    rate = sample_rate_of(records, batch_size)
    steps = question.steps
    if question.epochs is not None:
        steps = steps_from_epochs(question.epochs, records, batch_size)
    if noise is None:
        target = _target(question, question.epsilon or 0.0)
        return calibrate(target, sample_rate=rate, steps=steps or 0), batch_size
    if steps is None:
        target = _target(question, question.epsilon or 0.0)
        steps = calibrate_steps(target, noise_multiplier=noise, sample_rate=rate)
    return PoissonGaussian(noise, rate, steps, Adjacency(question.adjacency)), batch_size


def _largest_batch_size(question: _Question) -> int:
    return calibrate_batch_size(
        _target(question, question.epsilon or 0.0),
        noise_multiplier=question.noise_multiplier or 0.0,
        num_records=question.num_records,
        steps=question.steps or 0,
    )


def _answer(question: _Question, mechanism: PoissonGaussian, batch_size: int) -> _Answer:
    grids = {
        Accountant.PLD.value: DEFAULT_GRID.interval_for([mechanism]),
        Accountant.PRV.value: DEFAULT_GRID.epsilon_error,
    }
    return _Answer(
        epsilon=epsilon(mechanism, question.delta, accountant=question.accountant),
        target_epsilon=question.epsilon,
        delta=question.delta,
        noise_multiplier=mechanism.noise_multiplier,
        num_records=question.num_records,
        expected_batch_size=batch_size,
        sample_rate=mechanism.sample_rate,
        steps=mechanism.steps,
        accountant=question.accountant,
        adjacency=mechanism.adjacency.value,
        grid=grids.get(question.accountant),
    )


def _comparison(mechanism: PoissonGaussian, delta: float) -> dict[str, float | str]:
    """Return epsilon by every accountant, or why there is none."""
    found: dict[str, float | str] = {}
    for accountant in Accountant:
        try:
            found[accountant.value] = epsilon(mechanism, delta, accountant=accountant)
        except DpftError as error:
            found[accountant.value] = str(error)
    return found


def _as_json(answer: _Answer, comparison: dict[str, float | str]) -> str:
    fields: dict[str, object] = dataclasses.asdict(answer)
    if comparison:
        fields["compare"] = {
            name: value if isinstance(value, float) else None for name, value in comparison.items()
        }
    return json.dumps(fields, indent=2, allow_nan=False)


def _as_table(answer: _Answer, comparison: dict[str, float | str]) -> str:
    rows = {name: value for name, value in dataclasses.asdict(answer).items() if value is not None}
    rows |= {f"epsilon ({name})": value for name, value in comparison.items()}
    width = max(len(name) for name in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
