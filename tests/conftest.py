"""What every test shares: no network, one thread per worker, the optional assets."""

import atexit
import os
import shutil
import tempfile
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
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; read by torch when imported
    os.environ["OMP_NUM_THREADS"] = "1"


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
