import dataclasses
from enum import Enum

import pytest
from omegaconf import MISSING, OmegaConf

from dpft.errors import ConfigurationError
from dpft.optim import Optim
from dpft.performance import Performance
from dpft.privacy import Privacy
from dpft.recipes.config.adapter_settings import ADAPTER_CLASSES
from dpft.recipes.config.schema import Architecture, RunSettings
from dpft.recipes.config.store import mirror, restore
from dpft.recipes.tasks import settings_classes

CLASSES = [
    *ADAPTER_CLASSES.values(),
    Architecture,
    Optim,
    Performance,
    Privacy,
    RunSettings,
    *settings_classes().values(),
]


@pytest.mark.parametrize("declared", CLASSES, ids=lambda declared: declared.__name__)
def test_a_mirror_has_the_same_fields_and_can_be_overridden(declared: type) -> None:
    node = OmegaConf.structured(mirror(declared))
    fields = dataclasses.fields(declared)
    assert list(node) == [field.name for field in fields]
    assert not OmegaConf.is_readonly(node)
    for field in fields:
        if field.default is dataclasses.MISSING:
            assert OmegaConf.is_missing(node, field.name)
        else:
            expected = field.default.value if isinstance(field.default, Enum) else field.default
            assert node[field.name] == expected


def test_restoring_validates() -> None:
    with pytest.raises(ConfigurationError, match=r"seed=-1"):
        restore(RunSettings, {"seed": -1, "log_every": 1})


def test_delta_has_no_default() -> None:
    assert mirror(Privacy)().delta == MISSING
