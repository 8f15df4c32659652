import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from peft import LoraConfig, LoraModel, PeftType
from peft import mapping as tables

from dpft.adapters.registration import MethodType, register_method
from dpft.errors import ConfigurationError

NAME = MethodType("DPFT_TRIAL")
TABLES = ("CONFIG", "TUNER", "PREFIX")


def table(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = getattr(tables, f"PEFT_TYPE_TO_{name}_MAPPING")
    return found


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TABLES:
        monkeypatch.setattr(tables, f"PEFT_TYPE_TO_{name}_MAPPING", dict(table(name)))


def test_a_method_is_found_under_its_name_and_registered_twice_without_harm() -> None:
    for _ in range(2):
        register_method(NAME, LoraConfig, LoraModel)
    found = [table(name)["DPFT_TRIAL"] for name in TABLES]
    assert found == [LoraConfig, LoraModel, "dpft_trial_"]


@pytest.mark.parametrize("name", ["LORA", "TRIAL"])
def test_names_that_peft_has_or_may_add_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"peft_type={name}"):
        register_method(MethodType(name), LoraConfig, LoraModel)


def test_a_name_that_another_package_took_is_refused() -> None:
    table("CONFIG")[NAME] = object
    with pytest.raises(ConfigurationError, match="another configuration"):
        register_method(NAME, LoraConfig, LoraModel)
    assert NAME not in table("TUNER")


def test_a_name_that_peft_took_in_the_meantime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PeftType._member_map_, "DPFT_TRIAL", PeftType.LORA)
    with pytest.raises(ConfigurationError, match="DPFT_TRIAL"):
        register_method(NAME, LoraConfig, LoraModel)


def test_the_name_answers_like_a_member_of_peft() -> None:
    assert (NAME.value, NAME.name, NAME) == ("DPFT_TRIAL", "DPFT_TRIAL", "DPFT_TRIAL")


@pytest.mark.parametrize("first", [True, False])
def test_what_waits_for_peft_runs_once_in_either_order_of_import(
    beside_transformers: Callable[..., Any], *, first: bool
) -> None:
    code = [
        "import sys",
        *["import peft"] * first,
        "from dpft.adapters.registration import when_peft_is_imported",
        "calls = []",
        "when_peft_is_imported(lambda: calls.append('peft' in sys.modules))",
        f"assert calls == {[True] * first}, calls",
        "import peft, importlib",
        "assert calls == [True], calls",
        "assert type(peft.__spec__.loader).__name__ == 'SourceFileLoader'",
    ]
    beside_transformers("\n".join(code)).check_returncode()


def test_asking_whether_there_is_peft_changes_nothing() -> None:
    code = [  # a fresh process: transformers remembers the answer
        "from importlib.util import find_spec",
        "from dpft.adapters.registration import when_peft_is_imported",
        "calls = []",
        "when_peft_is_imported(lambda: calls.append(1))",
        "find_spec('peft')",
        "assert not calls",
        "assert __import__('transformers').utils.is_peft_available()",
        "assert not calls",
        "import peft",
        "assert calls == [1] and 'DPFT_BOTTLENECK' in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(code)], check=True)
