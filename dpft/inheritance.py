"""What a run started from, and what that owes already: its certificates are composed. No torch.

Found are: a model that a run of this process trained; the folder of a base model that was itself
published with a certificate; private source prompts of ATTEMPT; folders that the user names. What
leaves no trace in a model is not found: an adapter that was loaded for further training, or
weights that were merged and saved by others.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dpft.accounting import Certificate, Mechanism, RunRecord, unit_of
from dpft.accounting.canonical_json import misfit
from dpft.accounting.composition import adjacency_of, union, unit_of_runs
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.rules import delta_problems, require
from dpft.errors import BrokenGuaranteeError
from dpft.verification import CERTIFICATE, Artefact, holds_certificate, trusted

__all__ = ["Inheritance", "inherited", "mark_trained", "mark_training"]

_RUN, _CERTIFICATE = "dpft_run", "dpft_certificate"
_UNNAMED = "unnamed base model"


@dataclasses.dataclass(frozen=True)
class Inheritance:
    """What a run started from.

    Args:
        inputs: Everything it started from, public or certified.
        runs: All runs of the certificates that these brought along.

    Privacy:
        Public names and numbers.
    """

    inputs: tuple[Input, ...] = ()
    runs: tuple[RunRecord, ...] = ()

    @property
    def sources(self) -> frozenset[str]:
        """Names of the source prompts whose certificates are composed."""
        prompts = (each for each in self.inputs if each.role is InputRole.SOURCE_PROMPT)
        return frozenset(each.name for each in prompts if each.status is InputStatus.CERTIFIED)

    @property
    def fingerprint(self) -> dict[str, str]:
        """What must not change between the processes of one run; nothing where all is public."""
        return {f"input.{each.name}": each.certificate for each in self.inputs if each.certificate}

    def and_also(self, name: str, role: InputRole, certificate: Certificate) -> "Inheritance":
        """Return this with one more certified input.

        Args:
            name: Public name of the input.
            role: What it is used as.
            certificate: Its certificate.

        Raises:
            ConfigurationError: If one name stands for two different runs.

        Privacy:
            Nothing, no data touched.
        """
        inputs = (*self.inputs, certificate.as_input(name, role))
        return Inheritance(inputs, union([*self.runs, *certificate.runs]))

    def and_declared(self, inputs: tuple[Input, ...]) -> "Inheritance":
        """Return this with inputs that the user declared (`dpft.declarations`).

        Args:
            inputs: None of them certified.

        Privacy:
            Nothing, no data touched.
        """
        return dataclasses.replace(self, inputs=(*self.inputs, *inputs))

    def and_sources_of(self, model: Any) -> "Inheritance":
        """Return this with the private source prompts of a model's adapters.

        Args:
            model: A model with its adapters.

        Returns:
            This, with every source whose certificate lies beside it. Others are left out, and
            `dpft.adapters.refuse_unfit` refuses them.

        Raises:
            BrokenGuaranteeError: If a certificate is not that of the source.

        Privacy:
            Nothing, no data touched (`tests/dpft/test_inheritance.py`).
        """
        found = self
        for name, artefacts in sorted(_private_sources(model).items()):
            for certificate in [trusted(artefact).certificate for artefact in artefacts]:
                found = found.and_also(name, InputRole.SOURCE_PROMPT, certificate)
        return found

    def require_composable(self, mechanism: Mechanism | None, delta: float) -> None:
        """Raise unless a new run can be composed with what was inherited; before it starts.

        Args:
            mechanism: Of the new run; None if it promises nothing.
            delta: Of the new run; epsilon of all of them is stated at it.

        Raises:
            ConfigurationError: If delta does not suit an earlier run, or unit or neighbouring
                relation do not fit.
            BrokenGuaranteeError: If an earlier run promises nothing, so the new one could not.

        Privacy:
            Nothing, no data touched.
        """
        if not self.runs or mechanism is None:
            return
        if not Certificate(self.runs).is_bounded:
            raise BrokenGuaranteeError(
                "Expected what the run starts from to have a finite epsilon. Noise added now takes "
                "nothing back of what the earlier run let through. Start from a public model, or "
                "set privacy.mode=not_private."
            )
        unit, earlier = unit_of(mechanism), unit_of_runs(self.runs)
        counts = {use.num_records for run in self.runs for use in run.touched}
        require(
            *(delta_problems(delta, count) for count in counts),
            [] if unit is earlier else [misfit("unit", unit.value, f"{earlier.value}, as before")],
        )
        adjacency_of(self.runs, mechanism.adjacency)

    def certificate_with(self, run: RunRecord) -> Certificate:
        """Return the certificate of what a run made of this.

        Args:
            run: The new run, with `inputs` as its inputs.

        Privacy:
            Nothing, no data touched.
        """
        return Certificate(union([*self.runs, run]))


def inherited(model: Any, folders: Iterable[Path | str] = ()) -> Inheritance:
    """Find what a model owes before it is trained.

    Args:
        model: A model that a run is about to train.
        folders: Folders of earlier runs or adapters that the model holds, where nothing in the
            model tells of them, as of an adapter that was loaded for further training.

    Returns:
        Its base model and all that was found; nothing is read of private sources yet.

    Raises:
        BrokenGuaranteeError: If a run trained the model and its certificate is not known, as after
            a crash, or if a certificate is not that of the tensors beside it.

    Privacy:
        Nothing, no data touched. What leaves no trace in a model is not found: name its folder.
    """
    name, trained = _base_name(model), _trained(model)
    if trained is None:
        found = _with_base(Inheritance(), name)
    else:  # the base model is among the inputs of the run that trained it
        role = InputRole.ADAPTER if getattr(model, "peft_config", None) else InputRole.BASE_MODEL
        found = Inheritance().and_also(_short(name), role, trained)
    for folder in folders:
        artefact = Artefact.of(folder)
        certificate = trusted(artefact).certificate
        found = found.and_also(Path(folder).resolve().name, InputRole.ADAPTER, certificate)
    return found


def mark_training(model: Any, run_id: str) -> None:
    """Note on a model, and on the base model under its adapter, that a run trains it.

    Args:
        model: The model.
        run_id: Random name of the run. Until its certificate follows, no other run may start.

    Privacy:
        A random name.
    """
    for marked in _layers(model):
        vars(marked)[_RUN] = run_id


def mark_trained(model: Any, certificate: Certificate) -> None:
    """Note the certificate of the run that trained a model, so that the next one composes it.

    Args:
        model: The model, marked by `mark_training`.
        certificate: What the model may claim.

    Privacy:
        Public numbers and names.
    """
    for marked in _layers(model):
        vars(marked)[_CERTIFICATE] = certificate


def _layers(model: Any) -> tuple[Any, Any]:
    return model, getattr(model, "get_base_model", lambda: model)()


def _trained(model: Any) -> Certificate | None:
    """Return the certificate of the run that trained a model in this process, None if none did."""
    run_id = getattr(model, _RUN, None)
    if run_id is None:
        return None
    certificate = getattr(model, _CERTIFICATE, None)
    if isinstance(certificate, Certificate) and run_id in {run.run_id for run in certificate.runs}:
        return certificate
    raise BrokenGuaranteeError(
        f"Expected a model that no run has trained, or whose run ended, got one of run {run_id}. "
        "It released iterates and wrote no certificate that could be composed with the new one. "
        "Load the base model afresh."
    )


def _with_base(found: Inheritance, name: str) -> Inheritance:
    folder = _folder_of(name)
    if folder is not None:
        artefact = Artefact(folder, (folder / CERTIFICATE,))
        if holds_certificate(artefact):
            certificate = trusted(artefact).certificate
            return found.and_also(_short(name), InputRole.BASE_MODEL, certificate)
    public = Input(name=_short(name), role=InputRole.BASE_MODEL, status=InputStatus.PUBLIC)
    return dataclasses.replace(found, inputs=(*found.inputs, public))


def _base_name(model: Any) -> str:
    return str(getattr(getattr(model, "config", None), "_name_or_path", "") or "")


def _short(name: str) -> str:
    """Return the last part of a name: folders above it belong to one machine."""
    return Path(name).name or _UNNAMED


def _folder_of(name: str) -> Path | None:
    """Return where the weights of a base model lie, None if they lie nowhere."""
    if not name:
        return None
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # no name of the Hub, such as the folder of another machine
        return None
    return Path(config).parent if isinstance(config, str) else None


def _private_sources(model: Any) -> dict[str, list[Artefact]]:
    """Return private source prompts by name, where a certificate lies beside all that bore it."""
    configs: Mapping[str, Any] = getattr(model, "peft_config", None) or {}
    named = [
        (name, (getattr(config, "source_folders", None) or {}).get(name, [None]))
        for config in configs.values()
        for name in getattr(config, "private_sources", None) or ()
    ]
    folders: dict[str, list[Path | None]] = {}
    for name, given in named:
        folders.setdefault(name, []).extend(None if each is None else Path(each) for each in given)
    return {
        name: [Artefact.of(folder) for folder in given if folder is not None]
        for name, given in folders.items()
        if all(folder is not None and _is_certified(folder) for folder in given)
    }


def _is_certified(folder: Path) -> bool:
    return folder.is_dir() and Artefact.of(folder).certificates[-1].is_file()
