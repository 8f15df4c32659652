"""Certificates compute what they claim, and refuse what they do not understand."""

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import (
    Adjacency,
    Certificate,
    ConfigurationError,
    PoissonGaussian,
    RepeatAndSelect,
    RunRecord,
    epsilon,
)
from dpft.accounting.canonical_json import canonical, digest_of
from dpft.accounting.dataset_use import Partition
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.profile import AttackBound, attack_bound

MECHANISM = PoissonGaussian(2.0, 0.1, 300)
BASE = Input(name="base", role=InputRole.BASE_MODEL, status=InputStatus.PUBLIC)


def record(**changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "run_id": "one",
        "dataset_id": "letters",
        "mechanism": MECHANISM,
        "adjacency": Adjacency.ADD_OR_REMOVE,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "auto_s",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "chacha20",
        "sampler": "poisson",
        "accountant": "rdp",  # quick
        "inputs": (BASE,),
    }
    return RunRecord(**{**fields, **changes})


def child(parent: Certificate, run_id: str = "child", **changes: Any) -> RunRecord:
    """Return a run that started from what has this certificate."""
    given_ = (BASE, parent.as_input("parent", InputRole.ADAPTER))
    return record(run_id=run_id, inputs=given_, **changes)


def part(number: int, **changes: Any) -> RunRecord:
    changes = {"run_id": f"part {number}", **changes}
    return record(partition=Partition("sha256(id) mod 9", str(number)), **changes)


