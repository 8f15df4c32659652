"""The answer of `dpft account`, as a table or as JSON."""

import dataclasses
import json
from collections.abc import Iterator, Sequence

from dpft.accounting import (
    DEFAULT_GRID,
    Accountant,
    AccountantError,
    DpftError,
    Mechanism,
    PoissonGaussian,
    UserPoissonGaussian,
    attack_tpr,
    curve,
    epsilon,
    gdp_mu,
    numerical_error,
    unit_of,
)
from dpft.accounting.profile import CURVE_DELTAS
from dpft.accounting.rules import scientific
from dpft.recipes.cli.account_question import Question

__all__ = [
    "Answer",
    "Profile",
    "answer_of",
    "as_json",
    "as_table",
    "comparison_of",
    "profile_of",
]

_FPR = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A complete run, and the epsilon it spends.

    Args:
        epsilon: Upper bound, >= 0.
        target_epsilon: What was asked for, or None.
        delta: In (0, 1).
        noise_multiplier: Noise std divided by the clip norm.
        num_records: Public number of records.
        expected_batch_size: Public mean of the Poisson sample.
        sample_rate: Probability with which one record enters one step.
        steps: Number of steps.
        unit: Whose data the guarantee covers.
        records_per_user: Largest number of records of one user, or None.
        accountant: Which bound.
        adjacency: The neighbouring relation.
        grid: How finely it was discretised, or None.
        numerical_error: By how much epsilon may exceed the truth because of that, or None.

    Privacy:
        Nothing, no data touched.
    """

    epsilon: float
    target_epsilon: float | None
    delta: float
    noise_multiplier: float
    num_records: int
    expected_batch_size: int
    sample_rate: float
    steps: int
    unit: str
    records_per_user: int | None
    accountant: str
    adjacency: str
    grid: float | None
    numerical_error: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """The guarantee beyond one epsilon.

    Args:
        curve: Pairs (epsilon, delta).
        gdp_mu_estimate: An estimate, no guarantee; None by `prv`, which gives no delta.
        attack_tpr: Largest true positive rate at a false positive rate of 1e-3; None by `prv`.

    Privacy:
        Nothing, no data touched.
    """

    curve: tuple[tuple[float, float], ...]
    gdp_mu_estimate: float | None
    attack_tpr: float | None


def answer_of(
    question: Question, mechanism: PoissonGaussian | UserPoissonGaussian, batch_size: int
) -> Answer:
    """Return the run with its price.

    Args:
        question: What was asked.
        mechanism: The run that answers it.
        batch_size: Its expected batch size.

    Returns:
        The answer.

    Raises:
        ConfigurationError: If the accountant cannot treat the mechanism.
        AccountantError: If it fails numerically.

    Privacy:
        Nothing, no data touched.
    """
    grids = {
        Accountant.PLD.value: DEFAULT_GRID.interval_for([mechanism]),
        Accountant.PRV.value: DEFAULT_GRID.epsilon_error,
    }
    discretised = question.accountant == Accountant.PLD.value
    return Answer(
        epsilon=epsilon(mechanism, question.delta, accountant=question.accountant),
        target_epsilon=question.epsilon,
        delta=question.delta,
        noise_multiplier=mechanism.noise_multiplier,
        num_records=question.num_records,
        expected_batch_size=batch_size,
        sample_rate=mechanism.sample_rate,
        steps=mechanism.steps,
        unit=unit_of(mechanism).value,
        records_per_user=question.records_per_user,
        accountant=question.accountant,
        adjacency=mechanism.adjacency.value,
        grid=grids.get(question.accountant),
        numerical_error=numerical_error(mechanism, question.delta) if discretised else None,
    )


def comparison_of(mechanism: Mechanism, delta: float) -> dict[str, float | str]:
    """Return epsilon by every accountant, or why there is none.

    Args:
        mechanism: The run.
        delta: In (0, 1).

    Returns:
        Epsilon or a message, by name. The central limit theorem of Gaussian privacy is not among
        them: it understates epsilon.

    Privacy:
        Nothing, no data touched.
    """
    found: dict[str, float | str] = {}
    for accountant in Accountant:
        try:
            found[accountant.value] = epsilon(mechanism, delta, accountant=accountant)
        except DpftError as error:
            found[accountant.value] = str(error)
    return found


def profile_of(question: Question, mechanism: Mechanism) -> Profile:
    """Return the curve at the deltas below 1/N, and what an attacker may gain.

    Args:
        question: What was asked.
        mechanism: The run that answers it.

    Returns:
        The profile, by the accountant asked for; without deltas that are too small for it, as
        where rounding in millions of steps may hide them.

    Raises:
        ConfigurationError: If the accountant cannot treat the mechanism.
        AccountantError: If it fails numerically.

    Privacy:
        Nothing, no data touched.
    """
    deltas = [delta for delta in CURVE_DELTAS if delta * question.num_records < 1]
    name = question.accountant
    has_delta = name != Accountant.PRV.value
    return Profile(
        curve=tuple(_points(mechanism, deltas, name)),
        gdp_mu_estimate=gdp_mu(mechanism, accountant=name) if has_delta else None,
        attack_tpr=attack_tpr(mechanism, _FPR, accountant=name) if has_delta else None,
    )


def _points(
    mechanism: Mechanism, deltas: Sequence[float], accountant: str
) -> Iterator[tuple[float, float]]:
    for delta in deltas:
        try:
            yield from curve(mechanism, [delta], accountant=accountant)
        except AccountantError:
            continue


def as_json(answer: Answer, comparison: dict[str, float | str], profile: Profile | None) -> str:
    """Return everything as one JSON object.

    Args:
        answer: The run with its price.
        comparison: Epsilon by every accountant; null where there is none.
        profile: The guarantee beyond one epsilon, or None.

    Returns:
        Indented JSON without NaN.

    Privacy:
        Nothing, no data touched.
    """
    fields: dict[str, object] = dataclasses.asdict(answer)
    if comparison:
        fields["compare"] = {
            name: value if isinstance(value, float) else None for name, value in comparison.items()
        }
    if profile is not None:
        fields["curve"] = [{"delta": delta, "epsilon": spent} for spent, delta in profile.curve]
        fields["gdp_mu_estimate"] = profile.gdp_mu_estimate
        fields["attack_tpr"] = {"fpr": _FPR, "tpr": profile.attack_tpr}
    return json.dumps(fields, indent=2, allow_nan=False)


def as_table(answer: Answer, comparison: dict[str, float | str], profile: Profile | None) -> str:
    """Return everything as rows of a name and a value.

    Args:
        answer: The run with its price.
        comparison: Epsilon by every accountant, or why there is none.
        profile: The guarantee beyond one epsilon, or None.

    Returns:
        Lines of text.

    Privacy:
        Nothing, no data touched.
    """
    rows = {name: value for name, value in dataclasses.asdict(answer).items() if value is not None}
    rows |= {f"epsilon ({name})": value for name, value in comparison.items()}
    if profile is not None:
        rows |= {f"epsilon (delta {scientific(delta)})": spent for spent, delta in profile.curve}
        rows["gdp_mu (estimate)"] = profile.gdp_mu_estimate
        rows[f"attack_tpr (fpr {scientific(_FPR)})"] = profile.attack_tpr
    width = max(len(name) for name in rows)
    return "\n".join(
        f"{name:<{width}}  {value}" for name, value in rows.items() if value is not None
    )
