"""What make does with paths, keys and repositories; docker and our own programs are fakes that log their arguments."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from tests.support import fake_python

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

LOG_ARGUMENTS = """{ printf '%s' "$(basename "$0")"; printf ' [%s]' "$@"; echo; } >> "$LOG\""""


class Clone:
    """A clone of the project in a folder with a space and a quote, whose .venv holds fakes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "maria's clone"
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder / name)
        shutil.copytree(ROOT / "deploy", self.folder / "deploy", ignore=shutil.ignore_patterns("secrets"))
        self.repository = self.folder / "model_repository"
        for model in ("seresnext101_preprocess", "seresnext101_onnx"):
            (self.repository / model).mkdir(parents=True)
            (self.repository / model / "config.pbtxt").touch()
        self.secrets = self.folder / "deploy" / "secrets"
        self.bin = folder / "bin"
        self.log = folder / "log"
        for program in ("seresnext-export", "seresnext-serve", "seresnext-client"):
            fake_python.add_program(self.folder / ".venv" / "bin" / program, LOG_ARGUMENTS)
        for installed in (".installed-export,cpu,server", ".installed-export,cpu,server+dev"):
            (self.folder / ".venv" / installed).touch()
        self.add_docker("echo $REPOSITORY $SECRETS >> $LOG")

    def add_docker(self, script: str = "") -> None:
        fake_python.add_program(self.bin / "docker", f'[ "$2" = version ] || {{\n{script}\n{LOG_ARGUMENTS}\n}}')

    def make(self, *arguments: str, umask: int = 0o022) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "LOG": str(self.log), "HOME": str(self.folder)}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env=environment,
            umask=umask,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self, *arguments: str, umask: int = 0o022) -> list[str]:
        """Return the lines that the fakes log while make runs."""
        self.log.unlink(missing_ok=True)
        finished = self.make(*arguments, umask=umask)
        assert finished.returncode == 0, finished.stderr
        return self.log.read_text().splitlines()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_make_prints_every_target_that_is_meant_for_people(clone: Clone) -> None:
    printed = set(re.findall(r"^  make ([a-z-]+) {2,}\S", clone.make().stdout, re.MULTILINE))
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert printed == set(phony[1].replace("\\\n", " ").split()) - {"docker", "secrets"}


def test_the_demo_serves_the_repository_that_there_is(clone: Clone) -> None:
    (serve,) = clone.calls("demo", "SAMPLE=my cat's photo.jpg")
    assert serve.startswith("seresnext-serve [--repository] [model_repository] ")
    assert serve.endswith("[--] [.venv/bin/seresnext-client] [classify] [my cat's photo.jpg]")


def test_the_demo_builds_a_repository_where_there_is_none(clone: Clone) -> None:
    shutil.rmtree(clone.repository)
    build, serve = clone.calls("demo")
    assert build == (
        "seresnext-export [build] [--repository] [model_repository] "
        "[--format] [torchscript] [--format] [onnx] [--or-random]"
    )
    assert serve.startswith("seresnext-serve ")


def test_a_checkpoint_that_is_asked_for_is_built_and_never_replaced_by_random_weights(clone: Clone) -> None:
    for target in ("demo", "export"):
        build = clone.calls(target, "CHECKPOINT=my weights.pth", "REPOSITORY=my models", "FORMATS=onnx")[0]
        assert build == (
            "seresnext-export [build] [--repository] [my models] [--format] [onnx] [--checkpoint] [my weights.pth]"
        )


@pytest.mark.parametrize("target", ["up", "down", "logs", "smoke", "image", "sdk", "engine"])
def test_a_missing_docker_is_said_before_anything_is_done(clone: Clone, target: str) -> None:
    fake_python.add_program(clone.bin / "docker", 'echo "docker: unknown command: docker compose" >&2; exit 1')
    shutil.rmtree(clone.folder / ".venv")
    finished = clone.make(target)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: needs docker and its compose plugin")
    assert not clone.secrets.exists()
    assert not (clone.folder / ".venv").exists()


@pytest.mark.parametrize(("where", "expected"), [("model_repository", "model_repository"), ("my models", "my models")])
def test_compose_gets_absolute_folders_whatever_they_are_called(clone: Clone, where: str, expected: str) -> None:
    clone.repository.rename(clone.folder / where) if where != expected else None
    (clone.folder / where).mkdir(exist_ok=True)
    folders, up = clone.calls("up", f"REPOSITORY={where}", "SECRETS=my keys", "PROFILES=cpu monitoring")
    assert folders == f"{clone.folder / expected} {clone.folder / 'my keys'}"
    assert "[--profile] [cpu] [--profile] [monitoring] [up]" in up


def test_what_containers_mount_is_readable_whatever_the_umask(clone: Clone) -> None:
    for path in [*clone.repository.rglob("*"), *(clone.folder / "deploy").rglob("*"), clone.repository]:
        path.chmod(path.stat().st_mode & 0o700)
    clone.calls("up", "PROFILES=cpu tls monitoring", umask=0o077)
    assert stat.S_IMODE(clone.secrets.stat().st_mode) == 0o700
    keys = {path.name: path for path in clone.secrets.iterdir()}
    assert keys.keys() == {"admin_key", "tls.crt", "tls.key"}
    mounted = [*keys.values(), clone.repository, *clone.repository.rglob("*")]
    mounted += [*(clone.folder / "deploy/nginx").rglob("*"), *(clone.folder / "deploy/monitoring").rglob("*")]
    for path in mounted:
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        assert path.stat().st_mode & wanted == wanted, path
        assert not path.stat().st_mode & stat.S_IWOTH, path


def test_keys_are_made_once_and_a_certificate_only_for_tls(clone: Clone) -> None:
    clone.calls("up")
    key = (clone.secrets / "admin_key").read_text()
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert not (clone.secrets / "tls.crt").exists()
    clone.calls("up", "PROFILES=cpu tls")
    certificate = (clone.secrets / "tls.crt").read_text()
    clone.calls("up", "PROFILES=cpu tls")
    assert (clone.secrets / "admin_key").read_text() == key
    assert (clone.secrets / "tls.crt").read_text() == certificate


@pytest.mark.parametrize("port", ["9001", "9100"])
def test_smoke_asks_the_candidate_where_it_listens(clone: Clone, port: str) -> None:
    clone.add_docker("echo candidate on ${CANDIDATE_GRPC_PORT} >> $LOG")
    calls = clone.calls("smoke", *([] if port == "9001" else [f"CANDIDATE_GRPC_PORT={port}"]))
    assert calls[0] == f"candidate on {port}"
    assert f"seresnext-export [smoke] [--repository] [model_repository] [--url] [localhost:{port}]" in calls
    assert calls[-1].endswith("[rm] [--stop] [--force] [candidate-cpu]")


def test_a_failed_smoke_test_fails_and_stops_the_candidate(clone: Clone) -> None:
    fake_python.add_program(clone.folder / ".venv" / "bin" / "seresnext-export", "exit 5")
    finished = clone.make("smoke", "PROFILES=gpu")
    assert finished.returncode == 2
    assert "Error 5" in finished.stderr
    assert clone.log.read_text().splitlines()[-1].endswith("[rm] [--stop] [--force] [candidate-gpu]")


def test_an_engine_is_built_from_the_graph_in_the_container(clone: Clone) -> None:
    (clone.folder / "my.onnx").touch()
    engine = clone.calls("engine", "GRAPH=my.onnx", "ENGINE_OPTIONS=--tf32")[-1]
    assert engine.endswith("[run] [--rm] [engine] [my.onnx] [--repository] [model_repository] [--tf32]")


def test_clean_leaves_the_repository_and_the_keys(clone: Clone) -> None:
    clone.secrets.mkdir()
    (clone.secrets / "admin_key").touch()
    (clone.folder / "results").mkdir()
    assert clone.make("clean").returncode == 0
    assert not (clone.folder / ".venv").exists()
    assert (clone.repository / "seresnext101_onnx" / "config.pbtxt").exists()
    assert (clone.folder / "results").exists()
    assert (clone.secrets / "admin_key").exists()


def test_distclean_removes_what_was_built_and_nothing_else(clone: Clone) -> None:
    clone.secrets.mkdir()
    for path in (clone.secrets / "admin_key", clone.secrets / "mine.pem", clone.repository / "README.md"):
        path.touch()
    assert clone.make("distclean").returncode == 0
    assert [path.name for path in clone.repository.iterdir()] == ["README.md"]
    assert [path.name for path in clone.secrets.iterdir()] == ["mine.pem"]


def test_tests_can_be_selected(clone: Clone) -> None:
    fake_python.add_program(clone.folder / ".venv" / "bin" / "python", LOG_ARGUMENTS)
    assert clone.calls("test", "TESTS=tests/unit/client -k 'one or two'") == [
        "python [-m] [pytest] [tests/unit/client] [-k] [one or two]"
    ]
    assert clone.calls("test-fast") == ["python [-m] [pytest] [--numprocesses] [auto] [tests/unit]"]
