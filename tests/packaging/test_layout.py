"""The top-level folders are importable under ``dpft`` only, and all of their packages ship."""

import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

MAPPED_FOLDERS = ("accounting", "adapters", "recipes")


@pytest.fixture(scope="module")
def build_arguments(repository: Path) -> dict[str, Any]:
    """What setup.py hands to setuptools, caught before anything is built."""
    caught: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setuptools.setup", caught.update)
        runpy.run_path(str(repository / "setup.py"))
    return caught


def run_python(code: str, folder: Path) -> str:
    """What ``code`` prints in a fresh interpreter started in ``folder``."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def packages_on_disk(repository: Path) -> set[str]:
    """Every folder with Python files in it, by import name; walked unlike setup.py does."""
    files = [
        path.relative_to(repository)
        for folder in ("dpft", *MAPPED_FOLDERS)
        for path in (repository / folder).rglob("*.py")
    ]
    own = [path for path in files if path.parts[:2] not in {("dpft", n) for n in MAPPED_FOLDERS}]
    names = {".".join(path.parent.parts) for path in own}
    return {name if name.split(".")[0] == "dpft" else f"dpft.{name}" for name in names}


def test_every_folder_with_python_files_is_a_shipped_package(
    repository: Path, build_arguments: dict[str, Any]
) -> None:
    packages = build_arguments["packages"]
    assert len(packages) == len(set(packages))
    assert set(packages) == packages_on_disk(repository)


def test_setup_and_pyproject_map_the_same_folders(
    repository: Path, build_arguments: dict[str, Any]
) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    assert build_arguments["package_dir"] == project["tool"]["setuptools"]["package-dir"]


@pytest.mark.parametrize("folder", MAPPED_FOLDERS)
def test_link_in_package_leads_to_top_level_folder(repository: Path, folder: str) -> None:
    link = repository / "dpft" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..") / folder
    assert (link / "__init__.py").samefile(repository / folder / "__init__.py")


@pytest.mark.parametrize("folder", MAPPED_FOLDERS)
def test_bare_import_is_refused_and_names_the_right_one(repository: Path, folder: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"import {folder}"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "ImportError: Expected" in result.stderr
    assert f"import dpft.{folder}" in result.stderr


def test_installed_package_is_importable_from_elsewhere(tmp_path: Path) -> None:
    imports = ", ".join(f"dpft.{folder}" for folder in MAPPED_FOLDERS)
    run_python(f"import dpft, {imports}", tmp_path)


@pytest.mark.parametrize("module", ["dpft", "dpft.accounting", "dpft.recipes.cli"])
def test_light_import_leaves_heavy_libraries_alone(module: str, tmp_path: Path) -> None:
    heavy = {"torch", "transformers", "peft", "opacus", "datasets"}
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    assert not run_python(code, tmp_path).split()
