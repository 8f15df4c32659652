from dpft.reporting.facts import Facts


def test_the_course_ends_at_the_epsilon_of_the_certificate(facts: Facts) -> None:
    steps, spent = zip(*facts.by_step, strict=True)
    assert (steps[0], spent[0]) == (0, 0)
    assert (steps[-1], spent[-1]) == (30, facts.sources.metrics["epsilon"])
    assert list(steps) == sorted(set(steps))
    assert list(spent) == sorted(spent)
    assert 0 < spent[1] < spent[-1]


def test_the_curve_passes_through_the_claim(facts: Facts) -> None:
    assert (facts.delta, facts.epsilon) in facts.guarantee.by_delta
    deltas, spent = zip(*facts.guarantee.by_delta, strict=True)
    assert list(deltas) == sorted(deltas, reverse=True)
    assert list(spent) == sorted(spent)
    assert (1e-8, facts.certificate.epsilon(1e-8)) in facts.guarantee.by_delta


def test_no_delta_is_as_large_as_one_by_the_number_of_records(facts: Facts) -> None:
    assert max(delta for delta, _ in facts.guarantee.by_delta) < 1 / 1000


def test_the_trade_off_is_the_bound_of_the_certificate(facts: Facts) -> None:
    rates = dict(facts.guarantee.trade_off)
    assert rates[0.01] == facts.certificate.attack_bound(0.01, facts.delta).rate
    assert all(false_alarms < detected <= 1 for false_alarms, detected in facts.guarantee.trade_off)
    assert list(rates.values()) == sorted(rates.values())
