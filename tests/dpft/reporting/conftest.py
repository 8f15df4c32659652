"""The folder of a run that ended, made without training anything."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpft.accounting import Certificate, RunRecord
from dpft.accounting.publication import Publication
from dpft.artefact_digest import tensors_digest, write_note
from dpft.charges import RunHistory
from dpft.held_out import metric_record
from dpft.privacy import Privacy
from dpft.report import ReportFacts, write_report
from dpft.reporting.facts import Facts, collect
from dpft.run_folder import RunFolder, environment

FILE = "adapter_model.safetensors"
RUN = "0123456789abcdef0123456789abcdef"
RESERVED = "a run in its ledger"
PRIVACY = Privacy(
    delta=1e-5,
    noise_multiplier=2.0,
    num_records=1000,
    expected_batch_size=100,
    steps=30,
    accountant="rdp",
    dataset_id="letters",
)


@dataclasses.dataclass(frozen=True)
class Check:
    name: str = "records equal a loop"
    value: float = 3e-7
    tolerance: float = 1e-4
    passed: bool = True


@dataclasses.dataclass(frozen=True)
class Preflight:
    checks: tuple[Check, ...] = (Check(),)
    passed: bool = True


def make_run(folder: Path, privacy: Privacy = PRIVACY, **changes: Any) -> Path:
    """Write what a run leaves; `labels` go into the settings, all else into the certificate."""
    labels = changes.pop("labels", ["no", "yes"])
    plan = privacy.plan(1000)
    fields: dict[str, Any] = {
        "run_id": RUN,
        "dataset_id": privacy.dataset_id,
        "mechanism": plan.mechanism(),
        "adjacency": plan.length.adjacency,
        "num_records": plan.length.num_records,
        "expected_batch_size": plan.length.expected_batch_size,
        "clipping": privacy.clipping.value,
        "clip_norm": privacy.clip_norm,
        "delta": privacy.delta,
        "private": True,
        "generator": "ChaCha20",
        "sampler": "Poisson",
        "accountant": privacy.accountant.value,
        "versions": {name: each for name, each in environment()["versions"].items() if each},
        "excluded": ("Copies of the <b>run</b> folder.",),
    }
    run, metric = RunRecord(**(fields | changes)), metric_record(plan, RUN)
    certificate = Certificate((run,) if metric is None else (run, metric))
    _publish(folder, certificate, privacy.delta)
    epsilon = certificate.epsilon(privacy.delta)
    history = RunHistory(starts=1, intended=30, updates=30)
    write_report(
        folder,
        ReportFacts(
            plan=plan,
            run=run,
            epsilon=epsilon,
            preflight=Preflight() if run.private else None,
            history=history,
            certificate=certificate,
        ),
    )
    _write_settings(RunFolder(folder), privacy, labels)
    status: dict[str, Any] = {"status": "public", "lower": 0.7, "upper": 0.8}
    if metric is not None:
        status = {"status": "noisy", "epsilon": privacy.evaluation_epsilon, "delta": 0.0}
    values = {
        "task": "text_classification",
        "split": "validation",
        "metrics": {"accuracy": 0.75},
        "metric_status": {"accuracy": status},
        "epsilon": epsilon,
        "delta": privacy.delta,
        "adjacency": run.adjacency.value,
        "accountant": run.accountant,
        "dataset_id": run.dataset_id,
        "examples_per_second": 52.7,
    }
    RunFolder(folder).write_metrics(values)
    return folder


def _publish(folder: Path, certificate: Certificate, delta: float) -> None:
    adapter = folder / "adapter"
    adapter.mkdir(parents=True)
    header = json.dumps({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    header += b" " * (-len(header) % 8)
    (adapter / FILE).write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(8)))
    (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    published = Publication.of(certificate, tensors_digest(adapter), delta)
    for place in (folder, adapter):
        (place / "certificate.json").write_text(published.to_json() + "\n", encoding="utf-8")
    write_note(adapter / FILE, published.digest)


def _write_settings(folder: RunFolder, privacy: Privacy, labels: list[str]) -> None:
    settings = {
        "model": "/home/xyzzy/models/tiny",
        "task": {"name": "text_classification", "train": "/home/xyzzy/t.csv", "labels": labels},
        "adapter": {"name": "lora", "r": 8},
        "privacy": {
            "epsilon": 8.0,
            "delta": privacy.delta,
            "clip_norm": privacy.clip_norm,
            "dataset_id": privacy.dataset_id,
            "ledger": "/home/xyzzy/ledger.sqlite",
        },
        "optim": {"learning_rate": 0.005, "betas": [0.9, 0.999]},
        "run": {"seed": 0},
    }
    folder.write_config(yaml.safe_dump(settings))
    folder.write_environment()
    first = {"format_version": 2, "run_id": RESERVED, "ledger": None}
    first["fingerprint"] = {"base model": "0f" * 32}
    (folder.path / "charges.jsonl").write_text(json.dumps(first) + "\n", encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def making() -> Callable[..., Path]:
    """Make the folder of a run with other values."""
    return make_run


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The facts of one run, for whoever changes nothing."""
    return collect(make_run(tmp_path_factory.mktemp("runs") / "run"))
