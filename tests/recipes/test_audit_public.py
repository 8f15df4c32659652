"""`dpft audit --mode exposure` and `--mode membership` on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from dpft.accounting.auditing import Attacked
from dpft.recipes.cli import main
from dpft.recipes.exposure import Exposed, ExposureAudit, ExposureSettings
from dpft.recipes.membership import MembershipAudit, MembershipSettings, Population


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("chance", "code"), [(1.0, 0), (1e-9, 4)])
def test_exposure_is_stated_and_printed(
    chance: float,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    asked: list[ExposureSettings] = []

    def audit(settings: ExposureSettings) -> ExposureAudit:
        asked.append(settings)
        return ExposureAudit(19.02, 3.0, 1e-5, (Exposed(4, 1.0, 19.0, 2.0, chance),))

    monkeypatch.setattr("dpft.recipes.exposure.audit_exposure", audit)
    words = ["--mode", "exposure", "--output", "out/exposure.json", "privacy.epsilon=3"]

    assert main(["audit", *words]) == code

    assert asked[0].epsilon == 3.0
    assert "Everything is invented" in capsys.readouterr().out
    stated = json.loads((tmp_path / "out" / "exposure.json").read_text(encoding="utf-8"))
    assert stated["secrets"][0]["non_private"] == 19.0
    assert stated["refuted"] == (code == 4)


def attacked(gain: float) -> Attacked:
    random = np.random.default_rng(4)
    included = random.random((8, 50)) < 0.5
    return Attacked(gain * included + random.standard_normal((8, 50)), included)


@pytest.mark.parametrize(("gain", "code"), [(0.0, 0), (90.0, 4)])
def test_membership_is_stated_drawn_and_printed(
    gain: float,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    nothing = Population(np.zeros((1, 1)), np.zeros(1, dtype=int), 2)
    monkeypatch.setattr("dpft.recipes.membership.public_records", lambda *_: nothing)

    def attack(_: Population, settings: MembershipSettings) -> MembershipAudit:
        plan = settings.privacy(private=True).plan(100)
        weak, strong = {"loss": attacked(gain)}, {"loss": attacked(3.0)}
        return MembershipAudit(weak, strong, plan)

    monkeypatch.setattr("dpft.recipes.membership.attack_models", attack)
    monkeypatch.setattr("dpft.recipes.membership_output._limit", lambda _, rate: min(1, 3 * rate))
    words = ["--mode", "membership", "--output", "membership.json", "privacy.epsilon=1"]

    assert main(["audit", *words]) == code

    printed = capsys.readouterr().out
    assert "The records are public" in printed
    assert ("above the guarantee: nothing" in printed) == (code == 0)
    assert "<svg" in (tmp_path / "membership.svg").read_text(encoding="utf-8")
    assert main(["audit", *words]) == 2, "an audit is never replaced unseen"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--mode", "exposure", "task=sst2"], "among privacy.delta"),
        (["--mode", "exposure", "--run", "runs/first"], "models of its own"),
        (["--mode", "membership", "adapter=compacter"], "got adapter"),
        (["--mode", "membership", "privacy.mode=not_private"], "got privacy.mode"),
        (["--mode", "membership", "--run", "runs/first"], "models of its own"),
        (["--mode", "membership", "--output", "found.svg"], "would replace it"),
        (["--run", "runs/first", "privacy.epsilon=3"], "without privacy.epsilon=3"),
        (["--run", "runs/first", "--output", "audit.json"], "without --output"),
        (["--run", "runs/first"], "runs/first"),
    ],
)
def test_what_a_mode_does_not_obey_is_refused(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *words]) == 2
    assert part in capsys.readouterr().err


def test_an_audit_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "audit.json").write_text("{}", encoding="utf-8")

    assert main(["audit", "--output", "audit.json"]) == 2
    assert "to be absent" in capsys.readouterr().err
