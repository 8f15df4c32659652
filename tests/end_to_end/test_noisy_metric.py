"""A metric on private records: charged before it is taken, in the certificate and in the ledger."""

import json
from pathlib import Path

import pytest

from dpft.accounting import Adjacency, Certificate, DiscreteLaplace, PoissonGaussian, epsilon
from dpft.accounting.dataset_use import Partition
from dpft.accounting.ledger import Budget, Ledger, Plans
from dpft.recipes import cli
from dpft.recipes.embedded import generate
from dpft.recipes.tasks import Row, Split
from dpft.recipes.tasks.embedded import Embedded
from dpft.rendering import rounded_up

OVERRIDES = [
    "privacy.steps=2",
    "privacy.expected_batch_size=16",
    "privacy.accountant=rdp",
    "privacy.evaluation=noisy",
    "privacy.evaluation_epsilon=0.5",
]
METRIC = DiscreteLaplace(0.5, adjacency=Adjacency.ZERO_OUT)


@pytest.fixture(autouse=True)
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(task: Embedded, split: Split) -> list[Row]:
        return [dict(record) for record in generate(split.value)][:300]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Embedded, "load", load)


def train(*overrides: str) -> int:
    return cli.main(["train", *OVERRIDES, "hydra.run.dir=run", *overrides])


def charged() -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    with Ledger.read(Path("dpft-ledger.sqlite")) as ledger:
        for lease in ledger.state.leases.values():
            for use in lease.uses:
                found.setdefault(use.dataset, []).append(use.mechanism)
    return found


def test_a_noisy_metric_is_part_of_every_number() -> None:
    assert train() == 0
    certificate = Certificate.from_json(Path("run/certificate.json").read_text())
    trained, metric = sorted(certificate.runs, key=lambda run: run.mechanism == METRIC)
    assert isinstance(trained.mechanism, PoissonGaussian)
    assert metric.mechanism == METRIC
    spent = epsilon([trained.mechanism, METRIC], 1e-5, accountant="rdp")
    assert 7.9 < spent <= 8.0
    assert certificate.epsilon() == spent
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["epsilon"] == spent
    assert metrics["metric_status"]["accuracy"]["status"] == "noisy"
    report = Path("run/report.md").read_text()
    assert f"epsilon = {rounded_up(spent)} at delta" in report
    assert "is part of the epsilon above" in report
    assert "Earlier runs counted" not in report
    assert f"epsilon {rounded_up(spent)} of" in Path("run/run.log").read_text()
    assert charged() == {"embedded": [trained.mechanism, METRIC]}
    verify = ["certificate", "verify", "run", "--ledger", "dpft-ledger.sqlite"]
    assert cli.main(verify) == 0  # the metric too names its entry


def test_a_metric_that_may_have_been_drawn_before_is_charged_again() -> None:
    assert train() == 0
    Path("run/metrics.json").unlink()  # as if the process had been killed before it wrote them
    assert cli.main(["train", *OVERRIDES, "run.resume=run"]) == 0
    assert charged()["embedded"].count(METRIC) == 2


def test_a_public_rule_keeps_the_two_apart() -> None:
    assert train("privacy.evaluation_split=generated with another seed") == 0
    certificate = Certificate.from_json(Path("run/certificate.json").read_text())
    trained, metric = sorted(certificate.runs, key=lambda run: run.mechanism == METRIC)
    rule = "generated with another seed"
    assert trained.partition == Partition(rule, "training")
    assert metric.partition == Partition(rule, "held out")
    assert trained.mechanism is not None
    alone = epsilon(trained.mechanism, 1e-5, accountant="rdp")
    assert (
        certificate.epsilon()
        == alone
        == json.loads(Path("run/metrics.json").read_text())["epsilon"]
    )
    assert "the larger of the two" in Path("run/report.md").read_text()
    assert charged() == {"embedded": [trained.mechanism], "embedded, held out": [METRIC]}


def test_a_noisy_metric_is_charged_before_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpft.recipes.training.load_model", None)  # nothing may be loaded
    trained = PoissonGaussian(1.0, 16 / 300, 2, Adjacency.ZERO_OUT)
    plenty = Budget(epsilon=100.0, delta=1e-5, plans=Plans.FIXED)
    room = (plenty.spent([trained]) + plenty.spent([trained, METRIC])) / 2
    with Ledger.open(Path("dpft-ledger.sqlite")) as ledger:
        ledger.set_budget("embedded", Budget(epsilon=room, delta=1e-5, plans=Plans.FIXED))
    assert train("privacy.epsilon=null", "privacy.noise_multiplier=1") == 3
    assert "embedded" in capsys.readouterr().err
    assert not Path("run").exists()
    with Ledger.read(Path("dpft-ledger.sqlite")) as ledger:
        assert not ledger.state.leases  # fixed plans would keep a run that was reserved alone
