"""A part of the embedded server that is missing is named before anything starts, with what to do about it."""

import os
import platform
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from seresnext_client.errors import MissingPrerequisite
from seresnext_server import installation


def test_the_installed_server_is_found() -> None:
    installed = installation.find()
    assert os.access(installed.binary, os.X_OK)
    assert installed.libpython.name == f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"


def test_a_backend_directory_holds_the_stub_of_this_python_and_our_backends(tmp_path: Path) -> None:
    installed = installation.find()
    installed.assemble(tmp_path / "backends")
    names = {path.name for path in (tmp_path / "backends").iterdir()}
    assert names == {"python", *(path.parent.name for path in installation.BACKENDS.glob("*/model.py"))}
    stub = tmp_path / "backends" / "python" / "triton_python_backend_stub"
    assert stub.read_bytes() == installed.stub.read_bytes()
    assert os.access(stub, os.X_OK)


def test_the_environment_turns_telemetry_off_and_lets_threads_wait_without_spinning() -> None:
    environment = installation.find().environment()
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert int(environment["GOMP_SPINCOUNT"]) < 300_000  # the default of GNU OpenMP


def test_a_server_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    with pytest.raises(MissingPrerequisite, match=r"pip install '\.\[server\]'"):
        installation.find()


def test_a_package_without_a_folder_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(MissingPrerequisite, match="not installed"):
        installation.find()


@pytest.mark.parametrize(("library", "release"), [("glibc", "2.34"), ("", "")])
def test_a_system_that_the_wheel_does_not_support_is_named(
    monkeypatch: pytest.MonkeyPatch, library: str, release: str
) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, release))
    with pytest.raises(MissingPrerequisite, match=r"needs Linux with glibc 2\.35"):
        installation.find()


@pytest.mark.parametrize("version", ["3.10", "3.13", "3.14"])
def test_a_python_that_is_not_supported_is_named(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(installation, "PYTHON_VERSION", version)
    with pytest.raises(MissingPrerequisite, match=rf"needs Python 3\.11 or 3\.12, and this is {version}"):
        installation.find()


def test_numpy_2_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "version", lambda package: "2.5.0")
    with pytest.raises(MissingPrerequisite, match=r"numpy 1, and 2\.5\.0 is installed"):
        installation.find()


def test_a_missing_libpython_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "LIBPYTHON", "libpython0.so")
    with pytest.raises(MissingPrerequisite, match=r"libpython0\.so is missing.* apt-get install libpython3"):
        installation.find()


def test_libpython_beside_a_python_that_was_moved_is_found_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The folder that was compiled in may be below one that cannot be read."""
    library = tmp_path / "lib" / installation.LIBPYTHON
    library.parent.mkdir()
    library.touch()
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    assert installation.find().libpython == library


def test_a_missing_stub_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "pytriton"
    (package / "tritonserver" / "bin").mkdir(parents=True)
    (package / "tritonserver" / "bin" / "tritonserver").touch()
    spec = ModuleSpec("pytriton", None)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(installation, "find_spec", lambda name: spec)
    with pytest.raises(MissingPrerequisite, match="triton_python_backend_stub is missing"):
        installation.find()
