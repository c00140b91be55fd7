"""Which Python `make` chooses, on machines that differ in what is installed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.support import fake_python

SCRIPT = Path(__file__).parents[2] / "deploy" / "select_python.sh"


class Machine:
    """A machine with fake interpreters, and nothing else on its PATH than what the script uses."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        fake_python.add_tools(self.bin)
        self.os_release = folder / "os-release"
        self.environment = {"PATH": str(self.bin), "OS_RELEASE": str(self.os_release)}
        self.script = folder / "a folder" / "deploy" / SCRIPT.name
        self.script.parent.mkdir(parents=True)
        shutil.copy(SCRIPT, self.script)
        self.set_platform("Linux x86_64", "glibc 2.36")
        self.set_user(1000)

    def add_python(self, name: str, version: str, *, missing: Sequence[str] = (), libpython: bool = True) -> Path:
        return fake_python.add_python(self.bin / name, version, missing=missing, libpython=libpython)

    def add_uv(self, path: Path, *, can_download: bool = True) -> None:
        """Write a uv that provides a Python 3.12."""
        managed = fake_python.add_python(self.bin.with_name("managed") / "python3.12", "3.12")
        fake_python.add_program(
            path, f'case "$2" in install) exit {int(not can_download)};; find) echo {managed};; esac'
        )

    def put_uv_on_pypi(self, *, can_download: bool = True) -> None:
        path = self.bin.with_name("pypi") / "uv"
        self.add_uv(path, can_download=can_download)
        self.environment[fake_python.UV] = str(path)

    def set_platform(self, system: str, libc: str) -> None:
        fake_python.add_program(self.bin / "uname", f"echo {system}")
        fake_python.add_program(self.bin / "getconf", f"echo {libc}" if libc else "exit 1")

    def set_user(self, uid: int) -> None:
        fake_python.add_program(self.bin / "id", f"echo {uid}")

    def set_distribution(self, os_release: str) -> None:
        self.os_release.write_text(os_release.replace("; ", "\n"))

    def select(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        command: list[str | Path] = ["/bin/sh", self.script, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment | environment, timeout=30, cwd="/"
        )

    def selected(self, *arguments: str, **environment: str) -> str:
        """Return the chosen interpreter's file name; asserts that there is one."""
        finished = self.select(*arguments, **environment)
        assert finished.returncode == 0, finished.stderr
        return Path(finished.stdout.strip()).relative_to(self.bin.parent).as_posix()

    def refusal(self, *arguments: str, **environment: str) -> str:
        """Return the sentence that says why there is none; asserts that nothing else is printed."""
        finished = self.select(*arguments, **environment)
        assert (finished.returncode, finished.stdout) == (4, "")
        (*_, sentence) = finished.stderr.splitlines()
        assert sentence.startswith("error: ")
        return sentence


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


PYTHONS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "Debian 12": ({"python3": "3.11"}, "python3"),
    "Ubuntu 24.04": ({"python3": "3.12"}, "python3"),
    "Ubuntu 22.04 with python3.11": ({"python3": "3.10", "python3.11": "3.11"}, "python3.11"),
    "Fedora 43 with python3.12": ({"python3": "3.14", "python3.12": "3.12"}, "python3.12"),
    "no python3": ({"python3.11": "3.11"}, "python3.11"),
    "several": ({"python3": "3.13", "python3.11": "3.11", "python3.12": "3.12"}, "python3.12"),
    "old": ({"python3": "3.6", "python3.12": "3.12"}, "python3.12"),
}


@pytest.mark.parametrize("kind", PYTHONS)
def test_the_first_python_that_can_run_the_server_is_chosen(machine: Machine, kind: str) -> None:
    pythons, expected = PYTHONS[kind]
    for name, version in pythons.items():
        machine.add_python(name, version)
    assert machine.selected("--server") == f"bin/{expected}"


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_without_the_server_any_supported_python_is_chosen_and_needs_no_libpython(
    machine: Machine, version: str
) -> None:
    machine.add_python("python3", version, libpython=False)
    assert machine.selected() == "bin/python3"


