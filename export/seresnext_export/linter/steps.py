"""Whether the server's Python has what a step imports."""

import ast
import importlib.util
import sys
from collections.abc import Iterator

from seresnext_export.linter.entry import REBUILD, Entry, Finding


def imports(entry: Entry) -> Iterator[Finding]:
    """What the step's source imports has to be there in the server's Python; this one stands for it."""
    for version in entry.versions:
        for path in sorted(version.glob("*.py")):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, ValueError) as error:
                yield Finding(file=str(path), cause=f"is not Python: {error}", mend=REBUILD)
                continue
            for module in sorted(_imported(tree)):
                if not (version / f"{module}.py").is_file() and not _importable(module):
                    mend = f"pip install it into the server's Python, as deploy/Dockerfile does ({sys.executable} here)"
                    yield Finding(file=str(path), cause=f"imports {module}, which is not installed", mend=mend)


def _imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - {"triton_python_backend_utils"}  # the backend's own


def _importable(module: str) -> bool:
    return module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None
