"""`dpft audit --mode exposure` and `--mode membership`: attacks on models of public records."""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpft.errors import ConfigurationError

if TYPE_CHECKING:
    from dpft.recipes.exposure import ExposureAudit
    from dpft.recipes.membership import MembershipAudit

__all__ = ["audit_of_exposure", "audit_of_membership"]

_OF_GUARANTEE = ("privacy.delta", "privacy.epsilon")
_OF_MEMBERSHIP = (*_OF_GUARANTEE, "privacy.clip_norm", "task", "task.data_seed", "task.path")
_NO_DATA = "Everything is invented: messages, people and secrets. No ledger is charged."
_KINDS = {"non_private": "not private", "private": "private"}
_PUBLIC = (
    "The records are public. On your own every model here would be a run to be charged, and those "
    "without privacy would give the records away: such records are refused."
)


def audit_of_exposure(arguments: argparse.Namespace) -> bool:
    """Plant secrets in generated messages, and print how far two models expose them.

    Args:
        arguments: Of `dpft audit`.

    Returns:
        Whether nothing speaks against the guarantee.

    Raises:
        ConfigurationError: If a setting is not one of those that this mode has.

    Privacy:
        Nothing, no data touched: the secrets are invented.
    """
    _refuse_run(arguments)
    _refuse_others(arguments.overrides, _OF_GUARANTEE)
    from dpft.recipes.config.composition import compose_settings
    from dpft.recipes.exposure import ExposureSettings, audit_exposure

    asked = compose_settings(arguments.overrides).privacy
    assert asked.epsilon is not None, "the default states one, and no other setting is let through"
    settings = ExposureSettings(epsilon=asked.epsilon, delta=asked.delta)
    found = audit_exposure(settings)
    values = {
        "mode": "exposure",
        "settings": dataclasses.asdict(settings),
        **dataclasses.asdict(found),
        "refuted": found.refuted,
    }
    _publish(values, arguments)
    if not arguments.json:
        _print_exposure(found)
    return not found.refuted


def audit_of_membership(arguments: argparse.Namespace) -> bool:
    """Attack models of public records, and print how often the attacks are right.

    Args:
        arguments: Of `dpft audit`.

    Returns:
        Whether no attack on a private model is right more often than its guarantee allows.

    Raises:
        ConfigurationError: If the records are not known to be public, or a setting is not one of
            those that this mode has.

    Privacy:
        Of public records (`dpft.recipes.membership.public_records`).
    """
    _refuse_run(arguments)
    _refuse_others(arguments.overrides, _OF_MEMBERSHIP)
    from dpft.recipes.config.composition import compose_settings
    from dpft.recipes.membership import MembershipSettings, attack_models, public_records
    from dpft.recipes.membership_output import draw_membership, membership_as_json
    from dpft.recipes.preparation import prepare_evaluation

    asked = compose_settings(arguments.overrides)
    assert asked.privacy.epsilon is not None, "as for exposure"
    settings = MembershipSettings(
        epsilon=asked.privacy.epsilon,
        delta=asked.privacy.delta,
        clip_norm=asked.privacy.clip_norm,
        models=arguments.models,
    )
    population = public_records(prepare_evaluation(asked), settings.records)
    found = attack_models(population, settings)
    values = {
        "mode": "membership",
        "task": asked.task.name,
        **membership_as_json(found, settings),
    }
    _publish(values, arguments)
    if arguments.output is not None:
        figure = arguments.output.with_suffix(".svg")
        figure.write_text(draw_membership(found).svg, encoding="utf-8")
    if not arguments.json:
        _print_membership(found, values)
    return not values["above_the_guarantee"]


def _refuse_run(arguments: argparse.Namespace) -> None:
    if arguments.run is not None:
        raise ConfigurationError(
            f"Expected run={arguments.run} to be unset with mode={arguments.mode}. It trains "
            "models of its own on public records. Leave --run out."
        )
    place = arguments.output
    if place is not None and place.suffix == ".svg":
        raise ConfigurationError(
            f"Expected output={place} to name a file of JSON. The figure beside it ends in .svg, "
            "and would replace it. Name it .json."
        )
    if place is not None and (place.exists() or place.with_suffix(".svg").exists()):
        raise ConfigurationError(
            f"Expected output={place}, and a figure beside it, to be absent. An audit is never "
            "replaced unseen. Name another file, or move them away."
        )


def _refuse_others(overrides: Sequence[str], known: Sequence[str]) -> None:
    """Raise for settings that would be read and then not obeyed."""
    keys = [each.split("=")[0].lstrip("+~") for each in overrides]
    unknown = [each for each in keys if each not in known]
    if unknown:
        raise ConfigurationError(
            f"Expected settings of this mode to be among {', '.join(sorted(known))}, got "
            f"{', '.join(unknown)}. All others are fixed, so that figures can be compared. Leave "
            "them out."
        )


def _publish(values: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    text = json.dumps(values, indent=2) + "\n"
    if arguments.json:
        print(text, end="")
    place: Path | None = arguments.output
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


def _print_exposure(found: "ExposureAudit") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("copies", "untrained", "not private", f"epsilon {found.epsilon:.3g}", "chance")
    for each in found.secrets:
        bits = (f"{value:.2f}" for value in (each.before, each.non_private, each.private))
        table.add_row(f"{each.copies}", *bits, f"<= {each.chance:.2g}")
    Console().print(table)
    print(
        f"exposure in bits, at most {found.most:.2f}; of a secret that the model never saw, x bits "
        "or more with chance 2^-x. The last column bounds the chance of so much in the private "
        "model, by its epsilon and the number of copies."
    )
    print(_NO_DATA)


def _print_membership(found: "MembershipAudit", values: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    limits = [f"{rate} false alarms: at most {most:.3g}" for rate, most in values["limit"].items()]
    head = ("models", "attack", "area", *(f"at {each}" for each in values["limit"]))
    table = Table(*head)
    for kind, said in _KINDS.items():
        for name, attack in values[kind].items():
            rates = (f"{point['true_positive']:.4f}" for point in attack["points"])
            area = f"{attack['area_under_curve']:.4f}"
            table.add_row(said, name, area, *rates)
    Console().print(table)
    print(f"epsilon {found.plan.epsilon():.4g} allows, at {'; '.join(limits)}")
    above = values["above_the_guarantee"]
    print(f"above the guarantee: {', '.join(above) or 'nothing'}")
    print(_PUBLIC)
