"""What a vector may claim is the union of the runs that are in it, whatever the arithmetic."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from dpft.accounting import (
    Adjacency,
    Certificate,
    PoissonGaussian,
    UserPoissonGaussian,
    epsilon,
)
from dpft.accounting.dataset_use import Partition
from dpft.accounting.inputs import InputRole
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.randomness import PinnedRandomness
from dpft.taskvectors import Reading, TaskVector, Uncertified, analogy

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
DELTA = 1e-4
MARKED = Reading(on_uncertified=Uncertified.MARK)


@pytest.fixture
def of(adapted: Callable[..., Any]) -> Callable[..., TaskVector]:
    """Return a maker of vectors of given certificates: (seed, certificate)."""

    def made(seed: int, certificate: Certificate) -> TaskVector:
        return TaskVector.from_peft(adapted("ffa_lora", seed), certificate=certificate)

    return made


def spent(vector: TaskVector) -> float:
    assert vector.certificate is not None
    return vector.certificate.epsilon(DELTA)


def test_the_certificate_is_the_union_of_runs(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    a, b, c = (of(seed, certificate(f"run {seed}")) for seed in (1, 2, 3))
    assert (a + b).certificate == certificate("run 1").compose(certificate("run 2"))
    assert [run.run_id for run in analogy(a, b, c).runs] == ["run 1", "run 2", "run 3"]
    mechanism = PoissonGaussian(2.0, 0.1, 50)
    assert spent(a + b) == epsilon([mechanism, mechanism], DELTA, accountant="rdp")
    assert spent(a + b) > spent(a)


def test_negation_refunds_nothing(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    a, b = (of(seed, certificate(f"run {seed}")) for seed in (1, 2))
    assert spent(-a) == spent(a) == spent(-2 * a) == spent(a + a)
    assert spent(b - a) == spent(a + b)


def test_what_cancels_leaves_no_trace(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    a, b = (of(seed, certificate(f"run {seed}")) for seed in (1, 2))
    assert (a + b) - b == a
    assert ((a + b) - b).certificate == a.certificate
    assert (0.1 * a + 0.2 * a - 0.3 * a).is_empty
    assert (0 * a).is_empty


def test_disjoint_parts_of_a_public_rule_cost_the_larger(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    parts = [Partition("sha256(id) mod 2", str(number)) for number in (0, 1)]
    a, b = (
        of(number, certificate(f"run {number}", partition=part))
        for number, part in enumerate(parts)
    )
    assert spent(a + b) == spent(a)


def test_other_names_and_rules_are_not_disjoint(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    a = of(1, certificate("one", partition=Partition("by year", "0")))
    b = of(2, certificate("two", partition=Partition("by town", "1")))
    c = of(3, certificate("three", dataset_id="disjoint from letters, I promise"))
    assert spent(a + b) > spent(a)
    assert spent(a + c) > spent(a)


def test_what_has_no_certificate_stays_infinite(
    adapted: Callable[..., Any],
    of: Callable[..., TaskVector],
    certificate: Callable[..., Certificate],
) -> None:
    unknown = TaskVector.from_peft(adapted("ffa_lora", 5), options=MARKED)
    a = of(1, certificate("a run"))
    for vector in (unknown, -unknown, a + unknown, 0.001 * unknown - a):
        assert spent(vector) == math.inf
    assert spent((a + unknown) - unknown) == spent(a)  # it is a, made of a alone
    squeezed = (a + unknown).without_heads().compress(rank=4).vector
    assert spent(squeezed - unknown.without_heads()) == math.inf


def test_a_delta_without_certificate_is_refused_unless_marked(adapted: Callable[..., Any]) -> None:
    with pytest.raises(BrokenGuaranteeError, match="on_uncertified"):
        TaskVector.from_peft(adapted("ffa_lora", 5))


def test_one_delta_under_two_certificates_pays_for_both(
    adapted: Callable[..., Any], certificate: Callable[..., Certificate]
) -> None:
    model = adapted("ffa_lora", 5)
    known = TaskVector.from_peft(model, certificate=certificate("a run"))
    unknown = TaskVector.from_peft(model, options=MARKED)
    assert known != unknown
    assert not (known - unknown).is_empty
    assert spent(known - unknown) == math.inf


def test_what_is_computed_keeps_all_runs(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    a, b = (of(seed, certificate(f"run {seed}")) for seed in (1, 2))
    squeezed = (a - b).compress(rank=2).vector
    assert squeezed.certificate == (a + b).certificate
    assert (squeezed - a).runs == squeezed.runs
    assert (a + b).without_heads().runs == (a + b).runs


def test_what_was_trained_from_a_vector_brings_its_runs(
    of: Callable[..., TaskVector],
    certificate: Callable[..., Certificate],
    run: Callable[..., Any],
) -> None:
    first = certificate("first")
    second = run("second", inputs=(first.as_input("adapter", InputRole.ADAPTER),))
    later = of(2, first.with_release(second))
    assert [each.run_id for each in later.runs] == ["first", "second"]
    assert (later - of(1, first)).runs == later.runs
    with pytest.raises(ConfigurationError, match="first"):
        Certificate((second,))


def test_units_that_differ_are_refused(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    users = UserPoissonGaussian(2.0, 0.1, 50, records_per_user=3)
    b = certificate("users", mechanism=users, unit="user")
    with pytest.raises(ConfigurationError, match="unit"):
        of(1, certificate("records")) + of(2, b)


def test_relations_are_computed_again_and_never_refined(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    swapped = PoissonGaussian(2.0, 0.1, 50, Adjacency.ZERO_OUT)
    a, b = of(1, certificate("one")), of(2, certificate("two", mechanism=swapped))
    assert spent(a + b) == epsilon([swapped, swapped], DELTA, accountant="rdp")
    counted = of(3, certificate("three", num_records=None))
    with pytest.raises(ConfigurationError, match="num_records"):
        counted + b


def test_iterates_of_one_run_average_for_free_and_those_of_two_do_not(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    early, late = (of(seed, certificate("one run")) for seed in (1, 2))
    other = of(3, certificate("another run"))
    assert spent(0.5 * early + 0.5 * late) == spent(early)
    assert spent(0.5 * early + 0.5 * other) > spent(early)


def test_one_name_for_two_runs_is_refused(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    shorter = PoissonGaussian(2.0, 0.1, 25)
    a, b = of(1, certificate("one run")), of(2, certificate("one run", mechanism=shorter))
    with pytest.raises(ConfigurationError, match="run_id"):
        a + b


@pytest.mark.parametrize("generator", [PinnedRandomness.name, "torch, seed 7"])
def test_noise_from_a_seed_is_refused(
    generator: str, of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    with pytest.raises(BrokenGuaranteeError, match="secret"):
        of(1, certificate("a run", generator=generator))


def test_hashes_of_members_are_refused_as_evidence(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    member = Partition("these people", "5e884898da28047151d0e56f8dc6292773603d0d")
    with pytest.raises(BrokenGuaranteeError, match="hash"):
        of(1, certificate("a run", partition=member))


def test_a_certificate_cannot_say_forgotten(
    of: Callable[..., TaskVector], certificate: Callable[..., Certificate]
) -> None:
    forgotten = -of(1, certificate("a run"))
    assert forgotten.certificate is not None
    text = forgotten.certificate.to_json().replace("{", '{"forgotten":true,', 1)
    with pytest.raises(ConfigurationError, match="forgotten"):
        Certificate.from_json(text)


def test_choosing_on_private_records_is_one_more_run(
    of: Callable[..., TaskVector],
    certificate: Callable[..., Certificate],
    run: Callable[..., Any],
) -> None:
    a = of(1, certificate("a run"))
    assert a.certificate is not None
    chosen = PoissonGaussian(4.0, 0.1, 1)
    charged = a.with_release(run("choice", mechanism=chosen))
    assert spent(charged) > spent(a)
    assert spent(charged - a) == spent(charged)
