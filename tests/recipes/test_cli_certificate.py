"""`dpft certificate` shows, verifies and explains, without torch and with its exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpft.accounting import Adjacency, Certificate, PoissonGaussian, RunRecord
from dpft.accounting.ledger import Ledger, Reservation
from dpft.accounting.publication import Publication
from dpft.accounting.run_record import LedgerReference
from dpft.artefact_digest import tensors_digest, write_note
from dpft.recipes import cli

FILE = "adapter_model.safetensors"


def certificate(**changes: Any) -> Certificate:
    fields: dict[str, Any] = {
        "run_id": "0123456789abcdef",
        "dataset_id": "[letters]",
        "mechanism": PoissonGaussian(2.0, 0.1, 30),
        "adjacency": Adjacency.ADD_OR_REMOVE,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "auto_s",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "chacha20",
        "sampler": "poisson",
        "accountant": "rdp",
    }
    return Certificate((RunRecord(**{**fields, **changes}),))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return publish(tmp_path / "run", certificate())


def publish(folder: Path, made: Certificate) -> Path:
    adapter = folder / "adapter"
    adapter.mkdir(parents=True)
    header = json.dumps({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    header += b" " * (-len(header) % 8)
    content = len(header).to_bytes(8, "little") + header + bytes(range(8))
    (adapter / FILE).write_bytes(content)
    published = Publication.of(made, tensors_digest(adapter), 1e-4)
    for place in (folder, adapter):
        (place / "certificate.json").write_text(published.to_json() + "\n", encoding="utf-8")
    write_note(adapter / FILE, published.digest)
    return folder


def certified(*arguments: object) -> int:
    return cli.main(["certificate", *map(str, arguments)])


def test_show_prints_the_guarantee_and_the_runs(run: Path, capsys: Any) -> None:
    assert certified("show", run) == 0
    shown = capsys.readouterr().out
    assert "one record" in shown
    assert "add_or_remove" in shown
    assert "at delta 0.0001" in shown
    assert "[letters]" in shown
    assert "0123456789ab" in shown


def test_show_computes_epsilon_and_does_not_read_it(run: Path, capsys: Any) -> None:
    path = run / "certificate.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["claims"] = [{"accountant": "rdp", "delta": 1e-4, "epsilon": 0.0001}]
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert certified("show", run, "--json", "--delta", 1e-5) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["epsilon"] == certificate().epsilon(1e-5)
    assert shown["delta"] == 1e-5


def test_show_says_not_private_first(tmp_path: Path, capsys: Any) -> None:
    naked = publish(tmp_path / "naked", certificate(private=False, mechanism=None))
    assert certified("show", naked) == 0
    assert capsys.readouterr().out.startswith("NOT PRIVATE\n")
    assert certified("show", naked, "--json") == 0
    assert json.loads(capsys.readouterr().out)["epsilon"] is None


def test_verify_prints_every_check(run: Path, capsys: Any) -> None:
    for folder in (run, run / "adapter"):
        assert certified("verify", folder) == 0
        shown = capsys.readouterr().out
        assert "FAIL" not in shown
        for check in ("certificate in", "tensors", "metadata", "closure", "rates", "epsilon at"):
            assert check in shown
        assert shown.endswith("every claim holds\n")


@pytest.mark.parametrize("place", ["tensors", "certificate", "missing"])
def test_verify_exits_with_4_on_what_was_edited(run: Path, place: str, capsys: Any) -> None:
    if place == "tensors":
        path = run / "adapter" / FILE
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    elif place == "certificate":
        for path in (run / "certificate.json", run / "adapter" / "certificate.json"):
            path.write_text(path.read_text().replace('"steps":30', '"steps":3'), encoding="utf-8")
    else:
        (run / "certificate.json").unlink()
    assert certified("verify", run) == 4
    assert "FAIL" in capsys.readouterr().out
    assert certified("verify", run, "--json") == 4
    findings = json.loads(capsys.readouterr().out)
    assert not all(finding["passed"] for finding in findings)


def test_no_certificate_is_a_broken_guarantee_and_no_folder_a_wrong_argument(
    tmp_path: Path, capsys: Any
) -> None:
    for action in ("show", "verify", "explain"):
        assert certified(action, tmp_path) == 4
        assert certified(action, tmp_path / "nowhere") == 2
    assert certified("bless", tmp_path) == 2
    assert certified() == 2


def test_verify_asks_the_ledger(tmp_path: Path, capsys: Any) -> None:
    mechanism = PoissonGaussian(2.0, 0.1, 30)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger.reserve(Reservation.of("a run", "[letters]", mechanism))
        head = ledger.head
    quoted = publish(tmp_path / "a", certificate(ledger=LedgerReference(head.hash, head.seq)))
    other = publish(tmp_path / "b", certificate(ledger=LedgerReference("0f" * 32, head.seq)))
    assert certified("verify", quoted, "--ledger", tmp_path / "ledger.sqlite") == 0
    assert certified("verify", other, "--ledger", tmp_path / "ledger.sqlite") == 4
    assert certified("verify", quoted, "--ledger", tmp_path / "nowhere") == 2


def test_explain_prints_words(run: Path, capsys: Any) -> None:
    assert certified("explain", run / "adapter") == 0
    page = capsys.readouterr().out
    assert "# What this certificate promises" in page
    assert "**one record**" in page


def test_nothing_heavy_is_imported(run: Path) -> None:
    code = (
        "import sys\n"
        "from dpft.recipes import cli\n"
        "for action in ('show', 'verify', 'explain'):\n"
        "    assert cli.main(['certificate', action, sys.argv[1]]) == 0\n"
        "heavy = {'torch', 'transformers', 'peft', 'opacus', 'datasets', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
