"""What a finished run publishes: the adapter, its certificate, the report."""

import shutil
from collections.abc import Callable
from pathlib import Path

from torch import nn

from dpft.accounting import Certificate, RunRecord
from dpft.private_step import PrivateStep
from dpft.report import ReportFacts, write_report
from dpft.run_folder import RunFolder, make_durable, write_whole

__all__ = ["run_record", "save_artefacts"]


def run_record(step: PrivateStep, model: nn.Module, run_id: str) -> RunRecord:
    """Return the run's entry in its certificate.

    Args:
        step: The steps that were taken.
        model: The model they trained.
        run_id: Random name of the run.

    Privacy:
        Public numbers and names: of the base model, its folder's last part alone.
    """
    plan = step.plan
    base = getattr(getattr(model, "config", None), "_name_or_path", "") or "unnamed base model"
    return RunRecord(
        run_id=run_id,
        dataset_id=plan.privacy.dataset_id,
        mechanism=step.mechanism,
        adjacency=plan.length.adjacency,
        num_records=plan.length.num_records,
        expected_batch_size=plan.length.expected_batch_size,
        clipping=plan.privacy.clipping.value,
        clip_norm=plan.privacy.clip_norm,
        delta=plan.privacy.delta,
        private=step.is_private,
        generator=step.generator,
        sampler=step.sampler,
        accountant=plan.privacy.accountant.value,
        inputs=(Path(base).name,),
    )


def save_artefacts(
    model: nn.Module, certificate: Certificate, folder: RunFolder, facts: ReportFacts
) -> None:
    """Write weights, certificate and report into the run folder.

    Args:
        model: The trained model.
        certificate: The mechanisms that touched the data.
        folder: The run folder.
        facts: What the report states.

    Privacy:
        Weights after noise, and public numbers
        (`tests/end_to_end/test_run_folder_is_releasable.py`).
    """
    _save_adapter(model, folder.adapter)
    write_whole(folder.certificate, certificate.to_json() + "\n")
    folder.write_environment()
    write_report(folder.path, facts)


def _save_adapter(model: nn.Module, adapter: Path) -> None:
    """Write the adapter whole or not at all."""
    draft = adapter.with_name(f".{adapter.name}.draft")
    for stale in (draft, adapter):  # of a process that was interrupted while it wrote
        if stale.exists():
            shutil.rmtree(stale)
    save: Callable[..., None] = model.save_pretrained  # type: ignore[assignment]  # peft's
    # peft would otherwise look the base model's vocabulary up on the Hub
    adapter_only = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
    save(draft, safe_serialization=True, **adapter_only)
    for path in (*draft.rglob("*"), draft):
        make_durable(path)
    draft.rename(adapter)
    make_durable(adapter.parent)
