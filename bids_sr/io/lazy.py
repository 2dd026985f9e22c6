"""Names of a package that are imported from its modules when they are first used.

A package that offers a few names of its modules can thus be imported without their libraries.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def import_on_use(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    `modules` has the names that each module defines, by the module's name relative to `package`.

    Examples
    --------
    >>> load = import_on_use("bids_sr.evaluation.statistics", {"multiple_comparisons": ["holm"]})
    >>> load("holm")([0.01, 0.04])
    [0.02, 0.04]
    """
    module_by_name = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> Any:
        if name not in module_by_name:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{module_by_name[name]}"), name)

    return load
