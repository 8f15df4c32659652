"""Finds the packages of the four mapped folders; everything else stands in pyproject.toml.

Why a file of its own: setuptools can list packages or find them below one root, but it cannot
find them below folders that are mapped to another import name.
"""

from pathlib import Path

from setuptools import setup

FOLDERS = {  # the same mapping as package-dir in pyproject.toml
    "dpft": "dpft",
    "dpft.accounting": "accounting",
    "dpft.adapters": "adapters",
    "dpft.recipes": "recipes",
}


def find_packages_below(package: str, folder: Path) -> list[str]:
    """Return ``package`` and its sub-packages, without following links out of ``folder``."""
    found = [package]
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.is_symlink() and (child / "__init__.py").is_file():
            found += find_packages_below(f"{package}.{child.name}", child)
    return found


root = Path(__file__).parent
setup(
    package_dir=FOLDERS,
    packages=[
        name
        for package, folder in FOLDERS.items()
        for name in find_packages_below(package, root / folder)
    ],
)