RUNS = st.lists(
    st.builds(
        lambda number, steps, name: record(
            run_id=f"run {number}",
            dataset_id=name,
            # one name is always one run
            mechanism=dataclasses.replace(MECHANISM, steps=steps + number),
            partition=Partition("rule", str(number % 3)) if number % 2 else None,
        ),
        st.integers(0, 5),
        st.just(20),
        st.just("letters"),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda run: run.run_id,
)


def test_epsilon_follows_the_mechanism_and_is_not_stored() -> None:
    certificate = Certificate((record(),))
    assert certificate.epsilon() == epsilon(MECHANISM, 1e-4, accountant="rdp")
    assert certificate.epsilon(1e-5) == epsilon(MECHANISM, 1e-5, accountant="rdp")
    assert "epsilon" not in certificate.to_json()


def test_epsilon_is_computed_by_the_planned_accountant_unless_another_is_named() -> None:
    certificate = Certificate((record(accountant="pld"),))
    assert certificate.accountant == "pld"
    assert certificate.epsilon() == epsilon(MECHANISM, 1e-4)
    assert certificate.epsilon(accountant="rdp") == epsilon(MECHANISM, 1e-4, accountant="rdp")


def test_runs_of_different_accountants_are_composed_by_one_that_can() -> None:
    both = Certificate((record(), record(run_id="two", accountant="pld")))
    assert both.accountant == "pld"
    chosen = RepeatAndSelect(MECHANISM, 3.0, 1.0)
    tuned = record(run_id="three", mechanism=chosen)
    assert both.with_release(tuned).accountant == "rdp"


def test_two_runs_spend_more_than_one() -> None:
    both = Certificate((record(), record(run_id="two", dataset_id="diaries")))
    assert both.epsilon() == epsilon([MECHANISM, MECHANISM], 1e-4, accountant="rdp")
    assert both.epsilon() > Certificate((record(),)).epsilon()


@pytest.mark.parametrize("mechanism", [MECHANISM, None])
def test_epsilon_is_infinite_if_any_run_is_not_private(mechanism: PoissonGaussian | None) -> None:
    naked = record(run_id="two", private=False, mechanism=mechanism)
    whole = Certificate((record(), naked))
    assert whole.binding() == (math.inf, (naked,))
    assert not whole.is_bounded


def test_an_unknown_input_makes_epsilon_infinite() -> None:
    unknown = Input(name="found", role=InputRole.HEAD, status=InputStatus.UNKNOWN)
    whole = Certificate((record(inputs=(BASE, unknown)),))
    assert whole.epsilon() == math.inf
    assert Certificate.from_json(whole.to_json()).epsilon() == math.inf


def test_disjoint_parts_cost_the_largest_of_them_and_not_the_sum() -> None:
    large = dataclasses.replace(MECHANISM, steps=900)
    whole = Certificate((part(0), part(1, mechanism=large), part(2)))
    assert whole.epsilon() == epsilon(large, 1e-4, accountant="rdp")
    assert [run.run_id for run in whole.binding()[1]] == ["part 1"]


def test_a_run_on_everything_is_added_to_each_part() -> None:
    whole = Certificate((part(0), part(1), record(run_id="all")))
    assert whole.epsilon() == epsilon([MECHANISM] * 2, 1e-4, accountant="rdp")


@pytest.mark.parametrize(
    "other",
    [
        part(1, dataset_id="diaries"),
        record(run_id="part 1", partition=Partition("another rule", "1")),
        record(run_id="part 1"),
        part(0, run_id="part 1"),
    ],
)
def test_what_no_public_rule_keeps_apart_overlaps(other: RunRecord) -> None:
    both = epsilon([MECHANISM] * 2, 1e-4, accountant="rdp")
    assert Certificate((part(0), other)).epsilon() == both


@settings(max_examples=25, deadline=None)
@given(RUNS, RUNS, RUNS)
def test_union_is_commutative_associative_and_idempotent(
    one: list[RunRecord], two: list[RunRecord], three: list[RunRecord]
) -> None:
    a, b, c = (Certificate(tuple(runs)) for runs in (one, two, three))
    assert a.compose(b) == b.compose(a)
    assert a.compose(b).compose(c) == a.compose(b.compose(c)) == c.compose(a, b)
    assert a.compose(a) == a
    assert a.compose(b).compose(b).to_json() == b.compose(a).to_json()


@settings(max_examples=15, deadline=None)
@given(RUNS, RUNS)
def test_epsilon_never_falls_when_runs_are_added(
    one: list[RunRecord], two: list[RunRecord]
) -> None:
    a, b = Certificate(tuple(one)), Certificate(tuple(two))
    together = a.compose(b).epsilon()
    assert together >= max(a.epsilon(), b.epsilon())
    assert together <= epsilon(
        [run.mechanism for run in a.compose(b).runs if run.mechanism], 1e-4, accountant="rdp"
    )


def test_attacks_are_bounded_over_all_cliques() -> None:
    large = dataclasses.replace(MECHANISM, steps=900)
    whole = Certificate((part(0), part(1, mechanism=large), part(2)))
    bound = attack_bound([large], 1e-4, 0.01, accountant="rdp")
    assert whole.attack_bound(0.01) == bound
    naked = record(run_id="two", private=False, mechanism=None)
    assert whole.with_release(naked).attack_bound(0.01) == AttackBound(1.0, from_curve=False)


def test_one_name_for_two_runs_is_refused() -> None:
    a, b = Certificate((record(),)), Certificate((record(delta=1e-5),))
    with pytest.raises(ConfigurationError, match="to name one run"):
        a.compose(b)
    with pytest.raises(ConfigurationError, match="to name one run"):
        a.with_release(b.runs[0])


def test_a_run_brings_along_the_runs_it_started_from() -> None:
    parent = Certificate((record(),))
    born = child(parent)
    with pytest.raises(ConfigurationError, match="needs it"):
        Certificate((born,))
    whole = parent.with_release(born)
    assert whole.epsilon() == epsilon([MECHANISM] * 2, 1e-4, accountant="rdp")
    grandchild = child(whole, "grandchild")
    with pytest.raises(ConfigurationError, match="needs it"):
        Certificate((born, grandchild))
    assert len(whole.with_release(grandchild).runs) == 3


def test_an_earlier_run_that_was_edited_is_found() -> None:
    parent = Certificate((record(),))
    whole = parent.with_release(child(parent))
    fields = json.loads(whole.to_json())
    (earlier,) = [run for run in fields["runs"] if run["run_id"] == "one"]
    earlier["mechanism"]["noise_multiplier"] = 20.0
    with pytest.raises(ConfigurationError, match="the digest of the runs"):
        Certificate.from_json(json.dumps(fields))


def test_an_input_that_names_less_than_all_runs_behind_it_is_refused() -> None:
    parent = Certificate((record(),))
    whole = parent.with_release(child(parent))
    (born,) = [run for run in whole.runs if run.run_id == "child"]
    # of the child alone, made by hand: it leaves out where the child came from
    digest = digest_of(canonical({"format_version": 2, "runs": [born.fields()]}))
    short = Input(
        name="child",
        role=InputRole.ADAPTER,
        status=InputStatus.CERTIFIED,
        certificate=digest,
        runs=("child",),
    )
    with pytest.raises(ConfigurationError, match="the digest of the runs"):
        whole.with_release(record(run_id="late", inputs=(short,)))


def test_a_run_that_starts_from_itself_is_refused() -> None:
    own = Certificate((record(),)).as_input("itself", InputRole.ADAPTER)
    with pytest.raises(ConfigurationError, match="needs it"):
        Certificate((record(inputs=(own,)),))


def test_json_and_back_is_the_same_certificate() -> None:
    parent = Certificate((part(1, excluded=("The weather.",), versions={"dpft": "0.1"}),))
    naked = record(
        run_id="two", private=False, mechanism=None, num_records=None, inputs=(), clip_norm=None
    )
    certificate = parent.with_release(child(parent)).with_release(naked)
    again = Certificate.from_json(certificate.to_json())
    assert again == certificate
    assert again.to_json() == certificate.to_json()
    assert again.digest == certificate.digest


def test_equal_certificates_give_equal_text() -> None:
    runs = (record(), record(run_id="two"))
    assert Certificate(runs).to_json() == Certificate(runs[::-1]).to_json()
    text = Certificate(runs).to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_unknown_fields_are_refused() -> None:
    fields = json.loads(Certificate((record(),)).to_json())
    with pytest.raises(ConfigurationError, match="exactly the fields"):
        Certificate.from_json(json.dumps({**fields, "epsilon": 0.1}))
    fields["runs"][0]["discount"] = 2
    with pytest.raises(ConfigurationError, match="exactly the fields"):
        Certificate.from_json(json.dumps(fields))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunRecord)])
