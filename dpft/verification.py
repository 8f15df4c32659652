"""Computes again what a certificate says of the tensors beside it. No torch in here.

What can be verified: that the tensors are those the certificate was written for, that its numbers
follow from its mechanisms, that nothing it started from was left out. What cannot: that the
training was private. That is a statement by whoever publishes it.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from dpft.accounting import Certificate, DpftError, RunRecord
from dpft.accounting.canonical_json import LONGEST_JSON, digest_of, parsed
from dpft.accounting.inputs import InputStatus
from dpft.accounting.publication import Claim, Publication
from dpft.artefact_digest import note_of, tensor_files, tensors_digest
from dpft.audit_comparison import audit_problems
from dpft.audit_statement import AUDIT
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.preflight_statement import PREFLIGHT, PreflightStatement, digest_of_settings

__all__ = [
    "CERTIFICATE",
    "Artefact",
    "Finding",
    "holds_certificate",
    "read_certificate",
    "stated",
    "trusted",
    "verify",
    "verify_artefact",
]

CERTIFICATE = "certificate.json"
_METRIC = "-metric"
_TOLERANCE = 1e-6  # of an epsilon that is computed again, perhaps on another processor
_ERROR_OF_ERROR = 1e-6  # a difference of two epsilons, of which only the size matters
_OTHER_WEIGHTS = {".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".pickle", ".pkl", ".pt"}
_OTHER_WEIGHTS |= {".pth"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        check: What was checked.
        passed: Whether it holds.
        found: What was found, in public words.

    Privacy:
        Nothing, no data touched.
    """

    check: str
    passed: bool
    found: str


@dataclasses.dataclass(frozen=True)
class Artefact:
    """Released tensors and the certificates written for them.

    Args:
        folder: Where the tensors lie.
        certificates: The files that must be there, all of one content.

    Privacy:
        Nothing, no data touched.
    """

    folder: Path
    certificates: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path | str) -> "Artefact":
        """Find the artefact in a run folder, or in the folder of an adapter.

        Args:
            folder: Either of them.

        Raises:
            ConfigurationError: If there is no such folder.

        Privacy:
            Nothing, no data touched.
        """
        path = Path(folder)
        if not path.is_dir():
            raise ConfigurationError(
                f"Expected folder={path} to exist. There is nothing to verify. Name the folder of "
                "a run or of an adapter."
            )
        adapter = path / "adapter"
        if adapter.is_dir():
            return cls(adapter, (path / CERTIFICATE, adapter / CERTIFICATE))
        return cls(path, (path / CERTIFICATE,))


def holds_certificate(artefact: Artefact) -> bool:
    """Return whether tensors were released with a certificate, or say so themselves.

    Args:
        artefact: Where the tensors lie.

    Returns:
        True also where the certificate is lost, but the metadata of the tensors name one, or the
        folder of a run around them holds it.

    Raises:
        BrokenGuaranteeError: If a file of tensors is damaged.

    Privacy:
        Nothing, no data touched.
    """
    folder = artefact.folder.resolve()
    around = [folder.parent / CERTIFICATE] if folder.name == "adapter" else []
    if any(path.exists() for path in (*artefact.certificates, *around)):
        return True
    return any(note_of(path) is not None for path in sorted(folder.glob("*.safetensors")))


def trusted(artefact: Artefact) -> Publication:
    """Return the certificate of tensors that somebody starts from, if it is theirs.

    Args:
        artefact: Where the tensors lie.

    Returns:
        What was published. Its epsilon is computed anew by whoever composes it.

    Raises:
        BrokenGuaranteeError: If the certificate is missing, damaged, or of other tensors.

    Privacy:
        Nothing, no data touched (`tests/dpft/test_inheritance.py`).
    """
    return _believed(artefact, verify_artefact)


def stated(artefact: Artefact) -> Publication:
    """Return the certificate that tensors name in their headers; the tensors are not read.

    Args:
        artefact: Where the tensors lie.

    Returns:
        What was published. Whether it is of these tensors, `trusted` says.

    Raises:
        BrokenGuaranteeError: If the certificate is missing, damaged, or another one is named.

    Privacy:
        Nothing, no data touched (`test_a_dry_run_reads_no_tensor`).
    """
    return _believed(artefact, lambda there, written: (_notes(there, written), _others(there)))


def _believed(
    artefact: Artefact, check: Callable[[Artefact, Publication], tuple[Finding, ...]]
) -> Publication:
    findings = list(_written(artefact))
    if all(finding.passed for finding in findings):
        publication = Publication.from_json(_text(artefact.certificates[0]))
        findings += check(artefact, publication)
    wrong = [f"{each.check}: {each.found}" for each in findings if not each.passed]
    if wrong:
        raise BrokenGuaranteeError(
            f"Expected {artefact.folder} to hold tensors and their certificate ({'; '.join(wrong)}"
            "). What private records left in them would go uncounted. Take the folder from the "
            "original run."
        )
    return publication


