"""What `deploy/install.sh` installs where, with a fake interpreter that logs its arguments."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support import fake_python

ROOT = Path(__file__).parents[2]
DEMO = "export,cpu,server"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

no_driver = pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this machine has an NVIDIA driver")


class Clone:
    """A clone of the project in a folder with a space, on a machine with one fake Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "my clone"
        (self.folder / "deploy").mkdir(parents=True)
        for name in ("deploy/install.sh", "deploy/select_python.sh", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder / name)
        self.bin = folder / "bin"
        self.bin.mkdir()
        fake_python.add_tools(self.bin)
        fake_python.add_program(self.bin / "uname", "echo Linux x86_64")
        fake_python.add_program(self.bin / "getconf", "echo glibc 2.36")
        fake_python.add_python(self.bin / "python3", "3.11")
        self.log = folder / "log"
        self.environment = {"PATH": str(self.bin), fake_python.LOG: str(self.log)}

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def install(
        self,
        extras: str = DEMO,
        *group: str,
        failing: tuple[str, ...] = (),
        torch: str | None = None,
        **environment: str,
    ) -> "subprocess.CompletedProcess[str]":
        """Run the script; `failing` are arguments that pip fails with, `torch` is the version that is installed."""
        command: list[str | Path] = ["/bin/sh", self.folder / "deploy/install.sh", ".venv", extras, *group]
        settings = {fake_python.PIP: json.dumps({"failing": failing, "torch": torch})}
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment | settings | environment, timeout=60, cwd="/"
        )

    def calls(self) -> list[str]:
        """Return what venv and pip were called with since the last time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [" ".join(json.loads(line)).replace("--disable-pip-version-check ", "") for line in lines]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def pinned_torch() -> str:
    (pin,) = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    return pin


def editable(extras: str = DEMO, group: str = "") -> str:
    return f"pip install --constraint constraints.txt --editable .[{extras}]{group}"


@no_driver
def test_without_an_nvidia_driver_torch_comes_from_the_index_for_the_cpu(clone: Clone) -> None:
    finished = clone.install()
    assert finished.returncode == 0, finished.stderr
    assert clone.calls() == [
        "venv --clear .venv",
        "pip install --quiet --upgrade pip>=25.2",
        f"pip index versions torch --index-url {CPU_INDEX} --retries 0 --timeout 10",
        f"pip install --no-deps --retries 1 --index-url {CPU_INDEX} {pinned_torch()}",
        editable(),
    ]
    assert "0.5 GB" in finished.stderr


@no_driver
def test_an_index_that_cannot_be_reached_is_said_and_pypi_is_used(clone: Clone) -> None:
    finished = clone.install(failing=("index",))
    assert finished.returncode == 0
    assert clone.calls()[-2:] == [
        f"pip index versions torch --index-url {CPU_INDEX} --retries 0 --timeout 10",
        editable(),
    ]
    assert f"cannot reach {CPU_INDEX}" in finished.stderr
    assert "3 GB" in finished.stderr


@no_driver
def test_a_download_from_a_reachable_index_that_fails_is_not_replaced_by_one_of_six_times_the_size(
    clone: Clone,
) -> None:
    assert clone.install(failing=("--no-deps",)).returncode == 1
    assert editable() not in clone.calls()


def test_with_an_nvidia_driver_torch_comes_with_cuda(clone: Clone) -> None:
    fake_python.add_program(clone.bin / "nvidia-smi", "exit 0")
    finished = clone.install()
    assert finished.returncode == 0
    assert clone.calls()[2:] == [editable()]
    assert "3 GB" in finished.stderr


def test_an_index_that_is_asked_for_is_used(clone: Clone) -> None:
    assert clone.install(TORCH_INDEX="https://mirror.example/cu130").returncode == 0
    assert (
        f"pip install --no-deps --retries 1 --index-url https://mirror.example/cu130 {pinned_torch()}" in clone.calls()
    )


@pytest.mark.parametrize("build", ["", "+cpu", "+cu130"])
def test_a_torch_that_is_installed_is_kept(clone: Clone, build: str) -> None:
    version = pinned_torch().removeprefix("torch==") + build
    assert clone.install(torch=version).returncode == 0
    assert clone.calls()[2:] == [editable()]


@no_driver
def test_an_older_torch_is_replaced_by_one_of_the_same_index(clone: Clone) -> None:
    assert clone.install(torch="2.1.0+cpu").returncode == 0
    assert clone.calls()[3] == f"pip install --no-deps --retries 1 --index-url {CPU_INDEX} {pinned_torch()}"


def test_torch_is_not_installed_where_nothing_is_exported(clone: Clone) -> None:
    assert clone.install("cpu,server").returncode == 0
    assert clone.calls()[2:] == [editable("cpu,server")]


def test_development_tools_are_installed_when_they_are_asked_for(clone: Clone) -> None:
    assert clone.install(DEMO, "dev").returncode == 0
    assert clone.calls()[-1] == editable(group=" --group dev")
    assert {path.name for path in clone.venv.glob(".installed-*")} == {f".installed-{DEMO}", f".installed-{DEMO}+dev"}


def test_an_environment_that_is_complete_is_added_to(clone: Clone) -> None:
    clone.install()
    (clone.venv / "mine").touch()
    clone.calls()
    assert clone.install(DEMO, "dev", torch=pinned_torch().removeprefix("torch==")).returncode == 0
    assert clone.calls() == [editable(group=" --group dev")]
    assert (clone.venv / "mine").exists()


def test_an_environment_whose_installation_failed_is_made_anew(clone: Clone) -> None:
    assert clone.install(failing=("--editable",)).returncode == 1
    assert not list(clone.venv.glob(".installed-*"))
    clone.calls()
    assert clone.install().returncode == 0
    assert clone.calls()[0] == "venv --clear .venv"


def test_an_environment_of_another_python_than_is_asked_for_is_made_anew(clone: Clone) -> None:
    fake_python.add_python(clone.bin / "other", "3.12")
    clone.install()
    clone.calls()
    assert clone.install(PYTHON="other").returncode == 0
    assert clone.calls()[0] == "venv --clear .venv"
    assert clone.install(PYTHON="other").returncode == 0
    assert "venv --clear .venv" not in clone.calls()


def test_an_environment_that_cannot_run_the_server_is_made_anew_for_it(clone: Clone) -> None:
    fake_python.add_python(clone.bin / "python3", "3.13")
    fake_python.add_python(clone.bin / "python3.12", "3.12")
    assert clone.install("export,cpu").returncode == 0
    assert (clone.venv / "bin" / "python").readlink().name == "python3"
    assert clone.install(DEMO).returncode == 0
    assert (clone.venv / "bin" / "python").readlink().name == "python3.12"


def test_a_machine_without_a_suitable_python_is_refused_before_any_work(clone: Clone) -> None:
    fake_python.add_python(clone.bin / "python3", "3.10")
    finished = clone.install()
    assert finished.returncode == 4
    assert "needs Python 3.11 or 3.12" in finished.stderr
    assert not clone.venv.exists()


def test_a_folder_that_is_no_virtual_environment_is_never_cleared(clone: Clone) -> None:
    clone.venv.mkdir()
    (clone.venv / "thesis.tex").touch()
    finished = clone.install()
    assert finished.returncode == 4
    assert (clone.venv / "thesis.tex").exists()
    assert clone.calls() == []
