"""A real nginx with the configuration of `deploy/nginx`, in front of a real server with the flags of production."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.deploy.production import DEPLOY, KEY, Production, free_ports, production

from seresnext_client import Classifier, connect
from seresnext_client.errors import SeresnextError
from seresnext_client.transports.base import Timeouts, Tls, WireProtocol

nginx = shutil.which("nginx")
pytestmark = [pytest.mark.triton, pytest.mark.skipif(not nginx, reason="needs nginx: apt-get install nginx-light")]
CLIENT = Path(sys.executable).with_name("seresnext-client")


@dataclass(frozen=True)
class Proxy:
    """Where nginx listens, and who signed for it."""

    urls: dict[WireProtocol, str]
    authority: Path
    server: Production


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def proxy(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    key, certificate = folder / "tls.key", folder / "tls.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    https, grpcs = free_ports(2)
    with production(small_repository, folder) as server:
        variables = {
            "TRITON_HOST": "127.0.0.1",
            "TRITON_HTTP_PORT": server.http_url.split(":")[1],
            "TRITON_GRPC_PORT": server.grpc_url.split(":")[1],
            "HTTPS_PORT": f"127.0.0.1:{https}",
            "GRPCS_PORT": f"127.0.0.1:{grpcs}",
            "CERTIFICATE": str(certificate),
            "CERTIFICATE_KEY": str(key),
        }
        template = (DEPLOY / "nginx" / "triton.conf.template").read_text()
        # As the image's entry point does: the environment's variables only, so that nginx keeps its own.
        for name, value in variables.items():
            template = template.replace(f"${{{name}}}", value)
        (folder / "triton.conf").write_text(template)
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user} daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; "
            f"fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};\n"
            f"include {folder}/triton.conf; }}\n"
        )
        assert nginx
        process = subprocess.Popen([nginx, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"])
        try:
            for port in (https, grpcs):
                until = time.monotonic() + 20
                while not listens(port):
                    assert process.poll() is None, (folder / "error.log").read_text()
                    assert time.monotonic() < until
                    time.sleep(0.05)
            urls = {WireProtocol.HTTP: f"localhost:{https}", WireProtocol.GRPC: f"localhost:{grpcs}"}
            yield Proxy(urls, certificate, server)
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.parametrize("protocol", WireProtocol)
def test_pictures_are_classified_through_tls(proxy: Proxy, protocol: WireProtocol, pictures: list[Path]) -> None:
    with Classifier(connect(proxy.server.grpc_url)) as straight:
        expected = [straight.classify(picture.read_bytes()) for picture in pictures]
    with Classifier(connect(proxy.urls[protocol], protocol, tls=Tls(ca=proxy.authority))) as classifier:
        assert [classifier.classify(picture.read_bytes()) for picture in pictures] == expected


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_request_that_is_too_large_is_refused_by_the_proxy(
    proxy: Proxy, protocol: WireProtocol, tmp_path: Path
) -> None:
    """Within the client's own limits, beyond the proxy's; the server never sees it, and goes on."""
    for index in range(8):
        (tmp_path / f"{index}.jpg").write_bytes(b"\xff\xd8\xff" + os.urandom(20 << 20))
    shown = subprocess.run(
        [
            *(CLIENT, "classify", tmp_path, "--url", proxy.urls[protocol], "--protocol", protocol),
            *("--tls-ca", proxy.authority, "--batch-size", "8", "--timeout", "60"),
        ],
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in shown.stderr
    assert shown.returncode in (3, 7), shown.stderr
    assert "too large" in shown.stdout + shown.stderr or "413" in shown.stdout + shown.stderr
    with Classifier(connect(proxy.server.grpc_url)) as classifier:
        assert classifier.model


@pytest.mark.parametrize("protocol", WireProtocol)
def test_the_key_passes_through(proxy: Proxy, protocol: WireProtocol) -> None:
    name = "admin-key" if protocol is WireProtocol.HTTP else "triton-grpc-protocol-admin-key"
    command: list[str | Path] = [
        *(CLIENT, "status", "--url", proxy.urls[protocol], "--protocol", protocol, "--tls-ca", proxy.authority)
    ]
    closed = subprocess.run(command, capture_output=True, text=True)
    opened = subprocess.run([*command, "--header", f"{name}:{KEY}"], capture_output=True, text=True)
    assert "restricted" in closed.stdout + closed.stderr
    assert opened.returncode == 0, opened.stderr
    assert "restricted" not in opened.stdout + opened.stderr


@pytest.mark.parametrize("protocol", WireProtocol)
def test_nobody_gets_in_without_tls(proxy: Proxy, protocol: WireProtocol) -> None:
    with pytest.raises(SeresnextError):
        Classifier(connect(proxy.urls[protocol], protocol, Timeouts(ready_s=2, infer_s=2)))
