"""The client is light: it starts without anything heavy, and runs where that is not installed."""

import subprocess
import sys

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
        "from seresnext_client.classifier import connect\n"
        "from seresnext_client.transports.base import Timeouts, WireProtocol\n"
        "connect(None, WireProtocol({!r}), Timeouts())\n"
        "print({!r} in sys.modules)\n"
    )
    assert python(program.format("http", "grpc")) == "False\n"
    assert python(program.format("grpc", "geventhttpclient")) == "False\n"


def test_every_public_name_can_be_had_twice() -> None:
    """A module of the same name would take its place once it is imported."""
    program = (
        "import inspect, seresnext_client as package\n"
        "for _ in range(2):\n"
        "    print(any(inspect.ismodule(getattr(package, name)) for name in package.__all__))\n"
    )
    assert python(program) == "False\nFalse\n"
