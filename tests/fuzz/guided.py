"""Feeds one parser with inputs that reach new code: `python tests/fuzz/guided.py TARGET OPTIONS`.

Options and folders of seeds are those of libFuzzer. Run by `tests/fuzz/test_parsers.py`.
"""

import sys
from pathlib import Path


def main() -> None:
    """Read inputs until the options say enough; whatever is raised ends the process."""
    import atheris

    sys.path.insert(0, str(Path(__file__).parents[2]))
    with atheris.instrument_imports(include=["dpft"]):
        from tests.fuzz.targets import TARGETS

    target = TARGETS[sys.argv[1]]

    def once(data: bytes) -> None:
        target.reads(data)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
