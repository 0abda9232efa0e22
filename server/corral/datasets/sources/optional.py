"""Packages of the `data` group, imported when a command first needs one."""

import importlib
from typing import Any

from corral.errors import ToolError


def load(module: str) -> Any:
    """The module. Raises ToolError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ToolError(
            f"this command needs the Python package {error.name}; "
            "install the data group: pip install 'corral[data]'",
            code="missing_package",
        ) from None
