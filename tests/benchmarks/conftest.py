"""The benchmarks lie beside the package, not in it: they are imported from the checkout."""

import importlib
import sys
from pathlib import Path

# First on the path while the package is found, because opacus installs a package of this name;
# not for longer, because the folders beside it must not shadow anything.
sys.path.insert(0, str(Path(__file__).parents[2]))
importlib.import_module("benchmarks")
del sys.path[0]
