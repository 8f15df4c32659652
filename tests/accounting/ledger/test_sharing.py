"""Data sets that share records share budgets, and nobody is told how many they share."""

from collections.abc import Callable

import pytest

from dpft.accounting import PoissonGaussian
from dpft.accounting.errors import BudgetError
from dpft.accounting.ledger import Budget, DigestKey, Ledger, RecordDigests, Reservation, summarise

Plan = Callable[..., Reservation]
Digests = Callable[..., RecordDigests]
BUDGET = Budget(epsilon=3.0, delta=1e-5)
FITS = 30  # steps at noise 10: one such run fits the budget, two do not


def test_the_same_records_under_another_name_share_the_budget(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    ledger.set_budget("mail", BUDGET)
    ledger.reserve(plan("a", "mail", digests("x", "y"), steps=FITS))
    with pytest.raises(BudgetError, match="data set mail, this run on post") as caught:
        ledger.reserve(plan("b", "post", digests("y", "x"), steps=FITS))
    assert "shares records with post" in str(caught.value)


def test_one_shared_record_is_enough_and_in_any_order_of_runs(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    ledger.reserve(plan("a", "post", digests("x", "y", "z"), steps=FITS))
    ledger.set_budget("mail", BUDGET)
    with pytest.raises(BudgetError):
        ledger.reserve(plan("b", "mail", digests("z", "u", "v"), steps=FITS))


def test_disjoint_records_do_not_share(ledger: Ledger, plan: Plan, digests: Digests) -> None:
    ledger.set_budget("mail", BUDGET)
    ledger.set_budget("post", BUDGET)
    ledger.reserve(plan("a", "mail", digests("x"), steps=FITS))
    ledger.reserve(plan("b", "post", digests("y"), steps=FITS))
    assert not ledger.state.overlap("mail", "post")


def test_records_added_to_a_data_set_later_are_found_too(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    ledger.set_budget("mail", BUDGET)
    ledger.reserve(plan("a", "mail", digests("x"), steps=FITS))
    ledger.reserve(plan("b", "post", digests("y"), steps=FITS))
    with pytest.raises(BudgetError):
        ledger.reserve(plan("c", "post", digests("y", "x"), steps=1))


def test_one_name_is_one_data_set_whatever_its_records(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    ledger.set_budget("mail", BUDGET)
    ledger.reserve(plan("a", "mail", digests("x"), steps=FITS))
    with pytest.raises(BudgetError):
        ledger.reserve(plan("b", "mail", digests("y"), steps=FITS))


@pytest.mark.parametrize("unknown", ["no digests", "another key"])
def test_data_sets_that_cannot_be_compared_share_a_budget(
    ledger: Ledger, plan: Plan, digests: Digests, unknown: str
) -> None:
    ledger.set_budget("mail", BUDGET)
    ledger.reserve(plan("a", "mail", digests("x"), steps=FITS))
    records = None if unknown == "no digests" else DigestKey(b"o" * 32).digests([{"text": "y"}])
    with pytest.raises(BudgetError, match="never compared"):
        ledger.reserve(plan("b", "post", records, steps=FITS))
    ledger.declare_disjoint("mail", "post", "two countries")
    ledger.reserve(plan("b", "post", records, steps=FITS))


def test_a_public_rule_tells_them_apart(ledger: Ledger, plan: Plan, digests: Digests) -> None:
    ledger.set_budget("mail", BUDGET)
    ledger.reserve(plan("a", "mail", digests("x"), steps=FITS))
    ledger.declare_disjoint("post", "mail", "the text is a greeting of the system")
    ledger.reserve(plan("b", "post", digests("x"), steps=FITS))
    assert ledger.state.rules


def test_a_record_pays_for_data_sets_that_overlap_pairwise_alone(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    ledger.set_budget("middle", BUDGET)
    ledger.reserve(plan("a", "left", digests("1", "2"), steps=FITS))
    ledger.reserve(plan("b", "right", digests("3", "4"), steps=FITS))
    # no record is in left and right, so that both do not add up for any record of the middle
    ledger.reserve(plan("c", "middle", digests("2", "3"), steps=1))
    assert ledger.state.cliques("middle") == [("left", "middle"), ("middle", "right")]
    spent = summarise(ledger.state, "middle").spent_epsilon
    pair = [PoissonGaussian(10.0, 1.0, FITS), PoissonGaussian(10.0, 1.0, 1)]
    assert spent == pytest.approx(BUDGET.spent(pair))


def test_a_run_respects_the_budgets_of_neighbours_of_its_data_set(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    ledger.reserve(plan("a", "strict", digests("1", "2"), noise_multiplier=100.0))
    ledger.set_budget("strict", Budget(epsilon=0.7, delta=1e-5))
    with pytest.raises(BudgetError, match="data set strict"):
        ledger.reserve(plan("b", "loose", digests("2", "3"), steps=FITS))
    ledger.reserve(plan("c", "loose", digests("3"), steps=FITS))


def test_nobody_is_told_how_many_records_are_shared(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    texts = [f"text {index}" for index in range(137)]
    ledger.set_budget("mail", BUDGET)
    ledger.reserve(plan("a", "mail", digests(*texts), steps=FITS))
    with pytest.raises(BudgetError) as caught:
        ledger.reserve(plan("b", "post", digests(*texts, "one more"), steps=FITS))
    ledger.reserve(plan("c", "post", digests(*texts, "one more"), noise_multiplier=500.0))
    public = str(caught.value) + "".join(entry.payload for entry in ledger.entries())
    assert not {"137", "138"} & set(public.replace(",", " ").replace(":", " ").split())


def test_known_records_are_not_stored_again(ledger: Ledger, plan: Plan, digests: Digests) -> None:
    ledger.reserve(plan("a", "mail", digests("x", "y")))
    ledger.reserve(plan("b", "mail", digests("y")))
    ledger.reserve(plan("c", "mail", digests("y", "z")))
    assert [len(row.digests) // 8 for row in ledger.stored_digests()] == [2, 1]
    assert ledger.knows("mail", digests("x", "z"))
    assert not ledger.knows("mail", digests("x", "w"))
