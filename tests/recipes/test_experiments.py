"""Experiments of published rows: what they say of themselves, and the epsilon that follows."""

import dataclasses
import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant

from dpft.accounting import PrivacyTarget, calibrate, epsilon
from dpft.privacy import PrivacyMode, PrivacyPlan
from dpft.recipes.config.composition import compose_settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "config" / "conf" / "experiment"
PAPERS = ("asai2022", "bu2023", "li2022", "liu2022", "yu2022")
FILES = sorted(file for paper in PAPERS for file in (FOLDER / paper).glob("*.yaml"))
SHARED = {"attempt", "glue", "text"}  # what the rows of one paper have in common
SAMPLE = {
    "asai2022/sst2_t5_base_attempt",
    "bu2023/e2e_gpt2_small_lora_eps8",
    "li2022/sst2_roberta_large_lora_eps8",
    "yu2022/sst2_roberta_base_lora_eps6.7",
}
EPSILON = re.compile(
    r"# Epsilon: (?P<claimed>[\d.]+) claimed by (?P<by>PRV|RDP), delta (?P<delta>[\de.-]+); "
    r"recomputed by PLD = (?P<pld>\d+\.\d\d)\."
)
OPEN = "# Epsilon: none, the published row is not private."


def name_of(file: Path) -> str:
    return file.relative_to(FOLDER).with_suffix("").as_posix()


ROWS = {name_of(file): file for file in FILES if file.stem not in SHARED}
PRIVATE = [name for name, file in ROWS.items() if OPEN not in file.read_text(encoding="utf-8")]
YU = [name for name in PRIVATE if name.endswith("roberta_base_lora_eps6.7")]
BY_RDP = [name for name in PRIVATE if name.startswith(("bu2023", "li2022"))]


def sampled(names: Iterable[str]) -> list[object]:
    """The names, those beyond the sample marked slow: to compose takes most of a second."""
    slow = [pytest.mark.slow]
    return [pytest.param(name, marks=[] if name in SAMPLE else slow) for name in names]


def head(name: str) -> list[str]:
    lines = ROWS[name].read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")]


def claim(name: str) -> dict[str, str]:
    found = EPSILON.fullmatch(head(name)[4])
    assert found is not None, name
    return found.groupdict()


def planned(name: str) -> PrivacyPlan:
    """The plan of a file, under the neighbouring relation of the papers."""
    return compose_settings([f"experiment={name}"]).privacy.plan(0)


def test_there_is_a_file_for_every_row() -> None:
    count = {paper: sum(name.startswith(paper) for name in ROWS) for paper in PAPERS}
    assert count == {"asai2022": 7, "bu2023": 14, "li2022": 24, "liu2022": 1, "yu2022": 32}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_says_command_aim_source_and_epsilon(name: str) -> None:
    lines = head(name)
    assert lines[:2] == ["# @package _global_", f"# dpft train experiment={name}"]
    assert lines[2].startswith("# Aim: ")
    assert re.match(r"# Source: .+ \(\d{4}\.\d{5}\), ", lines[3])
    assert EPSILON.fullmatch(lines[4]) or lines[4].startswith(OPEN)
    assert "# Not run here: the model comes from the Hub." in lines
    assert f"eps{claim(name)['claimed']}" in name if name in PRIVATE else "eps" not in name


@pytest.mark.parametrize("name", sampled(ROWS))
def test_every_row_composes_and_validates(name: str) -> None:
    settings = compose_settings([f"experiment={name}"])
    assert settings.model is not None
    assert settings.model.count("/") == 1, "a name of the Hub"
    assert name.split("/")[1].startswith(settings.task.name)
    assert (settings.privacy.mode is PrivacyMode.PRIVATE) == (name in PRIVATE)


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in FILES if file.stem in SHARED], ids=name_of)
def test_what_rows_share_runs_by_its_own_command(file: Path) -> None:
    command = file.read_text(encoding="utf-8").splitlines()[1].removeprefix("# dpft train ")
    assert command.split()[0] == f"experiment={name_of(file)}"
    compose_settings(command.split())


