"""Recipes: the command line, configuration, tasks, metrics and experiments.

Imported as ``dpft.recipes``, although the folder stands at the top of the repository.
"""

if __name__ == "recipes":  # the root of a checkout on sys.path shadows a foreign distribution
    raise ImportError(
        "Expected import=dpft.recipes instead of recipes. The folder is a part of dpft. "
        "Write 'import dpft.recipes'."
    )

__all__: list[str] = []
