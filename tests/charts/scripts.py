"""Loads a script that the chart ships: it is no module of any package."""

import importlib.util
from types import ModuleType

from tests.charts.conftest import SOURCE


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOURCE / "files" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
