"""The model card beside released weights: what the Hub reads, and what the weights may claim.

The numbers are those of the certificate. Licences are not known here, and none is written.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dpft.accounting import RunRecord
from dpft.accounting.publication import Claim, Publication
from dpft.explanation import in_words, touched_in_words
from dpft.rendering import basis_in_words, percent_rounded_up, render
from dpft.reporting.given import given, in_markdown
from dpft.reporting.guarantee import claim_at
from dpft.reporting.promises import neighbours_in_words, outside
from dpft.run_folder import write_whole

__all__ = ["CARD", "Card", "base_in_words", "hub_name", "write_plain_card"]

CARD = "README.md"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_FALSE_ALARM_RATE = 0.01
_OURS = "DPFT_"  # how types of adapters begin that peft learns from this library
_SELECTION = {
    "none": "fixed beforehand, without looking at records",
    "accounted": "by a private mechanism that epsilon counts",
    "not_accounted": "not accounted: nothing is claimed on how they were chosen",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What every model card states.

    Args:
        publication: The certificate beside the weights.
        run: The run that made them.
        library: Which library loads them, ``peft`` or ``transformers``.
        base: The base model as its user named it: a name on the Hub, or a place.

    Privacy:
        Public numbers and given names. Of a place only its last part is shown, and of the Hub's
        fields none (`test_a_card_shows_no_place`).
    """

    publication: Publication
    run: RunRecord
    library: str
    base: str

    @property
    def header(self) -> str:
        """The fields that the Hub reads, as YAML."""
        is_private = self.publication.certificate.is_bounded
        name = hub_name(self.base)
        fields: dict[str, object] = {"library_name": self.library}
        if name is not None:
            fields["base_model"] = name
        fields["tags"] = [*(["differential_privacy", "dp-sgd"] if is_private else []), "dpft"]
        return yaml.safe_dump(fields, sort_keys=False)

    def values(self) -> dict[str, Any]:
        """Return what the templates of cards name.

        Raises:
            BrokenGuaranteeError: If the certificate states no epsilon at the delta of the run.
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched: the epsilon that the certificate states, and no other
            (`test_the_card_states_what_the_certificate_states`).
        """
        certificate = self.publication.certificate
        claim = claim_at(self.publication, self.run.delta)
        bound = certificate.attack_bound(_FALSE_ALARM_RATE, claim.delta)
        rows = {name: in_markdown(value) for name, value in self._rows(claim).items()}
        return {
            "header": self.header,
            "is_private": certificate.is_bounded,
            "epsilon": claim.epsilon,
            "delta": claim.delta,
            "false_alarms": f"{_FALSE_ALARM_RATE:.0%}",
            "detected": percent_rounded_up(bound.rate),
            "detected_from": basis_in_words(bound, claim.delta),
            "unit": certificate.unit.value,
            "rows": rows,
            "excluded": tuple(map(in_markdown, outside(certificate).items)),
            "base_in_words": base_in_words(self.base),
        }

    def _rows(self, claim: Claim) -> Mapping[str, str]:
        run, certificate = self.run, self.publication.certificate
        inputs = [f"{given(each.name)} ({each.status.value})" for each in run.inputs]
        norm = "" if run.clip_norm is None else f", clip norm {run.clip_norm:g}"
        ledger = None if run.ledger is None else f"entry {run.ledger.entry}, {run.ledger.head}"
        return {
            "Unit of privacy": f"one {certificate.unit.value} of the training data",
            "Neighbouring data sets": neighbours_in_words(certificate),
            "Data set": touched_in_words(run),
            "Mechanism": in_words(run.mechanism) if run.private else "NOT PRIVATE",
            "What is released": "the result of every step, not the last weights alone",
            "Sampler": run.sampler,
            "Clipping": f"{given(run.clipping)}{norm}",
            "Randomness": run.generator,
            "Accountant": _accountant(certificate.accountant, claim.numerical_error),
            "Choice of settings": _SELECTION[run.selection.value],
            "Started from": ", ".join(inputs) or "a public base model",
            "Releases counted": f"{len(certificate.runs)}",
            "Ledger": ledger or "none: nothing stops further runs on these records",
            "Weights (SHA-256)": self.publication.tensors,
            "Certificate (SHA-256)": self.publication.digest,
            "Made with": ", ".join(f"{name} {each}" for name, each in _versions(run).items()),
        }


def hub_name(base: str) -> str | None:
    """Return the name of a base model on the Hub, None if it has none that can be told.

    Args:
        base: As the user named it.

    Privacy:
        Nothing, no data touched. A place on a machine is never taken for a name.
    """
    is_name = _HUB_NAME.fullmatch(base) is not None and not Path(base).exists()
    return base if is_name else None


def base_in_words(base: str) -> str:
    """Return a base model in words for Markdown: its name, or the last part of its place.

    Args:
        base: As the user named it; may be empty.

    Privacy:
        Nothing, no data touched.
    """
    if not base:
        return "not named"
    if hub_name(base) is not None:
        return in_markdown(base)
    return f"a local one, {in_markdown(given(Path(base).name))}"


def write_plain_card(folder: Path, model: Any, publication: Publication, run: RunRecord) -> None:
    """Write the card of weights of which nothing is known but the model and its certificate.

    Args:
        folder: Of the weights; peft's own empty card in it is replaced.
        model: A model of transformers or of peft.
        publication: The certificate beside the weights.
        run: The run that made them.

    Privacy:
        Public numbers and given names.
    """
    configs = getattr(model, "peft_config", {})
    kind = next((str(getattr(each.peft_type, "value", "")) for each in configs.values()), "")
    config = getattr(model, "config", None)
    card = Card(
        publication=publication,
        run=run,
        library="peft" if configs else "transformers",
        base=str(getattr(config, "_name_or_path", "") or ""),
    )
    text = render(
        "plain.md.j2",
        **card.values(),
        whole=not configs,
        kind=in_markdown(kind.removeprefix(_OURS).lower()),
        in_peft=not kind.startswith(_OURS),
    )
    write_whole(folder / CARD, text)


def _accountant(name: str, error: float | None) -> str:
    return name if error is None else f"{name}; its grid adds about {error:.1g} to epsilon"


def _versions(run: RunRecord) -> dict[str, str]:
    named = ("dpft", "torch", "transformers", "peft")
    return {name: run.versions[name] for name in named if name in run.versions}
