"""What our code imports, read and not run: imports in functions count too, for a step makes them when it is far on."""

import ast
import sys
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("nextpage", "feature_repo", "serving", "components", "pipelines")


def reached(start: Iterable[str], spared: Set[str] = frozenset()) -> tuple[set[str], dict[str, str]]:
    """Modules of ours that these import, but for the spared, and packages of others, each with a module that does."""
    ours: set[str] = set()
    others: dict[str, str] = {}
    left = list(start)
    while left:
        module = left.pop()
        path = source(module)
        if path is None or module in ours or module in spared:
            continue
        ours.add(module)
        left.extend(".".join(module.split(".")[:depth]) for depth in range(1, module.count(".") + 1))
        for imported, name in imports(path):
            top = imported.partition(".")[0]
            if top in PACKAGES:
                left.extend((imported, f"{imported}.{name}"))
            elif top not in sys.stdlib_module_names and top not in spared:
                others.setdefault(top, module)
    return ours, others


def source(module: str) -> Path | None:
    """The file of a module of ours; None where it is none, but perhaps a name in one."""
    stem = ROOT.joinpath(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import that a process makes; the name is empty where the module itself is imported."""
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        todo.extend(ast.iter_child_nodes(node))
