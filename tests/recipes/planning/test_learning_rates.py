import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.planning.learning_rates import nearest_run, scaled_learning_rate


@pytest.mark.parametrize(
    ("adapter", "parameters", "writes_text", "expected"),
    [
        ("lora", 22_000_000, False, 4e-3),
        ("lora", 300_000_000, False, 1e-3),
        ("lora", 8_000_000_000, False, 3e-4),
        ("lora", 8_000_000_000, True, 4e-4),
        ("compacter", 1, False, 5e-3),
        ("bottleneck", 125_000_000, True, 1e-3),
    ],
)
def test_the_nearest_model_gives_the_learning_rate(
    adapter: str, parameters: int, writes_text: bool, expected: float
) -> None:
    run = nearest_run(adapter, parameters, writes_text=writes_text)
    assert run.learning_rate == expected


def test_four_times_the_batch_is_twice_the_learning_rate() -> None:
    run = nearest_run("lora", 125_000_000, writes_text=False)
    assert scaled_learning_rate(run, run.batch) == run.learning_rate
    assert scaled_learning_rate(run, 4 * run.batch) == 2 * run.learning_rate


def test_a_method_without_a_known_run_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"adapter=prompt to be one of bitfit, bottleneck"):
        nearest_run("prompt", 1, writes_text=False)


@pytest.mark.parametrize(
    ("experiment", "adapter", "parameters", "writes_text"),
    [
        ("sst2_minilm_lora", "lora", 22_700_000, False),
        ("yu2022/sst2_roberta_base_lora_eps6.7", "lora", 125_000_000, False),
        ("yu2022/sst2_roberta_base_compacter_eps6.7", "compacter", 125_000_000, False),
        ("yu2022/e2e_gpt2_medium_lora_eps6.0", "lora", 355_000_000, True),
    ],
)
def test_a_run_agrees_with_its_experiment(
    experiment: str, adapter: str, parameters: int, writes_text: bool
) -> None:
    run = nearest_run(adapter, parameters, writes_text=writes_text)
    settings = compose_settings([f"experiment={experiment}"])
    assert run.learning_rate == settings.optim.learning_rate
    assert run.batch == settings.privacy.expected_batch_size
