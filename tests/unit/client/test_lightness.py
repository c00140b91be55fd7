"""The client starts without heavy imports, runs where they are not installed, and changes nothing global."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import seresnext_client

HEAVY = ("torch", "onnx", "onnxruntime", "tensorrt", "matplotlib", "skimage", "seresnext_export", "seresnext_server")


def python(program: str) -> str:
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_client_runs_without_the_builders_packages() -> None:
    refused = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}, None)); "
    modules = "import seresnext_client.cli, seresnext_client.transports.grpc, seresnext_client.transports.http"
    assert python(f"{refused}{modules}; print('ok')") == "ok\n"


def test_help_imports_nothing_that_only_an_answer_needs() -> None:
    program = (
        "import sys\n"
        "from seresnext_client.cli import app\n"
        "try:\n    app(['classify', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "print(set({!r}) & set(sys.modules))\n"
    )
    needless = (
        *HEAVY,
        "grpc",
        "tritonclient.grpc",
        "tritonclient.http",
        "geventhttpclient",
        "urllib3",
        "PIL",
        "numpy",
        "rich",
    )
    assert python(program.format(needless)).splitlines()[-1] == "set()"


def test_one_protocol_does_not_import_the_other() -> None:
    program = (
        "import sys\n"
        "from seresnext_client.connect import connect\n"
        "from seresnext_client.transports.base import Timeouts, WireProtocol\n"
        "connect(None, WireProtocol({!r}), Timeouts())\n"
        "print({!r} in sys.modules)\n"
    )
    assert python(program.format("http", "grpc")) == "False\n"
    assert python(program.format("grpc", "geventhttpclient")) == "False\n"


def test_importing_the_library_changes_nothing_global() -> None:
    program = (
        "import gc, os\n"
        "environment, threshold = dict(os.environ), gc.get_threshold()\n"
        "import seresnext_client.cli, seresnext_client.transports.grpc, seresnext_client.transports.http\n"
        "import seresnext_client.benchmark.plots\n"
        "import matplotlib\n"
        "assert dict(os.environ) == environment\n"
        "assert gc.get_threshold() == threshold\n"
        "assert matplotlib.rcParams._get('backend') is matplotlib.rcsetup._auto_backend_sentinel\n"
    )
    python(program)


def test_the_modules_of_the_client_import_each_other_without_cycles() -> None:
    package = Path(seresnext_client.__file__).parent
    imports = {
        ".".join(("seresnext_client", *path.relative_to(package).with_suffix("").parts)): imported_modules(path)
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    TopologicalSorter(imports).prepare()  # raises CycleError


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the client that a file imports anywhere but under TYPE_CHECKING."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("seresnext_client"):
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules
