"""What all processes of a run return: the lead's weights, certificate and history."""

import dataclasses
import json
from typing import TYPE_CHECKING

from dpft.accounting import Certificate
from dpft.charges import RunHistory
from dpft.inheritance import mark_trained, mark_training
from dpft.processes import Processes

if TYPE_CHECKING:
    from dpft.training import FitResult

__all__ = ["result_of_lead"]


def result_of_lead(result: "FitResult", processes: Processes) -> "FitResult":
    """Return what the lead returns, on every process, once the lead has written it.

    Args:
        result: What this process has.
        processes: The processes.

    Returns:
        The lead's own result; elsewhere the same weights, certificate, history and speed, with
        the preflight of this process and no folder.

    Raises:
        LostProcessError: If another process is gone, as the lead if its artefacts were not written.

    Privacy:
        Post-processing of noised updates, and public numbers. The model is marked everywhere as
        what the run trained, so that a further run composes it
        (`test_two_processes_return_the_same_model_and_certificate`).
    """
    if not processes.are_several:
        return result
    model = result.model
    processes.from_lead([p.detach() for p in model.parameters() if p.requires_grad])
    told = json.loads(processes.text_from_lead(json.dumps(_told(result))))
    if processes.is_lead:
        return result
    heard = dataclasses.replace(
        result,
        certificate=Certificate.from_json(told["certificate"]),
        run_id=told["run_id"],
        examples_per_second=told["examples_per_second"],
        history=RunHistory(**told["history"]),
    )
    mark_training(model, heard.run_id)
    mark_trained(model, heard.certificate)
    return heard


def _told(result: "FitResult") -> dict[str, object]:
    return {
        "certificate": result.certificate.to_json(),
        "run_id": result.run_id,
        "examples_per_second": result.examples_per_second,
        "history": dataclasses.asdict(result.history),
    }
