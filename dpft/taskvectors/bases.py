"""Which base model a delta belongs to, and whether two are the same."""

import dataclasses
import re
from pathlib import Path, PureWindowsPath

from dpft.errors import ConfigurationError

__all__ = ["BaseIdentity", "refuse_other_base"]

_ON_HUB = re.compile(r"(\w[\w.-]*(/\w[\w.-]*)?)?")  # whatever else there is may be a path


@dataclasses.dataclass(frozen=True)
class BaseIdentity:
    """Which base model a delta belongs to.

    Args:
        name: Name or folder; may be empty.
        digest: SHA-256 over the body's tensors; None if the model was not at hand.

    Privacy:
        Nothing, no data touched.
    """

    name: str
    digest: str | None

    def published(self) -> "BaseIdentity":
        """Return what may be written into a file: of a folder the last part, with a digest alone.

        Two folders of one last part may hold two models, so that without a digest there is none.

        Privacy:
            Nothing, no data touched. No path of this machine is published
            (`test_no_path_of_the_machine_is_published`).
        """
        if _ON_HUB.fullmatch(self.name) and not Path(self.name).is_dir():
            return self
        last = PureWindowsPath(self.name).name  # reads both kinds of slashes
        return BaseIdentity(last if self.digest else "", self.digest)


def refuse_other_base(one: BaseIdentity, other: BaseIdentity) -> None:
    """Refuse two base models that are not known to be one.

    Args:
        one: A base model.
        other: Another.

    Raises:
        ConfigurationError: If digests differ, or one is unknown and the names do not agree.

    Privacy:
        Nothing, no data touched.
    """
    known = one.digest is not None and other.digest is not None
    same = one.digest == other.digest if known else bool(one.name) and one.name == other.name
    if not same:
        raise ConfigurationError(
            f"Expected base={_shown(one)} to be {_shown(other)}. Deltas add up on one base model "
            "alone. Take adapters of the same model, or give base=MODEL when one is read."
        )


def _shown(base: BaseIdentity) -> str:
    return f"{base.name or 'unnamed'} ({(base.digest or 'no digest')[:12]})"
