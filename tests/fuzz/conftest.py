"""The targets lie beside their tests, and no folder of tests is a package."""

import importlib
import sys
from pathlib import Path

# First on the path while they are found, not for longer: nothing else is to be shadowed.
sys.path.insert(0, str(Path(__file__).parents[2]))
importlib.import_module("tests.fuzz.targets")
del sys.path[0]
