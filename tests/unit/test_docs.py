"""What the README and the documentation state: links, commands, options, variables, metrics and names exist."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from click.exceptions import Exit
from tests.support.markdown import command_lines, programs
from tests.tools import docs
from typer.main import get_command

import seresnext_client

PAGES = [*docs.pages(), *(docs.ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]
LINK = re.compile(r"\[[^\]]*\]\((?!https?://)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
HEADING = re.compile(r"^#{1,6} (.*)$", re.MULTILINE)
SOURCES = [path for root in ("client", "export", "deploy") for path in (docs.ROOT / root).rglob("*") if path.is_file()]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(docs.ROOT)))


def test_generated_blocks_are_current() -> None:
    stale = [page.name for page in docs.pages() if (text := page.read_text()) != docs.updated(text)]
    assert not stale, "run python tests/tools/docs.py --write"


@every_page
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.finditer(page.read_text()):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        assert target.exists(), link[0]
        assert not link["anchor"] or link["anchor"] in anchors(target), link[0]


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:client|deploy|docs|export|tests)/[\w./-]+)`", page.read_text())
    missing = [name for name in named if not (docs.ROOT / name).exists()]
    assert [
        name for name in missing if not name.startswith(("deploy/secrets", "deploy/wheels"))
    ] == []  # not kept in git


@every_page
def test_commands_parse(page: Path) -> None:
    for line in command_lines(page):
        for words in programs(line):
            parse(words)


@every_page
def test_make_targets_exist(page: Path) -> None:
    makefile = (docs.ROOT / "Makefile").read_text()
    for line in command_lines(page):
        for program, *arguments in programs(line):
            targets = [word for word in arguments if "=" not in word] if program == "make" else []
            for target in targets:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), line


def test_every_environment_variable_is_documented() -> None:
    code = "".join(path.read_text() for path in SOURCES if path.suffix in {".py", ".sh"})
    page = (docs.ROOT / "docs/reference/configuration.md").read_text()
    used = set(re.findall(r"SERESNEXT_[A-Z_]+[A-Z]", code))
    assert used, "no variable found: the pattern is wrong"
    undocumented = {name for name in used if f"`{name}`" not in page}
    assert undocumented <= option_variables()


def test_every_compose_variable_is_documented() -> None:
    compose = (docs.ROOT / "deploy/compose.yaml").read_text()
    pinned = dict(re.findall(r"^(\w+)=(.*)$", (docs.ROOT / "deploy/triton.env").read_text(), re.MULTILINE))
    page = (docs.ROOT / "docs/reference/configuration.md").read_text()
    variables = set(re.findall(r"\$\{(\w+)", compose)) - set(pinned)
    assert {name for name in variables if f"`{name}`" not in page} == set()


def test_every_metric_is_documented() -> None:
    model = (docs.ROOT / "export/seresnext_export/preprocessing_model/model.py").read_text()
    page = (docs.ROOT / "docs/reference/metrics.md").read_text()
    metrics = set(re.findall(r"\bseresnext_\w+_total\b", model))
    assert metrics
    assert {name for name in metrics if name not in page} == set()


def test_every_public_name_is_documented() -> None:
    page = (docs.ROOT / "docs/reference/python.md").read_text()
    documented = set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE))
    assert documented >= set(seresnext_client.__all__)


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", ".github/workflows/*.yml"),
        ("vendor.dependabot", ".github/dependabot.yml"),
        ("vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/[!c]*.yml"),
    ],
)
def test_files_of_the_hosting_site_fit_their_schemas(schema: str, files: str) -> None:
    paths = sorted(docs.ROOT.glob(files))
    program = Path(sys.executable).with_name("check-jsonschema")
    finished = subprocess.run([program, "--builtin-schema", schema, *paths], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stdout


def test_workflows_run_make_targets_that_exist() -> None:
    makefile = (docs.ROOT / "Makefile").read_text()
    targets = set()
    for path in docs.ROOT.glob(".github/workflows/*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            rows = job.get("strategy", {}).get("matrix", {}).get("include", [])
            targets |= {row["target"] for row in rows}
            for step in job["steps"]:
                targets |= set(" ".join(re.findall(r"\bmake ((?:[a-z-]+ ?)+)", step.get("run", ""))).split())
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


def anchors(page: Path) -> set[str]:
    """Return the anchors that a renderer gives the headings of a page."""
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in HEADING.findall(page.read_text()))
    return {re.sub(r"\s", "-", heading.strip()) for heading in plain}


def parse(words: list[str]) -> None:
    """Parse a command line of ours, and the one that it runs after `--`; others are left alone."""
    program, *arguments = words
    if program not in docs.PROGRAMS:
        return
    if "--" in arguments:
        position = arguments.index("--")
        parse(arguments[position + 1 :])
        arguments = arguments[:position]
    command = get_command(import_module(docs.PROGRAMS[program]).app)
    commands = getattr(command, "commands", {})
    if arguments and arguments[0] in commands:
        command, arguments = commands[arguments[0]], arguments[1:]
    with suppress(Exit):  # --help, --version
        command.make_context(program, arguments)


def option_variables() -> set[str]:
    """Return the environment variables that stand for options of the client."""
    commands = get_command(import_module(docs.PROGRAMS["seresnext-client"]).app).commands  # type: ignore[attr-defined]
    return {f"SERESNEXT_{parameter.name}".upper() for command in commands.values() for parameter in command.params}


def test_the_environment_does_not_change_a_help_text(monkeypatch: pytest.MonkeyPatch) -> None:
    before = docs.commands("seresnext-client")
    monkeypatch.setitem(os.environ, "SERESNEXT_BATCH_SIZE", "3")
    assert docs.commands("seresnext-client") == before
