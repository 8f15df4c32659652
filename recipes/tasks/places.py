"""Where public data sets may lie: the assets folder, and whether the Hub may be asked."""

import os
from pathlib import Path

__all__ = ["ASSETS_VARIABLE", "HUB_MODEL", "assets_folder", "default_encoder", "hub_is_allowed"]

ASSETS_VARIABLE = "DPFT_ASSETS"
HUB_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def assets_folder() -> Path | None:
    """Return the folder that `$DPFT_ASSETS` names, None if it names none.

    Privacy:
        Nothing, no data touched.
    """
    named = os.environ.get(ASSETS_VARIABLE)
    return Path(named) if named else None


def hub_is_allowed() -> bool:
    """Return whether nobody switched the Hub off.

    Privacy:
        Nothing, no data touched.
    """
    return all(
        os.environ.get(name, "").upper() not in {"1", "ON", "YES", "TRUE"} for name in _OFFLINE
    )


def default_encoder() -> str:
    """Return the MiniLM encoder of the assets folder, else its Hub name.

    Privacy:
        Nothing, no data touched.
    """
    assets = assets_folder()
    local = assets / "models" / "minilm-l6" if assets is not None else None
    return str(local) if local is not None and local.is_dir() else HUB_MODEL
