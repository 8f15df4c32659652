import logging
import os
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from dpft.accounting import (
    Accountant,
    Adjacency,
    Composed,
    ConfigurationError,
    DiscreteLaplace,
    PoissonGaussian,
    RepeatAndSelect,
    epsilon,
)
from dpft.accounting.ledger import Budget, Ledger
from dpft.accounting.selection import TrialCount
from dpft.errors import BudgetError
from dpft.privacy import EvaluationStatus, Privacy, PrivacyMode
from dpft.tuning import Scored, best_of_trials, charge, plan_tuning, silence

RECORDS = 1000
COUNT = TrialCount(6)
FIXED = {"epsilon": None, "noise_multiplier": 1.5}
NOISY = {"evaluation": EvaluationStatus.NOISY, "evaluation_epsilon": 0.1}


def privacy(**fields: object) -> Privacy:
    given: dict[str, object] = {
        "accountant": Accountant.RDP,
        "delta": 1e-5,
        "epsilon": 6.0,
        "evaluation": EvaluationStatus.PUBLIC,
        "expected_batch_size": 50,
        "steps": 40,
    }
    return Privacy(**(given | fields))


class Exactly(TrialCount):
    def draw(self, randbelow: object = None) -> int:
        del randbelow
        return int(self.mean)


def test_the_whole_selection_meets_its_target() -> None:
    plan = plan_tuning(privacy(), RECORDS, COUNT)
    assert 5.9 < plan.epsilon <= 6.0
    assert plan.trial.epsilon() < 4.5  # a single trial has to be much better than the whole
    assert plan.trial.privacy.noise_multiplier == plan.trial.noise_multiplier
    assert plan.trial.privacy.epsilon is None
    assert plan.events == (plan.training,)
    assert plan.training == RepeatAndSelect(plan.trial.mechanism(), 6.0, 0.0, Adjacency.ZERO_OUT)


def test_a_given_noise_multiplier_is_kept_and_the_whole_selection_is_charged() -> None:
    plan = plan_tuning(privacy(**FIXED), RECORDS, COUNT)
    assert plan.trial.noise_multiplier == 1.5
    alone = epsilon(plan.trial.mechanism(), 1e-5, accountant="rdp")
    assert plan.epsilon > 1.2 * alone


def test_a_stated_number_of_records_means_adding_and_removing() -> None:
    plan = plan_tuning(privacy(num_records=RECORDS, **FIXED), RECORDS + 7, COUNT)
    assert plan.training.adjacency is Adjacency.ADD_OR_REMOVE
    assert isinstance(plan.training.base, PoissonGaussian)
    assert plan.training.base.sample_rate == 50 / RECORDS


def test_a_private_score_takes_part_of_the_guarantee() -> None:
    free = plan_tuning(privacy(), RECORDS, COUNT)
    plan = plan_tuning(privacy(**NOISY), RECORDS, COUNT)
    assert plan.epsilon <= 6.0
    assert plan.trial.noise_multiplier > free.trial.noise_multiplier
    score = DiscreteLaplace(decay=0.1, adjacency=Adjacency.ZERO_OUT)
    trial = Composed((plan.trial.mechanism(), score), Adjacency.ZERO_OUT)
    assert plan.events == (COUNT.event(trial),)


def test_a_score_on_records_kept_apart_is_charged_to_them_alone() -> None:
    free = plan_tuning(privacy(**FIXED), RECORDS, COUNT)
    apart = privacy(**NOISY, **FIXED, evaluation_split="year = 2020")
    plan = plan_tuning(apart, RECORDS, COUNT)
    assert plan.training == free.training
    assert plan.held_out == COUNT.event(DiscreteLaplace(0.1, adjacency=Adjacency.ZERO_OUT))
    assert plan.events == (plan.training, plan.held_out)