def test_missing_fields_are_refused(name: str) -> None:
    fields = json.loads(Certificate((record(),)).to_json())
    del fields["runs"][0][name]
    with pytest.raises(ConfigurationError, match="exactly the fields"):
        Certificate.from_json(json.dumps(fields))


@pytest.mark.parametrize("version", [0, 3, "1", 2.0, True, None])
def test_an_unknown_version_is_refused(version: object) -> None:
    fields = json.loads(Certificate((record(),)).to_json())
    with pytest.raises(ConfigurationError, match="format_version"):
        Certificate.from_json(json.dumps({**fields, "format_version": version}))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "null", '{"format_version":2,"runs":{}}', "NaN", "[" * 100_000]
)
def test_text_that_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Certificate.from_json(text)


def test_a_repeated_key_is_refused() -> None:
    text = Certificate((record(),)).to_json()
    twice = text.replace('"private":true', '"private":false,"private":true')
    with pytest.raises(ConfigurationError, match="repetition"):
        Certificate.from_json(twice)


def test_a_certificate_without_runs_or_with_one_run_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        Certificate(())
    with pytest.raises(ConfigurationError, match="repetition"):
        Certificate((record(), record(delta=1e-5)))


def test_runs_of_different_delta_need_a_stated_one() -> None:
    both = Certificate((record(), record(run_id="two", delta=1e-5)))
    with pytest.raises(ConfigurationError, match="State the delta"):
        both.epsilon()
    assert both.epsilon(1e-5) > 0


def test_a_delta_that_lets_whole_records_leak_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="1/num_records"):
        Certificate((record(),)).epsilon(0.01)


def test_a_certificate_that_takes_hours_is_refused_at_once() -> None:
    """Each mechanism is one that a run may have; a thousand of them would be transformed."""
    runs = tuple(
        record(run_id=f"run {number}", mechanism=PoissonGaussian(0.1 + number / 1e4, 0.1, 2**40))
        for number in range(1000)
    )

    with pytest.raises(ConfigurationError, match="points"):
        Certificate(runs).epsilon(1e-5, accountant="pld")


def test_thirty_unlike_runs_are_computed() -> None:
    runs = tuple(
        record(run_id=f"run {number}", mechanism=PoissonGaussian(0.6 + number / 100, 0.1, 700))
        for number in range(30)
    )

    assert Certificate(runs).epsilon(1e-5, accountant="rdp") > 100
