"""What a privacy officer reads says what the certificate says, and no more."""

from typing import Any

import pytest

from dpft.accounting import Adjacency, Certificate, Mechanism, PoissonGaussian, RunRecord
from dpft.accounting.dataset_use import Partition
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.mechanisms import Composed, Opaque, RepeatAndSelect, Selection
from dpft.explanation import explain, in_words
from dpft.rendering import percent_rounded_up, rounded_up

MECHANISM = PoissonGaussian(2.0, 0.1, 30)


def record(**changes: Any) -> RunRecord:
    mechanism: Mechanism | None = changes.get("mechanism", MECHANISM)
    fields: dict[str, Any] = {
        "run_id": "one",
        "dataset_id": "letters",
        "mechanism": mechanism,
        "adjacency": MECHANISM.adjacency,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "auto_s",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "chacha20",
        "sampler": "poisson",
        "accountant": "rdp",
    }
    return RunRecord(**{**fields, **changes})


def test_it_names_unit_neighbours_epsilon_inputs_and_what_is_left_out() -> None:
    parent = Certificate((record(run_id="earlier"),))
    base = Input(name="minilm", role=InputRole.BASE_MODEL, status=InputStatus.PUBLIC)
    inputs = (base, parent.as_input("mnli", InputRole.SOURCE_PROMPT))
    whole = parent.with_release(record(inputs=inputs, excluded=("The weather.",)))
    page = explain(whole)
    assert "NOT PRIVATE" not in page
    assert f"epsilon = {rounded_up(whole.epsilon())} at delta = 0.0001" in page
    for words in (
        "one record",
        "data of one record are missing",
        "minilm, a base model: declared public",
        "mnli, a source prompt: it has a certificate",
        "The weather.",
        "rate 0.1, 30 steps",
        "here of 2 of the 2 runs",
    ):
        assert words in page, words


def test_the_bound_on_attacks_says_what_it_was_computed_from() -> None:
    whole = Certificate((record(accountant="pld"),))
    said = percent_rounded_up(whole.attack_bound(0.01).rate)
    page = explain(whole)
    assert f"detects at most {said} of those that were (by the whole trade-off curve" in page
    opaque = Certificate((record(mechanism=Opaque(0.5, 1e-6), accountant="pld"),))
    assert "(by epsilon at delta = 0.0001 alone, as no curve is known)" in explain(opaque)


def test_only_the_runs_that_add_up_are_counted() -> None:
    runs = (
        record(run_id="a", partition=Partition("rule", "1")),
        record(run_id="b", partition=Partition("rule", "2")),
    )
    assert "here of 1 of the 2 runs" in explain(Certificate(runs))


def test_a_run_without_a_bound_is_said_first_and_named() -> None:
    naked = record(run_id="two", private=False, mechanism=None)
    page = explain(Certificate((record(), naked)))
    assert page.startswith("**NOT PRIVATE**")
    assert "let through: two." in page
    assert "epsilon =" not in page


@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_every_relation_has_words(adjacency: Adjacency) -> None:
    mechanism = PoissonGaussian(2.0, 0.1, 30, adjacency)
    run = record(mechanism=mechanism, adjacency=adjacency, accountant="pld")
    assert "Compare two worlds in one of which" in explain(Certificate((run,)))


def test_a_run_that_was_computed_anew_says_for_what_it_was_planned() -> None:
    zeroed = PoissonGaussian(2.0, 0.1, 30, Adjacency.ZERO_OUT)
    other = record(run_id="two", mechanism=zeroed, adjacency=Adjacency.ZERO_OUT)
    page = explain(Certificate((record(), other)))
    assert page.count("It was planned for") == 1


def test_names_cannot_change_the_page() -> None:
    page = explain(Certificate((record(dataset_id="x\n# Nothing is promised"),)))
    assert "\n# Nothing is promised" not in page


def test_nested_mechanisms_are_said_in_full() -> None:
    composed = Composed((MECHANISM, Selection(0.5)))
    words = in_words(RepeatAndSelect(composed, 3.0, 1.0))
    assert words.startswith("repeat and select: 3 repetitions in the mean")
    assert "[composed: [poisson gaussian: noise of 2 times" in words
    assert "[selection: epsilon 0.5]" in words
    assert in_words(None) == "no noise at all"
