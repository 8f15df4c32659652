"""Makes our methods known to peft, without changing peft: by its own three tables.

peft's tables accept any key that compares like a string, but transformers also asks the key for
`.value` and `.name`. There is no entry point, so a method is known once `dpft.adapters` has been
imported, before peft or after it: see `when_peft_is_imported`. Imports peft only when told to.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from dpft.errors import ConfigurationError

__all__ = ["MethodType", "register_method", "when_peft_is_imported"]

_VENDOR = "DPFT_"


class MethodType(str):
    """Key of a method in peft's tables: a string that answers like a member of `PeftType`."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """The string itself."""
        return str(self)

    @property
    def name(self) -> str:
        """The string itself."""
        return str(self)


def register_method(method_type: MethodType, config: type[Any], tuner: type[Any]) -> None:
    """Enter a method into peft's tables; doing so twice changes nothing.

    Args:
        method_type: Key, as in `DPFT_BOTTLENECK`; its parameters' names begin with its lower case
            and an underscore, which transformers takes for granted.
        config: Class of its configuration, of `peft.PeftConfig`.
        tuner: Class of its tuner, of `peft.tuners.tuners_utils.BaseTuner`.

    Raises:
        ConfigurationError: If the key lacks our prefix, or peft knows another method by it.

    Privacy:
        Nothing, no data touched.
    """
    from peft import mapping
    from peft.utils import PeftType

    entries: dict[str, tuple[dict[Any, Any], Any]] = {
        "configuration": (mapping.PEFT_TYPE_TO_CONFIG_MAPPING, config),
        "tuner": (mapping.PEFT_TYPE_TO_TUNER_MAPPING, tuner),
        "prefix": (mapping.PEFT_TYPE_TO_PREFIX_MAPPING, f"{method_type.lower()}_"),
    }
    taken = [
        what for what, (table, ours) in entries.items() if table.get(method_type, ours) != ours
    ]
    if taken or method_type in PeftType.__members__ or not method_type.startswith(_VENDOR):
        raise ConfigurationError(
            f"Expected peft_type={method_type} to begin with {_VENDOR} and to be unknown to peft, "
            f"found another {', '.join(taken) or 'method'}. Files of one would load as the other. "
            "Choose another name, or another version of peft."
        )
    for table, ours in entries.values():
        table[method_type] = ours


def when_peft_is_imported(do: Callable[[], None]) -> None:
    """Call a function now if peft has been imported, else right after it will have been.

    Args:
        do: What to do; it may import peft.

    Privacy:
        Nothing, no data touched.
    """
    if "peft" in sys.modules:
        do()
    else:
        sys.meta_path.insert(0, _PeftFinder(do))


class _PeftFinder(MetaPathFinder):
    """Finds peft where everybody else does, and lets a function follow its import.

    It stays until peft has been imported: many only ask whether there is a peft.
    """

    def __init__(self, do: Callable[[], None]) -> None:
        self._do = do
        self._is_asking = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - as the interface has it
        target: ModuleType | None = None,  # noqa: ARG002 - as the interface has it
    ) -> ModuleSpec | None:
        if fullname != "peft" or self._is_asking:
            return None
        self._is_asking = True
        try:
            spec = find_spec(fullname)
        finally:
            self._is_asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenDo(spec.loader, self._finish)
        return spec

    def _finish(self) -> None:
        sys.meta_path.remove(self)
        self._do()


class _ThenDo(Loader):
    """A loader that calls a function after the module's own code ran."""

    def __init__(self, loader: Loader, do: Callable[[], None]) -> None:
        self._loader = loader
        self._do = do

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader  # nobody else should meet this one
        self._loader.exec_module(module)
        self._do()
