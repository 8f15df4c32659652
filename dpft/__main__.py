"""`python -m dpft` is the command `dpft`."""

import sys

from dpft.recipes.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