@pytest.mark.parametrize("missing", ["ensurepip", "ssl"])
def test_a_python_without_a_module_that_pip_needs_is_passed_over(machine: Machine, missing: str) -> None:
    machine.add_python("python3", "3.11", missing=[missing])
    machine.add_python("python3.12", "3.12")
    assert machine.selected("--server") == machine.selected() == "bin/python3.12"


def test_a_python_without_its_shared_library_is_passed_over(machine: Machine) -> None:
    machine.add_python("python3", "3.12", libpython=False)
    machine.add_python("python3.11", "3.11")
    assert machine.selected("--server") == "bin/python3.11"


def test_a_shim_without_a_python_is_passed_over(machine: Machine) -> None:
    fake_python.add_program(machine.bin / "python3", "echo 'pyenv: python3: command not found' >&2; exit 127")
    machine.add_python("python3.12", "3.12")
    assert machine.selected("--server") == "bin/python3.12"


def test_a_virtual_environment_is_made_with_the_python_below_the_active_one() -> None:
    finished = subprocess.run(
        [SCRIPT], capture_output=True, text=True, timeout=30, env=os.environ | {"PYTHON": sys.executable}
    )
    assert finished.stdout.strip() == os.path.realpath(getattr(sys, "_base_executable"))  # noqa: B009


@pytest.mark.parametrize("version", ["3.10", "3.13", "3.14"])
def test_uv_on_the_path_provides_a_python_where_none_fits(machine: Machine, version: str) -> None:
    machine.add_python("python3", version)
    machine.add_uv(machine.bin / "uv")
    assert machine.selected("--server") == "managed/python3.12"


def test_uv_provides_a_python_on_a_machine_without_any(machine: Machine) -> None:
    machine.add_uv(machine.bin / "uv")
    assert machine.selected("--server") == "managed/python3.12"


def test_uv_comes_from_pypi_and_is_kept(machine: Machine) -> None:
    machine.add_python("python3", "3.13")
    machine.put_uv_on_pypi()
    assert machine.selected("--server") == "managed/python3.12"
    assert (machine.script.parents[1] / ".cache" / "uv" / "bin" / "uv").exists()
    del machine.environment[fake_python.UV]
    assert machine.selected("--server") == "managed/python3.12"


def test_uv_is_not_asked_where_a_python_fits(machine: Machine) -> None:
    machine.add_python("python3", "3.11")
    machine.add_uv(machine.bin / "uv", can_download=False)
    assert machine.selected("--server") == "bin/python3"


def test_a_uv_that_cannot_download_is_not_what_there_is_to_install(machine: Machine) -> None:
    machine.set_distribution("ID=debian; VERSION_CODENAME=trixie")
    machine.add_python("python3", "3.13")
    machine.put_uv_on_pypi(can_download=False)
    sentence = machine.refusal("--server")
    assert "python3 is Python 3.13" in sentence
    assert "let uv download its own" in sentence
    assert "install" not in sentence


DISTRIBUTIONS = {
    "ID=debian; VERSION_CODENAME=bookworm": "apt-get install python3-venv libpython3.11",
    "ID=debian; VERSION_CODENAME=trixie": "apt-get install python3-venv",  # uv can be installed then
    "ID=ubuntu; ID_LIKE=debian; UBUNTU_CODENAME=jammy": "apt-get install python3.11-venv libpython3.11",
    "ID=ubuntu; ID_LIKE=debian; UBUNTU_CODENAME=noble": "apt-get install python3-venv libpython3.12",
    'ID=linuxmint; ID_LIKE="ubuntu debian"; VERSION_CODENAME=xia; UBUNTU_CODENAME=noble': "libpython3.12",
    "ID=linuxmint; ID_LIKE=debian; VERSION_CODENAME=faye; DEBIAN_CODENAME=bookworm": "libpython3.11",
    "ID=fedora": "dnf install python3.12",
    'ID="rocky"; ID_LIKE="rhel centos fedora"': "dnf install python3.12",
    "ID=arch": "pacman -S uv",
    'ID="opensuse-tumbleweed"; ID_LIKE="opensuse suse"': "zypper install python312",
    "ID=nixos": "install uv (https://docs.astral.sh/uv)",
}


