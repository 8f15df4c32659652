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
from dpft.preflight_statement import PREFLIGHT, PreflightStatement
from dpft.privacy import Privacy
from dpft.report import ReportFacts, write_report
from dpft.reporting.facts import Facts, collect
from dpft.reporting.reading import read_run
from dpft.run_folder import RunFolder, environment
from dpft.verification import read_certificate

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
    """Write what a run leaves.

    Of the changes, `labels`, `epsilon` and `seed` go into the settings, `accuracy` into the
    metrics; `kind` is "train", "python" (no settings, no metrics) or "old" (no preflight.json); all
    else goes into the certificate.
    """
    kind, accuracy = changes.pop("kind", "train"), changes.pop("accuracy", 0.75)
    names = ("labels", "epsilon", "seed")
    chosen = {name: changes.pop(name) for name in names if name in changes}
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
    preflight = Preflight() if run.private else None
    if kind != "python":
        _write_settings(folder, privacy, **chosen)
    stated = PreflightStatement.of(preflight, folder / "config.yaml")
    _publish(folder, certificate, privacy.delta, None if kind == "old" else stated)
    epsilon = certificate.epsilon(privacy.delta)
    history = RunHistory(starts=1, intended=30, updates=30)
    write_report(
        folder,
        ReportFacts(
            plan=plan,
            run=run,
            epsilon=epsilon,
            preflight=preflight,
            history=history,
            certificate=certificate,
        ),
    )
    RunFolder(folder).write_environment()
    _write_charges(folder)
    if kind == "python":
        return folder
    status: dict[str, Any] = {"status": "public", "lower": 0.7, "upper": 0.8}
    if metric is not None:
        status = {"status": "noisy", "epsilon": privacy.evaluation_epsilon, "delta": 0.0}
    values = {
        "task": "text_classification",
        "split": "validation",
        "metrics": {"accuracy": accuracy},
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


def make_merge(folder: Path, coefficients: dict[str, str], *runs: Path, **changes: Any) -> Path:
    """Write what a merge of runs leaves; the changes go into expression.json."""
    certificate, *others = map(read_certificate, runs)
    certificate = certificate.compose(*others)
    terms = [
        {"leaf": f"{place}f" * 32, "coefficient": each, "runs": [names.run_id], "history": {}}
        for place, (each, names) in enumerate(
            zip(coefficients.values(), certificate.runs, strict=True)
        )
    ]
    expression = {
        "format": "dpft-task-vector/1",
        "family": "lora",
        "base": {"name": "tiny", "digest": None},
        "terms": terms,
        "made_by": {"expression": coefficients, "method": "linear", "exact": True, "error": None},
    }
    _write_tensors(folder)
    (folder / "expression.json").write_text(json.dumps(expression | changes), encoding="utf-8")
    published = Publication.of(certificate, tensors_digest(folder), 1e-5)
    (folder / "certificate.json").write_text(published.to_json() + "\n", encoding="utf-8")
    write_note(folder / FILE, published.digest)
    return folder


def _publish(
    folder: Path, certificate: Certificate, delta: float, stated: PreflightStatement | None
) -> None:
    adapter = folder / "adapter"
    _write_tensors(adapter)
    if stated is not None:
        (adapter / PREFLIGHT).write_text(stated.to_json(), encoding="utf-8")
    preflight = None if stated is None else stated.digest
    published = Publication.of(certificate, tensors_digest(adapter), delta, preflight)
    for place in (folder, adapter):
        (place / "certificate.json").write_text(published.to_json() + "\n", encoding="utf-8")
    write_note(adapter / FILE, published.digest)


def _write_tensors(folder: Path) -> None:
    folder.mkdir(parents=True)
    header = json.dumps({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    header += b" " * (-len(header) % 8)
    (folder / FILE).write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(8)))
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")


def _write_settings(folder: Path, privacy: Privacy, **chosen: Any) -> None:
    labels = chosen.get("labels", ["no", "yes"])
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "model": "/home/xyzzy/models/tiny",
        "task": {"name": "text_classification", "train": "/home/xyzzy/t.csv", "labels": labels},
        "adapter": {"name": "lora", "r": 8},
        "privacy": {
            "epsilon": chosen.get("epsilon", 8.0),
            "delta": privacy.delta,
            "clip_norm": privacy.clip_norm,
            "dataset_id": privacy.dataset_id,
            "ledger": "/home/xyzzy/ledger.sqlite",
        },
        "optim": {"learning_rate": 0.005, "betas": [0.9, 0.999]},
        "run": {"seed": chosen.get("seed", 0)},
    }
    RunFolder(folder).write_config(yaml.safe_dump(settings))


def _write_charges(folder: Path) -> None:
    first = {"format_version": 2, "run_id": RESERVED, "ledger": None}
    first["fingerprint"] = {"base model": "0f" * 32}
    (folder / "charges.jsonl").write_text(json.dumps(first) + "\n", encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def making() -> Callable[..., Path]:
    """Make the folder of a run with other values."""
    return make_run


@pytest.fixture
def merging() -> Callable[..., Path]:
    """Make the folder of a merge: (folder, coefficients by name, folders of runs)."""
    return make_merge


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The facts of one run, for whoever changes nothing."""
    return collect(read_run(make_run(tmp_path_factory.mktemp("runs") / "run")))
