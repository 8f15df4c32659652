"""The question behind `dpft account`: its arguments, their rules, and the run that answers it."""

import argparse
import dataclasses
from collections.abc import Mapping

from dpft.accounting import (
    Accountant,
    Adjacency,
    PoissonGaussian,
    PrivacyTarget,
    UserPoissonGaussian,
    calibrate,
    calibrate_batch_size,
    calibrate_steps,
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

__all__ = [
    "Question",
    "asked",
    "parser",
    "run_of",
]

_INTEGERS = {
    "records": "num_records",
    "batch_size": "expected_batch_size",
    "epochs": "epochs",
    "steps": "steps",
    "group_size": "records_per_user",
}
_NUMBERS = {"epsilon": "epsilon", "noise_multiplier": "noise_multiplier", "delta": "delta"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What the user gave; None is what is asked for, or not needed.

    Args:
        num_records: Public number of records N, >= 1.
        expected_batch_size: Public mean of the Poisson sample, in [1, N].
        epochs: Expected passes over the data, >= 1.
        steps: Number of steps, >= 1, instead of epochs.
        records_per_user: Largest number of records of one user, >= 1, if whole users are covered.
        epsilon: Target, > 0.
        noise_multiplier: Noise std divided by the clip norm, > 0.
        delta: In (0, 1/N).
        accountant: Value of a member of `Accountant`.
        adjacency: Value of a member of `Adjacency`.

    Privacy:
        Nothing, no data touched.
    """

    num_records: int
    expected_batch_size: int | None
    epochs: int | None
    steps: int | None
    records_per_user: int | None
    epsilon: float | None
    noise_multiplier: float | None
    delta: float
    accountant: str
    adjacency: str


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments after ``dpft account``.

    Returns:
        A parser that leaves numbers as text, so that all wrong ones are reported together.

    Privacy:
        Nothing, no data touched.
    """
    made = argparse.ArgumentParser(
        prog="dpft account",
        description="The price of a run. Of --noise-multiplier, --batch-size, --epochs or --steps, "
        "and --epsilon leave one out: it is computed from the others.",
    )
    add = made.add_argument
    add("--records", metavar="N", help="public number of records")
    add("--batch-size", metavar="B", help="expected batch size; the sample rate is B/N")
    add("--epochs", metavar="E", help="expected passes: steps are E x ceil(N/B)")
    add("--steps", metavar="T", help="number of optimiser steps, instead of --epochs")
    add("--epsilon", metavar="X", help="target epsilon")
    add("--noise-multiplier", metavar="S", help="noise std divided by the clip norm")
    add("--delta", metavar="D", help="below 1/N")
    add("--group-size", metavar="K", help="cover whole users, of at most K records each")
    add("--accountant", default=Accountant.PLD.value, help="pld (default), rdp or prv")
    add(
        "--adjacency",
        default=Adjacency.ADD_OR_REMOVE.value,
        help="add_or_remove (default), zero_out or replace_one",
    )
    add("--compare", action="store_true", help="show epsilon by every accountant")
    add("--curve", action="store_true", help="show epsilon at other deltas, and what attacks gain")
    add("--json", action="store_true", help="print JSON")
    return made


def asked(arguments: argparse.Namespace) -> Question:
    """Check the arguments, all of them together.

    Args:
        arguments: What `parser` returned.

    Returns:
        The question.

    Raises:
        ConfigurationError: If arguments are missing, out of range or contradict each other.

    Privacy:
        Nothing, no data touched.
    """
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
    return Question(
        **given,  # type: ignore[arg-type]  # the rules above have checked every value
        accountant=arguments.accountant,
        adjacency=arguments.adjacency,
    )


def run_of(question: Question) -> tuple[PoissonGaussian | UserPoissonGaussian, int]:
    """Return the run that was asked about, with what was left out computed from the rest.

    Args:
        question: What `asked` returned.

    Returns:
        The mechanism, and the expected batch size.

    Raises:
        ConfigurationError: If the target cannot be met, or the batch is larger than the data.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched.
    """
    records, noise = question.num_records, question.noise_multiplier
    target = _target(question)
    batch_size = question.expected_batch_size or calibrate_batch_size(
        target, noise_multiplier=noise or 0.0, num_records=records, steps=question.steps or 0
    )
    rate = sample_rate_of(records, batch_size)
    steps = question.steps
    if question.epochs is not None:
        steps = steps_from_epochs(question.epochs, records, batch_size)
    if noise is None:
        return calibrate(target, sample_rate=rate, steps=steps or 0), batch_size
    if steps is None:
        steps = calibrate_steps(target, noise_multiplier=noise, sample_rate=rate)
    return target.run(noise, rate, steps), batch_size


def _parsed(text: str | None, kind: type[int] | type[float]) -> object:
    """Return the number, or the text itself for a rule to complain about."""
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        return text


def _missing_problems(given: Mapping[str, object]) -> list[str]:
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


def _target(question: Question) -> PrivacyTarget:
    return PrivacyTarget(
        epsilon=question.epsilon or 1.0,  # unset, it is what is asked for and the target is unused
        delta=question.delta,
        accountant=question.accountant,
        adjacency=Adjacency(question.adjacency),
        num_records=question.num_records,
        records_per_user=question.records_per_user,
    )