def read_certificate(folder: Path | str) -> Certificate:
    """Read the certificate of a run or of an adapter, and check nothing but its form.

    Args:
        folder: Run folder, or folder of an adapter.

    Returns:
        The runs. What the file states of epsilon is not looked at.

    Raises:
        BrokenGuaranteeError: If there is none.
        ConfigurationError: If it is damaged, or of another version.

    Privacy:
        Nothing, no data touched.
    """
    path = Artefact.of(folder).certificates[0]
    if not path.is_file():
        raise BrokenGuaranteeError(
            f"Expected {path} to exist. Without a certificate nobody knows what the tensors may "
            "tell of private records. Take the folder from the original run."
        )
    return Certificate.from_json(_text(path))


def verify(
    folder: Path | str, *, ledger: Callable[[RunRecord], bool] | None = None
) -> tuple[Finding, ...]:
    """Compute every claim of a certificate again.

    Args:
        folder: Run folder, or folder of an adapter.
        ledger: Whether a ledger charged a run at the entry that it names; unset: not asked. A run
            that names none is then a claim that does not hold.

    Returns:
        One finding for each check.

    Raises:
        ConfigurationError: If there is no such folder.

    Privacy:
        Nothing, no data touched: released tensors and public numbers
        (`tests/dpft/test_verification.py`).
    """
    artefact = Artefact.of(folder)
    findings = list(_written(artefact))
    if not all(finding.passed for finding in findings):
        return tuple(findings)
    publication = Publication.from_json(_text(artefact.certificates[0]))
    return (
        *findings,
        *verify_artefact(artefact, publication),
        *_preflight(artefact, publication),
        *_audit(artefact, publication),
        _inputs(publication),
        _rates(publication),
        *(_claim(publication, claim) for claim in publication.claims),
        *(
            _error(publication, claim)
            for claim in publication.claims
            if claim.numerical_error is not None
        ),
        *_ledger(publication, ledger),
    )


def verify_artefact(artefact: Artefact, publication: Publication) -> tuple[Finding, ...]:
    """Check that tensors are those that a certificate was written for.

    Args:
        artefact: Where the tensors lie.
        publication: The certificate.

    Returns:
        The findings on digest, metadata and files without a digest.

    Privacy:
        Nothing, no data touched.
    """
    return (_tensors(artefact, publication), _notes(artefact, publication), _others(artefact))


def _written(artefact: Artefact) -> Iterator[Finding]:
    """Check that all certificates are there, readable, canonical and equal."""
    texts = []
    for path in artefact.certificates:
        name = f"certificate in {path.parent.name or '.'}"
        if not path.is_file():
            yield Finding(name, passed=False, found="missing")
            continue
        texts.append(_text(path))
        yield _canonical(name, _text(path))
    if len(artefact.certificates) > 1:
        equal = len(texts) == len(artefact.certificates) and len(set(texts)) == 1
        found = "equal" if equal else "they differ, or one is missing"
        yield Finding("certificates of run and adapter", equal, found)


def _canonical(name: str, text: str) -> Finding:
    try:
        canonical = Publication.from_json(text).to_json() + "\n" == text
    except DpftError as error:
        return Finding(name, passed=False, found=f"{error}{_version_of(text)}")
    return Finding(name, canonical, "in canonical form" if canonical else "not in canonical form")


def _version_of(text: str) -> str:
    """Say why a certificate of version 1 cannot be verified."""
    try:
        old = parsed("certificate", text).get("format_version") == 1
    except (DpftError, AttributeError):
        return ""
    return " Version 1 held no digest of tensors, so nothing ties it to these." if old else ""


def _tensors(artefact: Artefact, publication: Publication) -> Finding:
    try:
        found = tensors_digest(artefact.folder)
    except DpftError as error:
        return Finding("tensors", passed=False, found=str(error))
    equal = found == publication.tensors
    return Finding("tensors", equal, f"{'as' if equal else 'NOT as'} certified: {found[:16]}…")


def _notes(artefact: Artefact, publication: Publication) -> Finding:
    try:
        notes = {path.name: note_of(path) for path in tensor_files(artefact.folder)}
    except DpftError as error:
        return Finding("metadata of the tensors", passed=False, found=str(error))
    wrong = [name for name, note in notes.items() if note != publication.digest]
    found = f"{', '.join(wrong)} name another certificate or none" if wrong else "name this one"
    return Finding("metadata of the tensors", bool(notes) and not wrong, found)


def _others(artefact: Artefact) -> Finding:
    """Look for weights that the digest leaves out, but that somebody may load.

    They may stand beside the adapter of a run, or behind a link to another folder.
    """
    inside = [path for path in artefact.folder.rglob("*") if _escapes_digest(path)]
    around = {path.parent for path in artefact.certificates} - {artefact.folder}
    beside = [
        path
        for folder in around
        for path in folder.glob("*")
        if path.suffix in _OTHER_WEIGHTS | {".safetensors"}
    ]
    names = sorted(path.name for path in inside + beside)
    found = f"{', '.join(names)}: no digest covers them" if names else "none"
    return Finding("other files of weights", not names, found)


