"""What crashed, hung or reached too far once; each is refused by an error of ours."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save, save_file

from dpft.accounting import Certificate
from dpft.accounting.canonical_json import LONGEST_JSON, parsed, text_problems
from dpft.accounting.ledger import Ledger
from dpft.accounting.ledger.chain import START, Entry
from dpft.accounting.ledger.state import State
from dpft.accounting.publication import Publication
from dpft.artefact_digest import read_header
from dpft.charges import ChargesFile, fingerprint_of, origin_of
from dpft.checkpoint import Checkpoint, Checkpoints
from dpft.errors import BrokenGuaranteeError, ConfigurationError, LedgerError
from dpft.plain_yaml import plain_yaml
from dpft.recipes.base_models import base_model_path, stored_config, stored_tokenizer
from dpft.recipes.config.composition import settings_from_yaml
from dpft.recipes.planning.memory import parameters_in
from dpft.recipes.tasks import tables
from dpft.run_folder import RunFolder
from dpft.taskvectors.adapter_file import CONFIG, WEIGHTS, adapter_config, shapes_in
from dpft.taskvectors.streaming import difference
from dpft.verification import CERTIFICATE, verify
from tests.fuzz.targets import TARGETS, sealed

ENDLESS = (
    "CREATE VIEW entries AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i seq, 'a' kind, '{}' payload, 'b' previous, 'c' hash FROM n"
)
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query"]}
JSON_BOMBS = {
    "deep": "[" * 100_000,
    "deep and whole": "[" * 200 + "]" * 200,
    "infinite": '{"a": 1e999999}',
    "a constant": '{"a": NaN}',
    "many digits": f'{{"a": {"9" * 5000}}}',
    "beyond 64 bits": f'{{"a": {2**64}}}',
    "a key twice": '{"a": 1, "a": 2}',
    "half a letter": '{"a": "\\ud800"}',
    "half a letter as key": '{"\\udfff": 1}',
    "endless": "[" + "0," * (LONGEST_JSON // 2) + "0]",
}
YAML_BOMBS = {
    "laughs": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "an anchor": "a: &a 1",
    "merging": "a: &a {b: 1}\nc:\n  <<: *a",
    "python": "a: !!python/object/apply:os.system ['true']",
    "a path": "a: !!python/object/apply:pathlib.Path [/etc/passwd]",
    "a set": "a: !!set {b: }",
    "bytes": "a: !!binary aGk=",
    "a broken date": "a: !!timestamp 2001-99-99",
    "no number": "a: 0b_",
    "no letter": 'a: "\\U00110000"',
    "the environment": "a: ${oc.env:HOME}",
    "deep": "[" * 100_000,
    "deep in lines": "\n".join(" " * number + "a:" for number in range(30)),
    "endless": "a: " + "x" * (128 << 10),
    "a number alone": "1",
    "a text alone": "text",
    "a key that is a number": "1: 2",
    "a key twice": "a: 1\na: 2",
}
LOADING: dict[str, dict[str, Any]] = {
    "a module": {"megatron_config": {"a": 1}, "megatron_core": "os"},
    "a pickle": {"prompt_tuning_init_state_dict_path": "/tmp/x.bin"},  # noqa: S108 - never opened
    "code of a tokenizer": {"tokenizer_kwargs": {"trust_remote_code": True}},
    "folders": {"source_folders": {"a": ["/etc", None]}},
    "a source elsewhere": {"sources": ["../other"]},
    "other adapters": {"adapters": {"0": "/etc"}},
    "an endless search": {"target_modules": "(a+)+$"},
    "an endless search by rank": {"rank_pattern": {"(a|a)*$": 4}},
    "many repetitions": {"exclude_modules": ".*" * 20},
}


@pytest.mark.parametrize("text", JSON_BOMBS.values(), ids=JSON_BOMBS)
def test_json_that_overflows_anything_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parsed("text", text)
    assert len(str(refused.value)) < 1000


def test_what_is_written_can_be_read_again() -> None:
    assert parsed("text", json.dumps({"a": [1.5, 2**64 - 1, "ü", None]})) is not None
    assert text_problems("name", "\ud800")
    assert not text_problems("name", "ü")


@pytest.mark.parametrize("text", YAML_BOMBS.values(), ids=YAML_BOMBS)
def test_yaml_makes_nothing_but_values(text: str) -> None:
    with pytest.raises(ConfigurationError, match="YAML of values"):
        plain_yaml("file", text)


def test_yaml_of_values_is_read_as_it_was_written() -> None:
    text = "a: 1e-5\nb: [1, .5, .inf, yes, ~, 2001-01-01]\nc: {d: 'x', e: }\n"
    values = {"a": 1e-5, "b": [1, 0.5, float("inf"), True, None, "2001-01-01"]}
    assert plain_yaml("file", text) == values | {"c": {"d": "x", "e": None}}
    assert plain_yaml("file", "") == {}


def test_settings_of_a_stranger_name_no_class_and_no_variable() -> None:
    groups = "privacy: {epsilon: 3, delta: 1e-5, epochs: 1}\noptim: {}\nperformance: {}\nrun: {}\n"
    sound = f"task: {{name: embedded}}\nadapter: {{name: lora}}\narchitecture: {{}}\n{groups}"
    assert settings_from_yaml(sound).privacy.epsilon == 3
    for wrong in (
        sound.replace("{name: lora}", "{name: lora, _target_: os.system}"),
        sound.replace("{name: lora}", "{name: ${oc.env:HOME}}"),
        sound.replace("{name: lora}", "{name: dpft.adapters.lora}"),
        sound.replace("{name: lora}", "lora"),
        sound + "model: [1]\n",
        "task: 3",
    ):
        with pytest.raises(ConfigurationError):
            settings_from_yaml(wrong)


@pytest.fixture
def adapter(tmp_path: Path) -> Callable[..., Path]:
    """Write the folder of an adapter with other fields."""

    def made(**changes: Any) -> Path:
        (tmp_path / CONFIG).write_text(json.dumps(LORA | changes), encoding="utf-8")
        save_file({"query.lora_A.weight": torch.ones(2, 2)}, tmp_path / WEIGHTS)
        return tmp_path

    return made


@pytest.mark.parametrize("changes", LOADING.values(), ids=LOADING)
def test_a_configuration_that_loads_anything_is_refused(
    adapter: Callable[..., Path], changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=f"without {next(iter(changes))}"):
        adapter_config(adapter(**changes))


def test_configurations_that_we_write_are_read(adapter: Callable[..., Path]) -> None:
    pattern = r"(.*\.)?layer\.\d+\.(attention\.)?output\.dense"
    assert adapter_config(adapter(target_modules=pattern)).target_modules == pattern
    assert adapter_config(adapter(loftq_config={}, megatron_core="megatron.core")).r == 2


def test_weights_that_would_be_unpickled_are_no_adapter(adapter: Callable[..., Path]) -> None:
    folder = adapter()
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(ConfigurationError, match="other formats run code"):
        adapter_config(folder)


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}},
        {"w": {"dtype": "F32", "shape": [2**40, 2**40, 0], "data_offsets": [0, 0]}},
        {"\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
        {"__metadata__": {"\ud800": "x"}, "w": {"dtype": "F32", "shape": [], "data_offsets": [0]}},
        {"__metadata__": ["x"]},
        {"w": {"dtype": "F32", "shape": [10**400], "data_offsets": [0, 4]}},
    ],
)
def test_headers_that_overflow_are_refused(tmp_path: Path, header: dict[str, Any]) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(BrokenGuaranteeError, match="whole safetensors file"):
        shapes_in(tmp_path / "x.safetensors")


def test_the_length_of_a_header_is_believed_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(BrokenGuaranteeError, match="whole safetensors file"):
        read_header(path)
    with pytest.raises(ConfigurationError, match="safetensors file"):
        parameters_in(tmp_path)


def test_certificates_of_too_many_runs_or_claims_are_refused() -> None:
    (published,) = (seed for seed in TARGETS["publication"].seeds if seed.count(b"run_id") == 1)
    fields = json.loads(published)
    fields["claims"] *= 100
    with pytest.raises(ConfigurationError, match="at most 16"):
        Publication.from_json(json.dumps(fields))
    runs = [fields["runs"][0] | {"run_id": f"{number}"} for number in range(1001)]
    with pytest.raises(ConfigurationError, match="at most 1000 runs"):
        Certificate.from_fields({"format_version": 2, "runs": runs})


def test_a_certificate_of_another_adapter_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / WEIGHTS)
    published = TARGETS["publication"].seeds[0].decode()
    (tmp_path / CERTIFICATE).write_text(published + "\n", encoding="utf-8")
    found = {each.check: each.passed for each in verify(tmp_path)}
    assert not found["tensors"]
    assert not found["metadata of the tensors"]


@pytest.mark.parametrize("content", [b"\xff", b" " * (LONGEST_JSON + 1), b"[" * 100_000])
def test_verifying_any_file_gives_findings(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CERTIFICATE).write_bytes(content)
    assert not all(each.passed for each in verify(tmp_path))


def test_the_first_line_of_charges_may_be_anything(tmp_path: Path) -> None:
    path = tmp_path / "charges.jsonl"
    for line in (b"[" * 100_000, b"[1]", b"\xff", b'{"fingerprint": 3}', b""):
        path.write_bytes(line + b"\n")
        assert origin_of(path) is None
        assert fingerprint_of(path) == {}
        with pytest.raises(BrokenGuaranteeError, match="to be whole"):
            ChargesFile(path, {}, 3)


def test_metrics_of_another_shape_are_refused(tmp_path: Path) -> None:
    for content in ("[]", "[" * 100_000, '{"a": NaN}'):
        (tmp_path / "metrics.json").write_text(content, encoding="utf-8")
        with pytest.raises(ConfigurationError):
            RunFolder(tmp_path).read_metrics()


def test_a_checkpoint_opens_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Checkpoint(intended=2, updates=2, weights={"w": torch.ones(1)}, optimisation={})
    Checkpoints(tmp_path / "checkpoints").save(made, "a")
    state = tmp_path / "checkpoints" / "step_000002" / "state.json"
    fields = json.loads(state.read_text(encoding="utf-8"))
    fields["files"]["../../elsewhere"] = "0" * 64
    state.write_bytes(sealed(fields))
    opened: list[str] = []
    whole = Path.read_bytes

    def noted(self: Path) -> bytes:
        opened.append(self.name)
        return whole(self)

    monkeypatch.setattr(Path, "read_bytes", noted)
    assert Checkpoints(tmp_path / "checkpoints").newest(["a"], 4) is None
    assert "elsewhere" not in opened
    state.write_text("[" * 100_000, encoding="utf-8")
    assert Checkpoints(tmp_path / "checkpoints").newest(["a"], 4) is None


def edited_ledger(path: Path, *statements: str) -> None:
    with Ledger.open(path):
        pass
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("PRAGMA ignore_check_constraints=ON")
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE VIEW v AS SELECT 1",),
        ("DROP TRIGGER entries_no_update", "UPDATE entries SET payload = x'ff'"),
        (
            "ALTER TABLE entries RENAME TO other",
            ENDLESS,
        ),
        ("UPDATE sqlite_master SET sql = x'ff'",),
    ],
    ids=["a view", "bytes for text", "an endless view", "a schema of bytes"],
)
def test_a_ledger_that_answers_otherwise_is_refused(
    tmp_path: Path, statements: tuple[str, ...]
) -> None:
    path = tmp_path / "ledger.sqlite"
    edited_ledger(path, *statements)
    with pytest.raises(LedgerError), Ledger.read(path) as ledger:
        assert ledger.state.head.seq >= 0


def test_bytes_in_the_place_of_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path):
        pass
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints=ON")
    (guard,) = connection.execute(
        "SELECT sql FROM sqlite_master WHERE name = 'entries_no_update'"
    ).fetchone()
    connection.execute("DROP TRIGGER entries_no_update")
    connection.execute("UPDATE entries SET payload = x'ff00'")
    connection.execute(guard)
    connection.close()
    with pytest.raises(LedgerError, match="numbers and texts"), Ledger.read(path) as ledger:
        assert ledger.state.head.seq >= 0


def test_entries_that_name_a_data_set_by_a_number_are_refused() -> None:
    state = State()
    state.apply(Entry.after(START, "ledger", {"ledger_id": "a"}))
    budget = {"epsilon": 8.0, "delta": 1e-5, "plans": "adaptive", "dataset": 3}
    with pytest.raises(LedgerError, match="name data sets by texts"):
        state.apply(Entry.after(state.head, "budget", budget))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of something like a model."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    "shard", ["../model.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", 3]
)
def test_an_index_names_files_beside_it(model: Path, shard: object) -> None:
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "model.safetensors"}}), encoding="utf-8")
    assert base_model_path(str(model))
    index.write_text(json.dumps({"weight_map": {"w": shard}}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="safetensors files beside it"):
        base_model_path(str(model))


def test_a_model_that_is_another_or_pickled_is_refused(model: Path) -> None:
    (model / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": int(1e30)}), encoding="utf-8"
    )
    assert base_model_path(str(model))  # as many tokenizers have it
    named = model / "adapter_config.json"
    named.write_text('{"base_model_name_or_path": "/elsewhere"}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="another model"):
        base_model_path(str(model))
    named.unlink()
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match="may run code"):
        base_model_path(str(model))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "\ud800", "x"])
def test_a_model_whose_configuration_is_damaged_is_refused(model: Path, text: str) -> None:
    (model / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigurationError):
        base_model_path(str(model))


def test_code_of_a_model_is_never_run(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Tokenizer", None]}
    for name in ("config.json", "tokenizer_config.json"):
        fields = {"model_type": "evil", "auto_map": own, "tokenizer_class": "Evil"}
        (model / name).write_text(json.dumps(fields), encoding="utf-8")
    (model / "evil.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    for read in (stored_config, stored_tokenizer):
        with pytest.raises(ConfigurationError, match="transformers reads"):
            read(str(model))
    assert "y/N" not in capsys.readouterr().out  # nobody is asked either


@pytest.mark.parametrize("text", ["[1]", '{"id2label": [1]}', '{"id2label": {"x": "a"}}', "["])
def test_a_difference_of_folders_with_damaged_configurations_is_refused(
    model: Path, text: str
) -> None:
    (model / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="configuration of a model"):
        difference(model, model)


def test_a_difference_of_damaged_tensors_is_refused(model: Path) -> None:
    (model / "model.safetensors").write_bytes(save({"w": torch.ones(2)})[:-1])
    with pytest.raises(ConfigurationError, match="whole safetensors file"):
        difference(model, model)


def test_parquet_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"text": ["a" * 1000] * 20_000}), path)
    assert path.stat().st_size < 10_000  # twenty million letters
    assert len(tables.read_rows(path, ["text"])) == 20_000
    with monkeypatch.context() as patch:
        patch.setattr(tables, "_MOST_BYTES", 10_000_000)
        with pytest.raises(ConfigurationError, match="to hold at most"):
            tables.read_rows(path, ["text"])
    monkeypatch.setattr(tables, "_MOST_ROWS", 19_999)
    with pytest.raises(ConfigurationError, match="to hold at most 19999 rows"):
        tables.read_rows(path, ["text"])


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MOST_BYTES", 3)
    (tmp_path / "x.csv").write_text("text\na\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="to hold at most"):
        tables.read_rows(tmp_path / "x.csv", ["text"])


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(save({"w": torch.ones(1)}))
    os.mkfifo(tmp_path / CONFIG)
    with pytest.raises(ConfigurationError, match="to hold adapter_config"):
        adapter_config(tmp_path)
    os.mkfifo(tmp_path / CERTIFICATE)
    assert not all(each.passed for each in verify(tmp_path))
