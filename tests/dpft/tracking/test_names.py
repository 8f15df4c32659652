import importlib.util
from typing import Any

import pytest

from dpft.tracking import TrackerName, tracker_problems


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let a package seem not to be installed."""
    known = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == package else known(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def test_an_installed_tracker_has_no_problem() -> None:
    assert not tracker_problems(["tensorboard", TrackerName.TENSORBOARD])


def test_no_tracker_has_no_problem() -> None:
    assert not tracker_problems([])


@pytest.mark.parametrize("name", list(TrackerName))
def test_a_missing_package_is_named_with_what_installs_it(
    name: TrackerName, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, name.value)
    (problem,) = tracker_problems([name])
    assert f"Expected tracker={name.value} " in problem
    assert 'pip install "dpft[trackers]"' in problem


def test_every_problem_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "tensorboard")
    assert len(tracker_problems(["comet", "tensorboard"])) == 2


def test_an_unknown_tracker_gets_the_nearest_name() -> None:
    (problem,) = tracker_problems(["wandbb"])
    assert problem.endswith("Did you mean wandb?")