@pytest.mark.parametrize("name", sampled(PRIVATE))
def test_epsilon_by_pld_is_the_one_stated(name: str) -> None:
    plan, stated = planned(name), claim(name)
    delta, count = float(stated["delta"]), plan.length.num_records
    assert plan.privacy.delta == (delta if delta < 1 / count else 9e-6)
    spent = epsilon(plan.mechanism(), delta)
    assert spent <= float(stated["pld"]) < spent + 0.01


@pytest.mark.parametrize("name", sampled(BY_RDP))
def test_noise_is_what_rdp_gives_for_the_epsilon_claimed(name: str) -> None:
    plan, stated = planned(name), claim(name)
    assert stated["by"] == "RDP"
    target = PrivacyTarget(float(stated["claimed"]), plan.privacy.delta, "rdp")
    run = calibrate(target, sample_rate=plan.length.sample_rate, steps=plan.length.steps)
    assert plan.noise_multiplier == run.noise_multiplier


@pytest.mark.parametrize("name", sampled(YU))
def test_noise_of_yu_is_what_the_moments_accountant_gives_for_eight(name: str) -> None:
    """The conversion of Abadi et al. 2016, which their code uses; ours is tighter."""
    plan = planned(name)
    orders = np.array([1 + tenth / 10 for tenth in range(2, 100)] + list(range(11, 65)))
    accountant = RdpAccountant(orders)
    delta = float(claim(name)["delta"])
    step = PoissonSampledDpEvent(plan.length.sample_rate, GaussianDpEvent(plan.noise_multiplier))
    accountant.compose(step, plan.length.steps)
    bound = np.array(accountant._rdp) + math.log(1 / delta) / (orders - 1)
    assert bound.min() == pytest.approx(8, abs=5e-3)


@pytest.mark.parametrize(("method", "width"), [("adapter", 48), ("compacter", 96)])
@pytest.mark.parametrize(("size", "hidden_size"), [("base", 768), ("large", 1024)])
def test_adapters_of_yu_have_the_published_width(
    method: str, width: int, size: str, hidden_size: int
) -> None:
    text = ROWS[f"yu2022/sst2_roberta_{size}_{method}_eps6.7"].read_text(encoding="utf-8")
    found = re.search(r"reduction_factor: ([\d.]+)", text)
    assert found is not None
    assert int(hidden_size / float(found[1])) == width


def test_a_row_that_is_not_private_becomes_so_by_the_command_it_names() -> None:
    overrides = ["experiment=asai2022/sst2_t5_base_attempt", "privacy=default", "privacy.epsilon=8"]
    settings = compose_settings(overrides)
    assert settings.privacy.mode is PrivacyMode.PRIVATE
    assert settings.privacy.epsilon == 8


def test_the_document_lists_every_row_with_the_same_numbers() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+/[\w.]+)` \| (.*) \|$", text, re.MULTILINE))
    assert set(listed) == set(ROWS)
    for name, rest in listed.items():
        aim, *numbers = [cell.strip() for cell in rest.split("|")]
        assert f"# Aim: {aim}." in head(name)
        stated = claim(name) if name in PRIVATE else None
        assert numbers == (
            ["none", "", "none"]
            if stated is None
            else [f"{stated['claimed']}, {stated['by']}", stated["delta"], stated["pld"]]
        )


def test_rows_of_full_fine_tuning_train_every_weight_at_the_recipe_of_the_paper() -> None:
    settings = compose_settings(["experiment=li2022/e2e_gpt2_small_full_eps8"])
    assert settings.trains_whole_model
    assert settings.optim.learning_rate == 2e-3
    assert (settings.privacy.clip_norm, settings.privacy.epochs) == (0.1, 10)


def test_shared_settings_reach_the_rows() -> None:
    settings = compose_settings(["experiment=bu2023/e2e_gpt2_small_lora_eps8"])
    assert (
        dataclasses.asdict(settings.privacy).items()
        >= {
            "clipping": "auto_s",
            "clip_norm": 1.0,
            "expected_batch_size": 1024,
        }.items()
    )
    assert settings.architecture.label_smoothing == 0.0
