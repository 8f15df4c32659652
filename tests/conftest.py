"""What every test shares: no network, one thread per worker, the optional assets, quick forks."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

# Machines are shared and noisy: no test may fail by being slow.
hypothesis.settings.register_profile(
    "shared",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("shared")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# No test leaves a key in the home of whoever runs it, or books a run in their ledger.
os.environ["DPFT_PRIVATE"] = tempfile.mkdtemp(prefix="dpft-private-")
atexit.register(shutil.rmtree, os.environ["DPFT_PRIVATE"], ignore_errors=True)
os.environ.pop("DPFT_LEDGER", None)
_FORKING = """
import json, os, sys, traceback
exec(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, name in enumerate(["/dev/null", job["out"], job["err"]]):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        os.chdir(job["cwd"])
        sys.argv = ["-c", *job["argv"]]
        code = 0
        try:
            exec(compile(job["code"], "<code>", "exec"), {"__name__": "__main__"})
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if not isinstance(end.code, int | None):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class _Interpreter:
    """A process that has imported something, and runs each piece of code in a fork of itself."""

    def __init__(self, preload: str, folder: Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKING, preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._jobs, self._answers = self._process.stdin, self._process.stdout
        assert self._answers.readline() == "ready\n"

    def __call__(
        self, code: str, *argv: object, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        for path in (self._out, self._err):
            path.unlink(missing_ok=True)
        job = {"code": code, "argv": list(map(str, argv)), "cwd": str(cwd or Path.cwd())}
        self._jobs.write(json.dumps({**job, "out": str(self._out), "err": str(self._err)}) + "\n")
        self._jobs.flush()
        status, said = int(self._answers.readline()), self._err.read_text()
        sys.stderr.write(said)  # for whoever reads of a failed test
        return subprocess.CompletedProcess([], status, self._out.read_text(), said)

    def close(self) -> None:
        self._jobs.close()
        self._process.wait()
        self._answers.close()


if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; read by torch when imported
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _no_ledger_for_all_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Runs of different tests share no ledger: none is made in a folder that anybody may write."""
    tmp_path_factory.getbasetemp().chmod(0o1777)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` where no CUDA device is present."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real data sets and models named by DPFT_ASSETS."""
    folder = os.environ.get("DPFT_ASSETS")
    if not folder:
        pytest.skip("DPFT_ASSETS names no folder with the real data sets and models")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(
            f"Expected DPFT_ASSETS={folder} to be a folder. Unset it or name an existing one."
        )
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def beside_transformers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    """Run code in a new process that has torch and transformers, but neither peft nor ours.

    To import these two takes eight CPU seconds, a fork of a process that has them none.
    """
    preload = (
        "import sys, torch, transformers.modeling_utils, transformers.models.bert.modeling_bert"
    )
    check = "assert not {'dpft', 'peft'} & set(sys.modules)"
    interpreter = _Interpreter(f"{preload}\n{check}", tmp_path_factory.mktemp("forks"))
    yield interpreter
    interpreter.close()


@pytest.fixture(scope="session")
def beside_hydra(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    """Run code in a new process that has what the command line needs to refuse, but not ours."""
    preload = "import sys, hydra, jinja2, numpy, pydantic, rich.table, scipy.stats"
    check = "assert not {'dpft', 'peft', 'torch'} & set(sys.modules)"
    interpreter = _Interpreter(f"{preload}\n{check}", tmp_path_factory.mktemp("forks"))
    yield interpreter
    interpreter.close()


@pytest.fixture(scope="session")
def beside_everything(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    """Run code in a new process that has imported what training, reports and ledgers need."""
    preload = """
import dpft.recipes.cli.training_output, dpft.recipes.cli.tune, dpft.recipes.cli.ledger
import dpft.reporting.writing, dp_accounting, rich.table, scipy.stats, sklearn.metrics
import transformers.models.bert.modeling_bert, transformers.models.llama.modeling_llama
import pytest_socket; pytest_socket.disable_socket(allow_unix_socket=True)
"""
    interpreter = _Interpreter(preload, tmp_path_factory.mktemp("forks"))
    yield interpreter
    interpreter.close()
