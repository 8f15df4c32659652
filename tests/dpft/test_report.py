import dataclasses
import math
from pathlib import Path

import pytest

from dpft.accounting import Certificate, RepeatAndSelect, RunRecord
from dpft.accounting.profile import detection_bound
from dpft.accounting.run_record import SelectionStatus
from dpft.charges import RunHistory
from dpft.held_out import metric_record
from dpft.privacy import EvaluationStatus, Privacy, PrivacyMode, PrivacyPlan
from dpft.rendering import percent_rounded_up
from dpft.report import ReportFacts, write_report


@dataclasses.dataclass(frozen=True)
class Check:
    name: str
    value: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.value <= self.tolerance


@dataclasses.dataclass(frozen=True)
class Preflight:
    checks: tuple[Check, ...] = (Check("records equal a loop", 3e-7, 1e-4),)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


PRIVACY = Privacy(
    delta=1e-5, noise_multiplier=1.5, num_records=8000, expected_batch_size=400, steps=100
)
EPSILON = 1.234567


def record(plan: PrivacyPlan, **changes: object) -> RunRecord:
    fields: dict[str, object] = {
        "run_id": "a1",
        "dataset_id": "letters",
        "mechanism": plan.mechanism() if plan.is_private else None,
        "adjacency": plan.length.adjacency,
        "num_records": plan.length.num_records,
        "expected_batch_size": plan.length.expected_batch_size,
        "clipping": plan.privacy.clipping.value,
        "clip_norm": plan.privacy.clip_norm,
        "delta": plan.privacy.delta,
        "private": plan.is_private,
        "generator": "ChaCha20",
        "sampler": "Poisson",
        "accountant": plan.privacy.accountant.value,
    }
    return RunRecord(**(fields | changes))


def facts(privacy: Privacy = PRIVACY, **changes: object) -> ReportFacts:
    plan = privacy.plan(5000)
    fields: dict[str, object] = {
        "plan": plan,
        "run": record(plan),
        "epsilon": EPSILON,
        "preflight": Preflight(),
        "history": RunHistory(starts=1, intended=100, updates=100),
    }
    return ReportFacts(**(fields | changes))


def text_of(folder: Path, given_facts: ReportFacts) -> str:
    return write_report(folder, given_facts).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "statement",
    [
        "one record of the training data",
        "one record is there or not (add or remove)",
        "**epsilon = 1.235 at delta = 1e-05**",
        "clipped sums of Poisson samples under Gaussian noise",
        "| Sampler | Poisson |",
        "400 / 8000 = 0.05",
        "| Steps | 100 |",
        "None. Their number and place are published here.",
        "| Starts of the process | 1 |",
        "| Updates kept | 100 |",
        "| Steps lost but charged | 0 |",
        "Interruptions that depend on records",
        "Copies of the run folder",
        "C / (norm + 0.01), AUTO-S, C = 1",
        "| Noise multiplier | 1.5 (noise std / C) |",
        "| Divisor of the noisy sum | 400,",
        "| Accountant | pld, grid 0.0001 |",
        "| Randomness of sampling and noise | ChaCha20 |",
        "| records equal a loop | 3e-07 | 0.0001 | pass |",
        "none: no metric on held-out records is released",
        "Choosing hyper-parameters",
        "base model was trained",
        "Other runs on the same records",
        "time, memory, power and network",
        "Floating-point arithmetic",
        "torch 2",
    ],
)
def test_the_report_states(tmp_path: Path, statement: str) -> None:
    assert statement in text_of(tmp_path, facts())


def test_the_title_is_the_first_line_of_a_private_run(tmp_path: Path) -> None:
    text = text_of(tmp_path, facts())
    assert text.splitlines()[0] == "# Privacy report: letters"
    assert "NOT PRIVATE" not in text


NOT_PRIVATE = dataclasses.replace(PRIVACY, noise_multiplier=None, mode=PrivacyMode.NOT_PRIVATE)


@pytest.mark.parametrize(
    "changes",
    [{"pinned_randomness": True}, {"privacy": NOT_PRIVATE, "epsilon": math.inf, "preflight": None}],
    ids=["pinned", "not_private"],
)
def test_first_line_of_an_unsafe_run(tmp_path: Path, changes: dict[str, object]) -> None:
    text = text_of(tmp_path, facts(**changes))
    assert text.splitlines()[0] == "**NOT PRIVATE**"
    assert "epsilon = 1.235" not in text
    assert "Nothing is promised" in text


def test_a_run_whose_certificate_is_not_private_is_unsafe(tmp_path: Path) -> None:
    run = dataclasses.replace(facts().run, private=False, mechanism=None)
    assert text_of(tmp_path, facts(run=run)).startswith("**NOT PRIVATE**\n")


