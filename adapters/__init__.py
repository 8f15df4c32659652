"""Adapters: the parameter-efficient methods, their targets and the algebra of their deltas.

Imported as ``dpft.adapters``, although the folder stands at the top of the repository. torch and
peft are imported when an adapter is configured or built, never by importing this package.
"""

if __name__ == "adapters":  # the root of a checkout on sys.path shadows a foreign distribution
    raise ImportError(
        "Expected import=dpft.adapters instead of adapters. The bare name belongs to another "
        "distribution. Write 'import dpft.adapters'."
    )

from dpft.adapters.registry import AdapterName, build, config, register

__all__ = ["AdapterName", "build", "config", "register"]
