"""What of the embedded server is not there is named before anything starts."""

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from seresnext_server import installation
from seresnext_server.errors import MissingPrerequisite


def test_the_server_that_is_installed_is_found() -> None:
    found = installation.find()
    assert os.access(found.binary, os.X_OK)
    assert found.libpython.name == f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"


def test_a_backend_directory_holds_the_stub_of_this_python(tmp_path: Path) -> None:
    found = installation.find()
    found.assemble(tmp_path / "backends")
    names = {path.name for path in (tmp_path / "backends").iterdir()}
    assert names == {"python", "onnxruntime", "pytorch"}
    stub = tmp_path / "backends" / "python" / "triton_python_backend_stub"
    assert stub.read_bytes() == found.stub.read_bytes()
    assert os.access(stub, os.X_OK)


def test_nothing_of_the_server_phones_home() -> None:
    assert installation.find().environment()["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_server_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    with pytest.raises(MissingPrerequisite, match=r"pip install 'seresnext-triton\[server\]'"):
        installation.find()


def test_a_libpython_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "LIBPYTHON", "libpython0.so")
    with pytest.raises(MissingPrerequisite, match=r"libpython0\.so is not there: .* apt-get install"):
        installation.find()


def test_a_python_without_a_stub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "PYTHON_VERSION", "3.99")
    with pytest.raises(MissingPrerequisite, match=r"does not run on Python 3\.99: use 3\.11 or 3\.12"):
        installation.find()


def test_an_installation_without_its_package_directory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(MissingPrerequisite):
        installation.find()