def test_a_score_that_costs_held_out_records_too_much_is_refused() -> None:
    expensive = NOISY | {"evaluation_epsilon": 6.0}
    with pytest.raises(ConfigurationError, match=r"evaluation_epsilon=6\.0 to cost held-out"):
        plan_tuning(privacy(**expensive, evaluation_split="year = 2020"), RECORDS, COUNT)
    with pytest.raises(ConfigurationError, match=r"epsilon=6\.0 to be reachable"):
        plan_tuning(privacy(**expensive), RECORDS, COUNT)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mode": PrivacyMode.NOT_PRIVATE, "epsilon": None}, "mode=not_private"),
        ({"evaluation": None}, "evaluation=public or noisy"),
        ({"evaluation": EvaluationStatus.NONE}, "evaluation=public or noisy"),
        ({"accountant": Accountant.PLD}, "accountant=pld to be rdp"),
        ({"delta": 0.5}, "delta=0.5"),
    ],
)
def test_a_selection_without_score_privacy_or_bound_is_refused(
    fields: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        plan_tuning(privacy(**fields), RECORDS, COUNT)


def test_the_best_of_the_trials_is_returned() -> None:
    scores = iter([0.3, float("nan"), 0.9, 0.9, 0.1, float("nan")])
    seen: list[Scored[int]] = []

    def trial(candidate: int) -> Scored[int]:
        seen.append(Scored(len(seen), next(scores)))
        return seen[-1]

    best = best_of_trials(Exactly(6), [0], trial)
    assert best == Scored(2, 0.9)
    assert len(seen) == 6


def test_a_score_that_is_no_number_never_wins() -> None:
    scores = iter([float("nan"), -5.0])

    best = best_of_trials(Exactly(2), [0], lambda _: Scored("model", next(scores)))
    assert best == Scored("model", -5.0)


def test_candidates_are_drawn_uniformly_and_trials_as_often_as_stated() -> None:
    randbelow, drawn, lengths = Random(7).randrange, Counter[str](), []

    def trial(candidate: str) -> Scored[str]:
        drawn.update(candidate)
        return Scored(candidate, 0.0)

    for _ in range(600):
        before = drawn.total()
        best_of_trials(TrialCount(3, 1), "abc", trial, randbelow)
        lengths.append(drawn.total() - before)
    assert sum(lengths) / 600 == pytest.approx(3, abs=0.4)  # 4 standard deviations
    assert lengths.count(1) / 600 == pytest.approx(1 / 3, abs=0.08)
    assert all(drawn[name] / drawn.total() == pytest.approx(1 / 3, abs=0.05) for name in "abc")


def test_no_trial_means_no_model() -> None:
    randbelow = Random(3).randrange
    outcomes = [
        best_of_trials(TrialCount(1, "poisson"), [0], lambda _: Scored("model", 1.0), randbelow)
        for _ in range(40)
    ]
    assert 5 < outcomes.count(None) < 27  # a share of 1/e is expected


def test_without_candidates_nothing_is_drawn() -> None:
    with pytest.raises(ConfigurationError, match="at least one candidate"):
        best_of_trials(COUNT, [], lambda _: Scored(None, 0.0))


def test_a_failed_trial_is_the_outcome_and_the_streams_are_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def trial(candidate: int) -> Scored[None]:
        sys.stdout.write("in a trial")
        raise MemoryError("of this trial")

    with pytest.raises(MemoryError, match="of this trial"):
        best_of_trials(COUNT, [0], trial)
    sys.stdout.write("after\n")
    os.write(1, b"below\n")
    assert capfd.readouterr() == ("after\nbelow\n", "")


def test_trials_say_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    handlers: list[logging.Handler] = [logging.FileHandler(log), logging.StreamHandler(sys.stderr)]
    logger = logging.getLogger("somebody's")
    before = logging.root.manager.disable

    def trial(candidate: int) -> Scored[int]:
        sys.stdout.write("trial")
        sys.__stderr__.write("trial")
        sys.stderr.write("kept in a buffer")
        os.write(1, b"from C\n")
        os.write(2, b"from C\n")
        logger.critical("trial %d", candidate)
        return Scored(candidate, 0.0)

    for handler in handlers:
        logger.addHandler(handler)
    try:
        best_of_trials(TrialCount(5, 1), [1, 2], trial)
        logger.critical("after")
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
    assert capfd.readouterr() == ("", "after\n")
    assert log.read_text() == "after\n"
    assert logging.root.manager.disable == before


def test_silence_ends_with_an_interruption(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), silence():
        raise KeyboardInterrupt
    sys.stdout.write("after\n")
    assert capfd.readouterr().out == "after\n"


ROWS = [{"text": f"letter {number}", "label": 0} for number in range(4)]


@pytest.mark.parametrize("apart", [True, False])
def test_a_selection_is_charged_as_a_whole_before_it_runs(tmp_path: Path, *, apart: bool) -> None:
    rule = {"evaluation_split": "year = 2020"} if apart else {}
    plan = plan_tuning(privacy(**NOISY, **FIXED, **rule, dataset_id="letters"), RECORDS, COUNT)
    with charge(plan, tmp_path / "ledger.sqlite", ROWS[:2], ROWS[2:]) as booking:
        assert booking.is_event
    with Ledger.read(tmp_path / "ledger.sqlite") as ledger:
        state = ledger.state
    charged = {
        use.dataset: lease.charged(use.dataset, adaptive=True)
        for lease in state.leases.values()
        for use in lease.uses
    }
    held_out = {"letters, held out": [plan.held_out]} if apart else {}
    assert charged == {"letters": [plan.training], **held_out}
    assert set(state.rules.values()) == ({"year = 2020"} if apart else set())


def test_a_selection_whose_score_is_refused_charges_nothing(tmp_path: Path) -> None:
    apart = {"evaluation_split": "year = 2020", "dataset_id": "letters"}
    plan = plan_tuning(privacy(**NOISY, **FIXED, **apart), RECORDS, COUNT)
    with Ledger.open(tmp_path / "l" / "ledger.sqlite") as ledger:
        ledger.set_budget("letters, held out", Budget(epsilon=0.01, delta=1e-5))
        with pytest.raises(BudgetError, match="letters, held out"):
            charge(plan, ledger.path, ROWS[:2], ROWS[2:])
        assert not ledger.state.leases
