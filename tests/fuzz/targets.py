"""Every parser of a file that somebody else may have written, as a function of bytes.

A target returns, or raises an error of ours; whatever else it raises is a crash. Files lie in one
folder of this process. Seeds are valid, made here, and small: they are read some 100,000 times.
"""

import atexit
import dataclasses
import functools
import hashlib
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyarrow import parquet
from safetensors.torch import save

from dpft.accounting import Adjacency, Certificate, Composed, PoissonGaussian, RunRecord, Selection
from dpft.accounting.canonical_json import canonical, digest_of, parsed
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.ledger import Budget, Head, Ledger, Reservation
from dpft.accounting.ledger.chain import Entry, _hash
from dpft.accounting.ledger.state import State
from dpft.accounting.publication import Claim, Publication
from dpft.accounting.run_record import LedgerReference
from dpft.adapters.source_prompts import _load
from dpft.artefact_digest import note_of, read_header
from dpft.audit_statement import (
    AuditStatement,
    StatedAttack,
    StatedBounds,
    StatedConformance,
    StatedTest,
)
from dpft.charges import ChargesFile, fingerprint_of, has_failed, noted_steps, origin_of
from dpft.checkpoint import Checkpoint, Checkpoints, _digest
from dpft.checkpoint import _json as _json_of_state
from dpft.errors import BrokenGuaranteeError, ConfigurationError, LedgerError
from dpft.plain_yaml import plain_yaml
from dpft.preflight_statement import PreflightStatement, StatedCheck
from dpft.recipes.base_models import refuse_unsafe_model
from dpft.recipes.config.composition import settings_from_yaml
from dpft.recipes.merging.config_file import read as read_merge_config
from dpft.recipes.merging.formula import linear_form
from dpft.recipes.planning.memory import _weights
from dpft.recipes.tasks.tables import read_rows
from dpft.reporting.merges import _fields
from dpft.reporting.statement import read_statement
from dpft.taskvectors.adapter_file import CONFIG, WEIGHTS, adapter_config, shapes_in
from dpft.taskvectors.expression import Expression
from dpft.taskvectors.reading import Reading, leaf_of_folder
from tests.fuzz.mutation import Form

