import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.planning.demand import Demand
from dpft.recipes.planning.plan import Wish, plan_for

DEMAND = Demand(num_records=4000, epsilon=2.0, memory_gib=4.0)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(),
        Wish(task="sst2", model="some folder/it's"),
        Wish(task="e2e", adapter="compacter"),
    ],
    ids=lambda wish: wish.task,
)
def test_the_printed_command_trains_with_the_planned_noise(wish: Wish) -> None:
    plan = plan_for(DEMAND, wish)
    settings = compose_settings(plan.overrides)
    trained = settings.privacy.plan(123)
    assert trained.noise_multiplier == plan.choice.noise_multiplier
    assert trained.length.steps == plan.choice.steps
    assert trained.length.expected_batch_size == plan.choice.expected_batch_size
    assert trained.length.num_records == 4000
    assert settings.optim.learning_rate == plan.learning_rate
    assert settings.model == (wish.model or ("MODEL" if wish.task != "e2e" else None))
    assert plan.physical_batch is not None
    longest = settings.architecture.max_length
    assert settings.performance.token_budget is not None
    assert settings.performance.token_budget // longest == plan.physical_batch


def test_what_the_user_has_to_fill_in_is_named() -> None:
    plan = plan_for(DEMAND, Wish())
    assert plan.placeholders == ("task.train=train.jsonl", "model=MODEL")
    assert plan_for(DEMAND, Wish(task="sst2")).placeholders == ()


def test_what_was_not_given_is_said() -> None:
    said = " ".join(plan_for(Demand(num_records=4000, epsilon=2.0), Wish()).assumptions)
    for part in ("delta was", "Time was", "size was", "Memory was"):
        assert f"{part} not given" in said
    full = Demand(
        num_records=4000,
        epsilon=2.0,
        delta=1e-5,
        parameters=22_700_000,
        hours=1.0,
        records_per_second=100.0,
        memory_gib=4.0,
    )
    assert "not given" not in " ".join(plan_for(full, Wish()).assumptions)


def test_an_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"Did you mean task=sst2\?"):
        plan_for(DEMAND, Wish(task="sst3"))