def test_a_row_count_declared_public_is_called_zero_out(tmp_path: Path) -> None:
    text = text_of(tmp_path, facts(dataclasses.replace(PRIVACY, num_records=None)))
    assert "(zero-out); the number of records is declared public" in text
    assert "400 / 5000" in text


def test_a_stated_number_of_records_hides_the_row_count(tmp_path: Path) -> None:
    assert "5000" not in text_of(tmp_path, facts())


def test_an_interruption_is_not_hidden(tmp_path: Path) -> None:
    text = text_of(tmp_path, facts(history=RunHistory(starts=3, intended=100, updates=88)))
    assert "None. Their" not in text
    assert "The run was interrupted and resumed; every step" in text
    assert "| Starts of the process | 3 |" in text
    assert "| Steps charged | 100 |" in text
    assert "| Updates kept | 88 |" in text
    assert "| Steps lost but charged | 12 |" in text


def test_a_failed_check_is_not_hidden(tmp_path: Path) -> None:
    failed = Preflight((Check("coupled", 1.0, 1e-4),))
    text = text_of(tmp_path, facts(preflight=failed))
    assert "NOT ALL PASSED" in text
    assert "| coupled | 1 | 0.0001 | FAIL |" in text


def test_a_noisy_evaluation_says_its_price_and_who_pays_it(tmp_path: Path) -> None:
    noisy = dataclasses.replace(
        PRIVACY,
        evaluation=EvaluationStatus.NOISY,
        evaluation_epsilon=0.25,
        evaluation_records=800,
    )
    assert "epsilon = 0.25 each, which is part" in text_of(tmp_path, facts(noisy))
    apart = dataclasses.replace(noisy, evaluation_split="a|b")
    text = text_of(tmp_path, facts(apart))
    assert "no record is both held out and trained on (a\\|b)" in text
    assert "the larger of the two" in text


def test_a_metric_is_no_earlier_run(tmp_path: Path) -> None:
    noisy = dataclasses.replace(
        PRIVACY,
        evaluation=EvaluationStatus.NOISY,
        evaluation_epsilon=0.25,
        evaluation_records=800,
    )
    run, earlier = facts(noisy).run, dataclasses.replace(facts().run, run_id="earlier")
    metric = metric_record(facts(noisy).plan, run.run_id)
    assert metric is not None
    text = text_of(tmp_path, facts(noisy, certificate=Certificate((run, metric))))
    assert "Earlier runs counted" not in text
    assert facts(noisy, certificate=Certificate((run, metric, earlier))).earlier == 1


def test_the_choice_of_settings_is_stated_either_way(tmp_path: Path) -> None:
    plain = text_of(tmp_path, facts())
    assert "| Choice of settings | not accounted" in plain
    assert "- Choosing hyper-parameters" in plain
    run = facts().run
    assert run.mechanism is not None
    selected = dataclasses.replace(
        run,
        mechanism=RepeatAndSelect(run.mechanism, 4.0, "poisson", run.adjacency),
        selection=SelectionStatus.ACCOUNTED,
    )
    text = text_of(tmp_path, facts(run=selected))
    assert "the best of a secret number of trials (4 on average, poisson)" in text
    assert "- Choosing hyper-parameters" not in text
    assert "- The time that the choice took" in text


def test_a_name_cannot_forge_a_line(tmp_path: Path) -> None:
    forged = dataclasses.replace(facts().run, dataset_id="x|\n| Guarantee | epsilon = 0 |")
    text = text_of(tmp_path, facts(run=forged))
    assert not any(line.startswith("| Guarantee | epsilon = 0") for line in text.splitlines())


def test_the_attack_is_bounded_by_the_curve_where_the_certificate_is_given(tmp_path: Path) -> None:
    run = facts().run
    whole = Certificate((run,))
    known = facts(certificate=whole, epsilon=whole.epsilon())
    bound = whole.attack_bound(0.01)
    assert bound.from_curve
    assert bound.rate < 0.7 * detection_bound(whole.epsilon(), 1e-5, 0.01)
    said = f"detects at most {percent_rounded_up(bound.rate)} of the records that were"
    assert f"{said} (by the whole trade-off curve" in text_of(tmp_path, known)


def test_without_a_certificate_the_attack_is_bounded_by_epsilon_alone(tmp_path: Path) -> None:
    said = percent_rounded_up(detection_bound(EPSILON, 1e-5, 0.01))
    text = text_of(tmp_path, facts())
    assert f"detects at most {said} of the records that were (by epsilon at delta = 1e-05 " in text
