"""The wheel holds the package ``dpft``, all of it and nothing else, and twice the same bytes."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

FOLDERS = ("dpft", "accounting", "adapters", "recipes")
BUILD_FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
SHIPPED_SUFFIXES = {".py", ".yaml", ".json", ".txt", ".safetensors", ".j2", ".typed"}


@pytest.fixture(scope="module")
def source(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that the checkout stays free of what a build leaves."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(
            repository / folder,
            copy / folder,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in BUILD_FILES:
        shutil.copy(repository / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel_names(source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[PurePosixPath]:
    """Paths inside the wheel, built without isolation and therefore without a network."""
    with zipfile.ZipFile(built(source, tmp_path_factory.mktemp("wheel"))) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]


def built(source: Path, target: Path, **environment: str) -> Path:
    """Build the wheel of some sources."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target)]
    result = subprocess.run(
        [*command, str(source)],
        cwd=target,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (wheel,) = target.glob("*.whl")
    return wheel


def shipped_files(source: Path) -> set[PurePosixPath]:
    """Where each source file must stand in the wheel."""
    found: set[PurePosixPath] = set()
    for folder in FOLDERS:
        for path in (source / folder).rglob("*"):
            relative = path.relative_to(source)
            through_link = relative.parts[0] == "dpft" and relative.parts[1] in FOLDERS
            if path.is_file() and path.suffix in SHIPPED_SUFFIXES and not through_link:
                found.add(PurePosixPath(*([] if folder == "dpft" else ["dpft"]), *relative.parts))
    return found


def test_wheel_provides_one_top_level_name(wheel_names: list[PurePosixPath]) -> None:
    top = {name.parts[0] for name in wheel_names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"dpft"}


def test_wheel_holds_every_source_and_data_file_once(
    source: Path, wheel_names: list[PurePosixPath]
) -> None:
    packaged = [name for name in wheel_names if name.parts[0] == "dpft"]
    assert len(packaged) == len(set(packaged))
    assert set(packaged) == shipped_files(source)


def test_wheel_is_typed_and_licensed(wheel_names: list[PurePosixPath]) -> None:
    assert PurePosixPath("dpft/py.typed") in wheel_names
    assert any(name.name == "LICENSE" for name in wheel_names)


def test_wheel_carries_the_mapped_packages_and_their_configuration(
    wheel_names: list[PurePosixPath],
) -> None:
    for folder in ("accounting", "adapters", "recipes"):
        assert PurePosixPath(f"dpft/{folder}/__init__.py") in wheel_names
    assert any(
        name.is_relative_to("dpft/recipes") and name.suffix == ".yaml" for name in wheel_names
    )


@pytest.mark.slow
def test_the_same_sources_give_the_same_wheel_in_any_folder_at_any_time(
    source: Path, tmp_path: Path
) -> None:
    digests = []
    for number, zone in enumerate(["UTC", "Asia/Tokyo"]):
        copy = tmp_path / f"a{'/b' * number}" / "sources"
        shutil.copytree(
            source, copy, symlinks=True, ignore=shutil.ignore_patterns("build", "*.egg-info")
        )
        for path in copy.rglob("*"):
            os.utime(path, (10**9 * (1 + number),) * 2, follow_symlinks=False)
        target = tmp_path / f"wheel{number}"
        target.mkdir()
        wheel = built(
            copy, target, SOURCE_DATE_EPOCH="1700000000", TZ=zone, PYTHONHASHSEED=str(number)
        )
        digests.append(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert digests[0] == digests[1]