__all__ = ["TARGETS", "Target", "sealed"]

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
_HOME = Path(tempfile.mkdtemp(prefix="dpft-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Target:
    """A parser.

    Args:
        parse: What reads the bytes.
        seeds: Valid inputs.
        form: What they look like.
        refusals: What it may raise.
    """

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    form: Form = Form.JSON
    refusals: tuple[type[Exception], ...] = (ConfigurationError,)

    def reads(self, data: bytes) -> bool:
        """Return whether an input was read, false if it was refused; raise what is a crash."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # peft and SWIG speak of fields they do not know
                self.parse(data)
        except self.refusals:
            return False
        return True


def _run(name: str, **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "run_id": name,
        "dataset_id": "letters",
        "mechanism": PoissonGaussian(2.0, 0.1, 30),
        "adjacency": Adjacency.ADD_OR_REMOVE,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "auto_s",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "ChaCha20",
        "sampler": "Poisson",
        "accountant": "rdp",
        "versions": {"dpft": "0.1.0"},
        "excluded": ("The base model.",),
        "ledger": LedgerReference("0f" * 32, 4),
    }
    return RunRecord(**(fields | changes))


def _certificates() -> tuple[Certificate, ...]:
    first = Certificate((_run("one"),))
    base = Input(name="tiny", role=InputRole.BASE_MODEL, status=InputStatus.PUBLIC)
    inputs = (base, first.as_input("one", InputRole.ADAPTER))
    parts = (PoissonGaussian(2.0, 0.1, 30), Selection(0.5))
    second = _run("two", inputs=inputs, mechanism=Composed(parts))
    return first, first.with_release(second)


def _of_version_one() -> bytes:
    fields = _run("one").fields()
    left_out = ("divisor", "excluded", "ledger", "partition", "selection", "uses", "versions")
    run = {name: value for name, value in fields.items() if name not in left_out}
    return json.dumps({"format_version": 1, "runs": [run | {"inputs": ["tiny"]}]}).encode()


def _json(data: bytes) -> None:
    value = parsed("text", _text(data))
    assert parsed("text", canonical(value)) == value
    json.dumps(value, ensure_ascii=False).encode()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _certificate(data: bytes) -> None:
    read = Certificate.from_json(_text(data))
    assert Certificate.from_json(read.to_json()) == read
    assert read.is_bounded in {True, False}


def _publication(data: bytes) -> None:
    read = Publication.from_json(_text(data))
    assert Publication.from_json(read.to_json()) == read


@functools.cache
def _place(name: str) -> Path:
    path = _HOME / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _audit(data: bytes) -> None:
    """Read an audit; its digest is that of the rest, as whoever forges one would have it."""
    value = parsed("audit", _text(data))
    if isinstance(value, dict) and value.pop("sha256", None) is not None:
        value["sha256"] = digest_of(canonical(value))
    read = AuditStatement.from_json(canonical(value))
    assert AuditStatement.from_json(read.to_json()) == read
    assert read.problems is not None


def _stated_audit() -> bytes:
    bounds = StatedBounds(
        claimed=2.0, delta=1e-5, one_run=0.25, ceiling=1.5, independent=0.5, attainable=2.0
    )
    checks = (StatedTest("noise", 0.5, "as stated", passed=True, p_value=0.5),)
    made = AuditStatement(
        settings="0f" * 32,
        versions={"dpft": "0.1.0"},
        certificate="0f" * 32,
        conformance=StatedConformance(checks, ("resumption",)),
        attack=StatedAttack(100, _run("two"), bounds, bounds),
    )
    return made.to_json().encode()


def _in(name: str, data: bytes) -> Path:
    path = _place(name)
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123 - quicker, and called so often
        file.write(data)
    return path


def _charges(data: bytes) -> None:
    path = _in("charges.jsonl", data)
    origin_of(path), fingerprint_of(path), has_failed(path), noted_steps(path)
    ChargesFile(path, {"base model": "0f"}, steps=5).close()


def _state_of_checkpoint(data: bytes) -> None:
    try:
        content = sealed(json.loads(data))
    except (ValueError, RecursionError):
        content = data
    _in("checkpoints/step_000002/state.json", content)
    _newest("checkpoints")


def sealed(state: Any) -> bytes:
    """Return the state of a checkpoint with the digest that fits it."""
    if not isinstance(state, dict):
        return json.dumps(state).encode()
    fields = {name: value for name, value in state.items() if name != "digest"}
    return json.dumps(fields | {"digest": _digest(_json_of_state(fields))}).encode()


def _newest(folder: str) -> None:
    """Read a checkpoint; a damaged one is passed over, which counts as refused here."""
    if Checkpoints(_HOME / folder).newest(["a"], 4) is None:
        raise ConfigurationError(folder)


def _plain_of_checkpoint(data: bytes) -> None:
    folder = _HOME / "numbers/step_000002"
    state = json.loads((folder / "state.json").read_bytes())
    state["files"]["optimisation.json"] = hashlib.sha256(data).hexdigest()
    _in("numbers/step_000002/optimisation.json", data)
    _in("numbers/step_000002/state.json", sealed(state))
    _newest("numbers")


def _checkpoint(folder: str, name: str) -> bytes:
    made = Checkpoint(
        intended=2,
        updates=2,
        weights={"w": torch.zeros(2)},
        optimisation={"state": [{"step": 2.0, "average": torch.ones(2)}], "name": "adam"},
    )
    Checkpoints(_HOME / folder).save(made, "a")
    return (_HOME / folder / "step_000002" / name).read_bytes()


def _entries(data: bytes) -> None:
    """Read lines of a kind and a payload as entries whose numbers and hashes fit."""
    state = State()
    for line in data.split(b"\n"):
        kind, _, payload = _text(line).partition(" ")
        seq, previous = state.head.seq + 1, state.head.hash
        state.apply(Entry(seq, kind, payload, previous, _hash(seq, kind, payload, previous)))
    assert state.copy().datasets == state.datasets


def _ledger_file(data: bytes) -> None:
    with Ledger.read(_in("ledger.sqlite", data)) as ledger:
        assert ledger.state.datasets is not None


def _ledger() -> tuple[bytes, bytes]:
    """Return the file of a ledger, and its entries as lines."""
    path = _HOME / "seed.sqlite"
    with Ledger.open(path) as ledger:
        ledger.set_budget("mail", Budget(epsilon=8, delta=1e-5))
        ledger.declare_disjoint("mail", "calls", "two systems")
        ledger.reserve(Reservation.of("a", "mail", PoissonGaussian(2.0, 0.1, 3)))
        ledger.intend("a", ledger.attach("a"), upto=2)
        ledger.settle("a")
        lines = [f"{entry.kind} {entry.payload}".encode() for entry in ledger.entries()]
    return path.read_bytes(), b"\n".join(lines)


def _header(data: bytes) -> None:
    path = _in("header.safetensors", data)
    read_header(path), note_of(path), shapes_in(path)


def _config(data: bytes) -> None:
    adapter_config(_in(f"config/{CONFIG}", data).parent)


def _adapter(data: bytes) -> None:
    leaf_of_folder(_in(f"adapter/{WEIGHTS}", data).parent, Reading(on_uncertified="mark"))  # type: ignore[arg-type]  # as users write it


def _model_index(data: bytes) -> None:
    refuse_unsafe_model(_in("index/model.safetensors.index.json", data).parent)


def _model_config(data: bytes) -> None:
    refuse_unsafe_model(_in("model/config.json", data).parent)


def _rows(ending: str, data: bytes) -> None:
    read_rows(_in(f"rows{ending}", data), ["text", "label"])


def _parquet(**options: Any) -> bytes:
    table = pa.table({"text": ["a", "b", "a"], "label": [0, 1, 0]})
    file = io.BytesIO()
    parquet.write_table(table, file, **options)
    return file.getvalue()


_CERTIFICATES = tuple(each.to_json().encode() for each in _certificates())
_PUBLISHED = tuple(
    Publication(each, "0f" * 32, (Claim("rdp", 1e-4, 2.5), Claim("rdp", 1e-5, 3.0, 1e-3)))
    .to_json()
    .encode()
    for each in _certificates()
)
_CHECK = StatedCheck("clip bound", 1.0, 1.0, passed=True)
_PREFLIGHT = PreflightStatement((_CHECK,), "0f" * 32).to_json().encode()
_LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query"], "bias": "none"}
_PROMPT = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2, "task_type": "SEQ_CLS"}
_TENSORS = save(
    {
        "base_model.model.query.lora_A.weight": torch.ones(2, 4),
        "base_model.model.query.lora_B.weight": torch.ones(3, 2),
    },
    metadata={"format": "pt"},
)
_EXPRESSION = {
    "format": "dpft-task-vector/1",
    "form": "peft",
    "family": "weights",
    "base": {"name": "tiny", "digest": None},
    "heads": ["classifier"],
    "settings": {},
    "labels": None,
    "task_type": None,
    "layouts": {},
    "terms": [{"leaf": "0f", "coefficient": "1/2", "runs": ["one"], "history": {}}],
    "made_by": {"expression": {"a": "1/2"}, "method": "linear"},
}
_MERGE = {
    "merge_method": "ties",
    "base_model": "tiny",
    "models": [{"model": "runs/a", "parameters": {"weight": 1.0}}, {"model": "b"}],
    "parameters": {"lambda": 1.0, "normalize": False, "seed": 0, "density": 0.5},
    "dtype": "float32",
    "privacy": {"on_uncertified": "refuse"},
}
_SETTINGS = {
    "task": {"name": "embedded"},
    "adapter": {"name": "lora"},
    "architecture": {},
    "privacy": {"epsilon": 3.0, "delta": 1e-5, "epochs": 1.0},
    "optim": {},
    "performance": {},
    "run": {"seed": 3},
}
_CHARGED = (
    b'{"fingerprint": {"base model": "0f"}, "format_version": 2, "ledger": null, "run_id": "r"}\n'
    b'{"attach": 1, "name": "a"}\n{"intend": 1}\n{"intend": 2}\n'
)
_REPORT = (
    b"# Run\n\n| what | value |\n|---|---|\n| epsilon | 3 |\n\n## Checks before the first step\n\n"
    b"| check | value | tolerance | verdict |\n|---|---|---|---|\n| clip \\| | 1 | 1 | pass |\n\n"
    b"## Interruptions\n\n| starts | 1 |\n|---|---|\n| steps | 3 |\n"
)
_LEDGER_FILE, _LEDGER_LINES = _ledger()
_in(f"config/{WEIGHTS}", _TENSORS)
_in(f"adapter/{CONFIG}", json.dumps(_LORA).encode())
_in("index/config.json", b"{}")


def _dumped(*values: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(value).encode() for value in values)


_OF_FILE = (ConfigurationError, BrokenGuaranteeError)
TARGETS: dict[str, Target] = {
    "adapter configuration": Target(_config, _dumped(_LORA, _PROMPT)),
    "adapter tensors": Target(_adapter, (_TENSORS,), Form.FRAMED, _OF_FILE),
    "audit": Target(_audit, (_stated_audit(),)),
    "certificate": Target(_certificate, (*_CERTIFICATES, _of_version_one())),
    "charges": Target(_charges, (_CHARGED, _CHARGED + b'{"int'), Form.LINES, _OF_FILE),
    "checkpoint numbers": Target(
        _plain_of_checkpoint, (_checkpoint("numbers", "optimisation.json"),)
    ),
    "checkpoint state": Target(
        _state_of_checkpoint,
        (_checkpoint("checkpoints", "state.json"),),
        refusals=_OF_FILE,
    ),
    "expression": Target(
        lambda data: Expression.read(_in("vector/expression.json", data).parent),
        _dumped(_EXPRESSION),
    ),
    "formula": Target(
        lambda data: linear_form(_text(data)),
        (b"a + b - 0.5*c", b"analogy(a, 'x/y', c)/3", b"sum([a, -b]) * (1 - 2e-3)"),
        Form.BYTES,
    ),
    "head of a ledger": Target(
        lambda data: Head.parse(_text(data)), (b"0f" * 32 + b":7",), Form.BYTES
    ),
    "JSON": Target(_json, _dumped({"a": [1, 2.5, None, True], "b": {"c": "x"}})),
    "ledger entries": Target(_entries, (_LEDGER_LINES,), Form.LINES, (LedgerError,)),
    "ledger file": Target(_ledger_file, (_LEDGER_FILE,), Form.BYTES, (LedgerError,)),
    "merge configuration": Target(
        lambda data: read_merge_config(_in("merge.yaml", data)),
        (*_dumped(_MERGE), b"models:\n  - model: a\n    parameters: {weight: 0x1F}\n"),
    ),
    "merge description": Target(
        lambda data: _fields(_in("expression.json", data)),
        _dumped(_EXPRESSION),
    ),
    "model configuration": Target(_model_config, _dumped({"model_type": "bert", "hidden_size": 4})),
    "model index": Target(
        _model_index,
        _dumped({"metadata": {}, "weight_map": {"w": "model-00001-of-00002.safetensors"}}),
    ),
    "preflight": Target(lambda data: PreflightStatement.from_json(_text(data)), (_PREFLIGHT,)),
    "publication": Target(_publication, _PUBLISHED),
    "records in CSV": Target(
        functools.partial(_rows, ".csv"),
        (b'text,label\na,0\n"b, c",1\n', b'label,"text"\r\n0,"a\r\nb"\r\n'),
        Form.BYTES,
    ),
    "records in JSON lines": Target(
        functools.partial(_rows, ".jsonl"),
        (b'{"text": "a", "label": 0}\n{"label": 1, "text": "b", "more": [1]}\n',),
        Form.LINES,
    ),
    "records in Parquet": Target(
        functools.partial(_rows, ".parquet"),
        (_parquet(), _parquet(compression="zstd", use_dictionary=False)),
        Form.BYTES,
    ),
    "report of a run": Target(lambda data: read_statement(_text(data)), (_REPORT,), Form.BYTES),
    "run settings": Target(lambda data: settings_from_yaml(_text(data)), _dumped(_SETTINGS)),
    "size of a model": Target(
        lambda data: _weights(_in("weights.safetensors", data)), (_TENSORS,), Form.FRAMED
    ),
    "source prompt": Target(
        lambda data: _load(_in("prompt.safetensors", data)),
        (save({"prompt_embeddings": torch.ones(2, 3)}, metadata={"format": "pt"}),),
        Form.FRAMED,
    ),
    "tensors' header": Target(_header, (_TENSORS,), Form.FRAMED, _OF_FILE),
    "YAML": Target(
        lambda data: plain_yaml("file", _text(data)),
        (b"a: {b: [1, 2.5, null, 0x1F]}\nc: |\n  text\nd: 'x'\n", b'{"a": [true, 1e-5, "b"]}'),
    ),
}
