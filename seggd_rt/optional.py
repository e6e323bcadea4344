"""Import an optional dependency, without its reporting that, or say which `pip install` brings it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from seggd_rt.errors import MissingExtraError
from seggd_rt.telemetry import silenced


def require(module: str, *, extra: str, feature: str) -> ModuleType:
    """Import `module`, which the extra `extra` installs and `feature` needs.

    Raises
    ------
    MissingExtraError
        The package that holds `module` is not installed. A package that is installed but broken
        keeps its own ImportError.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise MissingExtraError(
            f"{feature} needs the package that provides '{module}', which is not installed: "
            f"pip install 'seggd-rt[{extra}]'"
        )
    with silenced(module):
        return importlib.import_module(module)