@pytest.mark.parametrize("os_release", DISTRIBUTIONS)
def test_where_none_can_be_had_the_command_of_the_distribution_is_named(machine: Machine, os_release: str) -> None:
    machine.set_distribution(os_release)
    machine.add_python("python3", "3.13", missing=["ensurepip"])
    sentence = machine.refusal("--server")
    assert sentence.count("python3 is Python 3.13") == 1
    assert f"{DISTRIBUTIONS[os_release]}" in sentence
    assert ("sudo " in sentence) == ("uv (" not in DISTRIBUTIONS[os_release])


def test_root_needs_no_sudo(machine: Machine) -> None:
    machine.set_distribution("ID=debian; VERSION_CODENAME=bookworm")
    machine.add_python("python3", "3.11", missing=["ensurepip"])
    machine.set_user(0)
    assert "has no module ensurepip): apt-get install python3-venv" in machine.refusal("--server")


def test_a_machine_without_an_os_release_gets_a_sentence_too(machine: Machine) -> None:
    assert "no python3" in machine.refusal("--server")


@pytest.mark.parametrize(
    ("system", "libc"),
    [
        ("Linux x86_64", "glibc 2.34"),  # RHEL 9, Amazon Linux 2023
        ("Linux x86_64", ""),  # Alpine: musl
        ("Darwin arm64", ""),
        ("Linux armv7l", "glibc 2.36"),
    ],
)
def test_a_platform_that_the_server_does_not_run_on_is_refused_before_a_python_is_looked_for(
    machine: Machine, system: str, libc: str
) -> None:
    machine.add_python("python3", "3.11")
    machine.set_platform(system, libc)
    sentence = machine.refusal("--server")
    assert system in sentence
    assert "make up" in sentence
    assert machine.selected() == "bin/python3"


@pytest.mark.parametrize("libc", ["glibc 2.35", "glibc 2.41", "glibc 2.100", "glibc 2.36.9000"])
def test_every_later_glibc_will_do(machine: Machine, libc: str) -> None:
    machine.add_python("python3", "3.11")
    machine.set_platform("Linux aarch64", libc)
    assert machine.selected("--server") == "bin/python3"


def test_the_python_that_is_asked_for_is_taken(machine: Machine) -> None:
    machine.add_python("python3", "3.11")
    other = machine.add_python("other", "3.12")
    assert machine.selected("--server", PYTHON="other") == "bin/other"
    assert machine.selected("--server", PYTHON=str(other)) == "bin/other"


@pytest.mark.parametrize(
    ("version", "libpython", "missing", "problem"),
    [
        ("3.13", True, (), "is Python 3.13"),
        ("3.12", False, (), "has no libpython3.12.so.1.0"),
        ("3.12", True, ("ensurepip",), "has no module ensurepip"),
    ],
)
def test_the_python_that_is_asked_for_is_never_replaced(
    machine: Machine, version: str, libpython: bool, missing: Sequence[str], problem: str
) -> None:
    machine.add_python("python3", "3.11")
    machine.add_python("other", version, libpython=libpython, missing=missing)
    assert f"PYTHON=other {problem}" in machine.refusal("--server", PYTHON="other")


def test_the_python_that_is_asked_for_may_be_missing(machine: Machine) -> None:
    machine.add_python("python3", "3.11")
    assert "PYTHON=python3.99 is missing" in machine.refusal("--server", PYTHON="python3.99")
