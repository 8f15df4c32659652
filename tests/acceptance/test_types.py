"""A user's ten lines under strict mypy, with dpft where pip puts it."""

import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

LINES = Path(__file__).with_name("ten_lines.py")


def checked(code: str, python: Path, folder: Path) -> str:
    """What strict mypy says of code, with the packages of an interpreter."""
    (folder / "mine.py").write_text(code, encoding="utf-8")
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\n", encoding="utf-8")
    options = ["--config-file=mypy.ini", "--cache-dir=cache", f"--python-executable={python}"]
    command = [sys.executable, "-m", "mypy", *options, "mine.py"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    ).stdout.strip()


@pytest.fixture(scope="module")
def python(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that finds dpft among installed packages, and ours after them."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dpft").symlink_to(repository / "dpft")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    return folder / "bin" / "python"


@pytest.mark.slow
def test_a_users_ten_lines_pass_strict_mypy_and_a_mistake_does_not(
    python: Path, tmp_path: Path
) -> None:
    lines = LINES.read_text(encoding="utf-8")
    assert "Success" in checked(lines, python, tmp_path)
    wrong = lines.replace("epsilon: float", "epsilon: str")
    assert wrong != lines
    assert 'has type "float", variable has type "str"' in checked(wrong, python, tmp_path)
