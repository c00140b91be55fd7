"""Whether the server's Python has what a model of the python backend imports."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from seresnext_export.linter.model_directory import Finding, ModelDirectory

MODEL_CLASS = "TritonPythonModel"
BACKEND_MODULE = "triton_python_backend_utils"


def sources(model: ModelDirectory) -> Iterator[Finding]:
    """Yield sources that are not Python, imports that fail in this Python, which stands for the server's, and a model
    without its class.
    """
    for version in model.versions:
        for path in sorted(version.glob("*.py")):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
                yield Finding(file=str(path), cause=f"is not Python: {error}", fix=model.rebuild)
                continue
            if path.name == model.filename and MODEL_CLASS not in _names(tree):
                fix = f"define it: {model.filename} is what the backend runs"
                yield Finding(file=str(path), cause=f"has no class {MODEL_CLASS}", fix=fix)
            for module in sorted(_imported(tree.body)):
                if not any(_is_beside(folder, module) for folder in (version, model.folder)) and not _is_importable(
                    module
                ):
                    fix = f"install it into the server's Python, as deploy/Dockerfile does ({sys.executable} here)"
                    yield Finding(file=str(path), cause=f"imports {module}, which is not installed", fix=fix)


def _imported(nodes: list[ast.stmt]) -> set[str]:
    """Return the top-level modules that code imports when it runs, wherever the import stands."""
    modules: set[str] = set()
    pending: list[ast.AST] = list(nodes)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.partition(".")[0])
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            pending += node.orelse
        elif isinstance(node, ast.Try) and node.handlers:
            pending += [*node.handlers, *node.orelse, *node.finalbody]  # what is tried may fail
        else:
            pending += ast.iter_child_nodes(node)
    return modules - {BACKEND_MODULE}


def _names(tree: ast.Module) -> set[str]:
    """Return the names of classes, and of what is imported or assigned, anywhere in a file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            names |= {MODEL_CLASS if alias.name == "*" else alias.asname or alias.name for alias in node.names}
    return names


def _is_beside(folder: Path, module: str) -> bool:
    """Return whether a folder holds a module or a package of this name."""
    return (folder / f"{module}.py").is_file() or (folder / module).is_dir() or any(folder.glob(f"{module}.*.so"))


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _is_importable(module: str) -> bool:
    try:
        return module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a module without a specification, such as __main__
        return False
