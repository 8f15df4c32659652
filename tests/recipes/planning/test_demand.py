from typing import Any

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.planning.demand import Demand, delta_for


@pytest.mark.parametrize("num_records", [1, 2, 999, 34_000, 67_349, 1_000_000, 10**9])
def test_the_default_delta_is_below_one_over_n(num_records: int) -> None:
    delta = delta_for(num_records)
    assert 0 < delta < 1 / num_records
    assert delta <= 1e-5
    assert min(1e-5, 0.05 / num_records) <= delta <= 0.1 / num_records * (1 + 1e-9)
    assert len(f"{delta:e}".split("e")[0].rstrip("0.")) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"epsilon": 0.0}, "Expected epsilon=0"),
        ({"epsilon": -1.0}, "Expected epsilon=-1"),
        ({"epsilon": float("inf")}, "Expected epsilon=inf"),
        ({"delta": 0.001}, "Expected delta=0.001 < 1/num_records"),
        ({"delta": 0.0}, "Expected delta=0"),
        ({"num_records": 0}, "Expected num_records=0"),
        ({"parameters": 0}, "Expected parameters=0"),
        ({"hours": -1.0, "records_per_second": 1.0}, "Expected hours=-1"),
        ({"hours": 1.0}, "Expected records_per_second to be given with hours=1.0"),
        ({"memory_gib": 0.0}, "Expected memory_gib=0"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Demand(**{"num_records": 1000, "epsilon": 1.0} | fields)


def test_all_that_is_wrong_is_named_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Demand(num_records=1000, epsilon=-1.0, delta=0.5, hours=1.0)
    assert len(caught.value.messages) == 3
