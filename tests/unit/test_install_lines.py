"""Every command in a message or in the docs that installs something, or runs make, works when it is pasted."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"].keys()
GROUPS = PROJECT["dependency-groups"].keys()
SUFFIXES = {"", ".md", ".py", ".sh", ".toml", ".yaml", ".yml", ".txt"}

# An install command ends with the line, or with what ends a command or a quotation in prose.
PIP_INSTALL = re.compile(r"pip3? install((?: +(?:'[^'\n]*'|\"[^\"\n]*\"|[^\s`'\"&|;,()\\]+))+)")
OPTIONS_WITH_VALUE = (
    *("--constraint", "--find-links", "--group", "--requirement", "--index-url", "--extra-index-url", "-c", "-r"),
)
# What PyPI has: packages that are named alone. The project itself is not there.
ON_PYPI = {"cuda-bindings", "numpy", "pillow", "pip", "uv"}
MAKE = re.compile(r"(?:^|(?<=[`\"'(]))(?:\$ )?make ((?:[a-z][a-z-]*)?)(?= *(?:[`\"')&#]|$| [A-Z_]+=))", re.MULTILINE)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def texts() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each tracked file of the product and its docs."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.rstrip("\0").split("\0"):
        path = ROOT / name
        if path.suffix in SUFFIXES and not name.startswith("tests/") and path.is_file():
            yield name, path.read_text()


def problem_of(command: str) -> str | None:
    """Return what is wrong with the arguments of a `pip install`, if anything is."""
    words = shlex.split(command)
    while words:
        word = words.pop(0)
        if word in OPTIONS_WITH_VALUE:
            value = words.pop(0)
            if word == "--group" and value not in GROUPS:
                return f"there is no dependency group {value}"
        elif word.startswith(("-", "$", "/")):  # an option; what a script computes
            continue
        elif local := re.fullmatch(r"\.(?:\[(.*)\])?", word):
            extras = {extra for extra in (local[1] or "").split(",") if extra and "{" not in extra}  # {a value}
            if unknown := extras - EXTRAS:
                return f"there is no extra {', '.join(sorted(unknown))}"
            if local[1] and f"'{word}'" not in command and f'"{word}"' not in command:
                return f"{word} needs quotes: zsh reads it as a pattern"
        elif re.split(r"[\[<>=~!]", word)[0] not in ON_PYPI:
            return f"{word} is not on PyPI, or not listed here"
    return None


def test_every_pip_install_works_when_it_is_pasted() -> None:
    # The lines of scripts are not for pasting; the tests of the scripts run them.
    pasted = [(name, text) for name, text in texts() if not name.endswith(".sh")]
    commands = [(name, match[1]) for name, text in pasted for match in PIP_INSTALL.finditer(text)]
    assert len(commands) > 5
    problems = [
        f"{name}: pip install{command}: {problem}" for name, command in commands if (problem := problem_of(command))
    ]
    assert not problems, "\n".join(problems)


def test_every_make_command_names_a_target() -> None:
    commands = [(name, match[1]) for name, text in texts() for match in MAKE.finditer(text)]
    assert len(commands) > 10
    assert not {f"{name}: make {target}" for name, target in commands if target and target not in TARGETS}


@pytest.mark.parametrize(
    "command",
    [
        " 'seresnext-triton[server]'",
        " seresnext-triton",
        " '.[export,gpus]'",
        " .[export]",
        " --group development",
    ],
)
def test_a_command_that_does_not_work_is_found(command: str) -> None:
    assert problem_of(command)


@pytest.mark.parametrize(
    "command",
    [
        " .",
        " '.[export,cpu,server]' --constraint constraints.txt",
        ' --quiet --group dev --editable ".[report]" pillow',
        " pillow==13.0.0",
    ],
)
def test_a_command_that_works_is_not_found(command: str) -> None:
    assert not problem_of(command)