def _escapes_digest(path: Path) -> bool:
    return path.suffix in _OTHER_WEIGHTS or (path.is_symlink() and path.is_dir())


def _preflight(artefact: Artefact, publication: Publication) -> Iterator[Finding]:
    """Compare what a run stated of the time before its first step; a merge states nothing."""
    path = artefact.folder / PREFLIGHT
    name = "checks before the first step"
    if publication.preflight is None:
        if path.exists():
            yield Finding(name, passed=False, found=f"no digest covers {PREFLIGHT}")
        return
    text = _text(path) if path.is_file() else None
    equal = text is not None and digest_of(text) == publication.preflight
    found = "as certified" if equal else f"{PREFLIGHT} is missing, or NOT as certified"
    yield Finding(name, equal, found)
    if equal and text is not None and len(artefact.certificates) > 1:
        yield _settings(artefact.certificates[0].with_name("config.yaml"), text)


def _settings(path: Path, text: str) -> Finding:
    """Compare the settings file of a run; one that was made in Python has none."""
    try:
        stated = PreflightStatement.from_json(text).settings
    except DpftError as error:
        return Finding("settings", passed=False, found=str(error))
    equal = digest_of_settings(path) == stated
    found = "no settings file, as stated" if stated is None else "as certified"
    wrong = f"{path.name} is missing, was edited, or was added"
    return Finding("settings", equal, found if equal else wrong)


def _audit(artefact: Artefact, publication: Publication) -> Iterator[Finding]:
    """Ask of an audit that lies here whether it is of this run, and what it found."""
    path = artefact.certificates[0].with_name(AUDIT)
    if not path.exists():
        return
    problems = audit_problems(path, publication, _stated_settings(artefact, publication))
    found = "; ".join(problems) or "of this run; nothing was found against it"
    yield Finding("audit", not problems, found)


def _stated_settings(artefact: Artefact, publication: Publication) -> str | None:
    """Return the digest of the settings, if the certificate covers it."""
    path = artefact.folder / PREFLIGHT
    text = _text(path) if path.is_file() else ""
    if digest_of(text) != publication.preflight:
        return None
    return PreflightStatement.from_json(text).settings


def _inputs(publication: Publication) -> Finding:
    """Report what reading has checked already: a certificate that is not closed is refused."""
    runs = publication.certificate.runs
    states = [each.status for run in runs for each in run.inputs]
    counts = [f"{states.count(state)} {state.value}" for state in InputStatus]
    return Finding("closure of inputs", passed=True, found=f"{len(runs)} runs, {', '.join(counts)}")


def _rates(publication: Publication) -> Finding:
    """Report what reading has checked already: each rate is batch size by number of records."""
    known = [run for run in publication.certificate.runs if run.num_records is not None]
    found = f"{len(known)} of {len(publication.certificate.runs)} runs state N: rates fit"
    return Finding("sample rates", passed=True, found=found)


def _claim(publication: Publication, claim: Claim) -> Finding:
    name = f"epsilon at delta {claim.delta:.3g}"
    try:
        again = publication.certificate.epsilon(claim.delta, accountant=claim.accountant)
    except DpftError as error:
        return Finding(name, passed=False, found=str(error))
    same = again == claim.epsilon or math.isclose(again, claim.epsilon, rel_tol=_TOLERANCE)
    found = f"{again:.6g} by {claim.accountant}" + (
        "" if same else f", claimed {claim.epsilon:.6g}"
    )
    return Finding(name, same, found)


def _error(publication: Publication, claim: Claim) -> Finding:
    name = f"numerical error at delta {claim.delta:.3g}"
    try:
        again = publication.certificate.numerical_error(claim.delta)
    except DpftError as error:
        return Finding(name, passed=False, found=str(error))
    if again is None or claim.numerical_error is None:
        return Finding(name, passed=False, found="this certificate has none")
    same = abs(again - claim.numerical_error) <= _ERROR_OF_ERROR
    return Finding(name, same, f"{again:.2g}" + ("" if same else ", another was claimed"))


def _ledger(
    publication: Publication, knows: Callable[[RunRecord], bool] | None
) -> Iterator[Finding]:
    """Look every run up, if a ledger was given: one that names no entry was charged to nobody."""
    if knows is None:
        return
    for run in publication.certificate.runs:
        yield _entry(run, known=run.ledger is not None and knows(run))


def _entry(run: RunRecord, *, known: bool) -> Finding:
    name = f"ledger, run {run.run_id[:8]}{_METRIC * run.run_id.endswith(_METRIC)}"
    if run.ledger is None:
        return Finding(name, passed=False, found="names no entry of a ledger: not looked for")
    found = f"{'charged' if known else 'NOT charged'} by entry {run.ledger.entry}"
    return Finding(name, known, found)


def _text(path: Path) -> str:
    """Read text; what is no UTF-8, or too long, becomes text that no certificate consists of."""
    with path.open("rb") as file:
        return file.read(LONGEST_JSON + 1).decode(errors="replace")
