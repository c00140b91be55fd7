"""`seresnext-client` in a shell: terminals, Ctrl-C, a server that dies, a proxy with TLS."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support import commands
from tests.support.certificates import make_certificate
from tests.support.commands import ANY_PORTS
from tests.support.nginx import needs_nginx, nginx
from tests.support.ports import free_ports

from seresnext_client.contract import FormatName
from seresnext_client.labels import IMAGENET_FILE
from seresnext_client.transports.base import Tls, WireProtocol
from seresnext_server.config import ServerConfig
from seresnext_server.errors import ServerExited
from seresnext_server.server import RunningServer, TritonServer

pytestmark = pytest.mark.triton
CLIENT = commands.BIN / "seresnext-client"
NETWORK, ENSEMBLE = FormatName.ONNX.network, FormatName.ONNX.ensemble


def environment(url: str, **more: str) -> dict[str, str]:
    return os.environ | {"SERESNEXT_URL": url, "TERM": "xterm", "COLUMNS": "100"} | more


def run(url: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return commands.run("seresnext-client", *arguments, environment=environment(url, NO_COLOR="1"))


@contextlib.contextmanager
def running(url: str, *arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [CLIENT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(url),
        # A shell's background jobs ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def remaining_output(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Return the output that was not read yet; communicate() misses what readline() has already buffered."""
    assert process.stdout is not None
    assert process.stderr is not None
    rest = process.stdout.read(), process.stderr.read()
    process.wait(30)
    return rest


def shown_on_a_terminal(url: str, *arguments: str | Path, stdout_too: bool) -> str:
    """Return what a command writes to a terminal that is its stderr, and its stdout if wanted."""
    terminal, other_end = pty.openpty()
    with subprocess.Popen(
        [CLIENT, *arguments],
        stdout=other_end if stdout_too else subprocess.DEVNULL,
        stderr=other_end,
        env={name: value for name, value in environment(url).items() if name != "NO_COLOR"},
    ):
        os.close(other_end)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
            while chunk := os.read(terminal, 1 << 16):
                shown += chunk
    os.close(terminal)
    return shown.decode()


def endless(tmp_path: Path, image: Path) -> Path:
    """Return a file of more names than can be classified in a test."""
    names = tmp_path / "names"
    names.write_text(f"{image}\n" * 100_000)
    return names


@pytest.mark.parametrize("output", ["json", "jsonl", "csv"])
def test_ctrl_c_prints_the_results_so_far_and_ends(
    output: str, small_server: RunningServer, grace_hopper: Path, tmp_path: Path
) -> None:
    names = endless(tmp_path, grace_hopper)
    with running(small_server.grpc_url, "classify", "--from-file", names, "--output", output) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGINT)
        rest, errors = remaining_output(process)
    assert process.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == "interrupted"
    text = "".join(first) + rest
    match output:
        case "json":
            assert len(json.loads(text)) >= 20
        case "jsonl":
            assert all(json.loads(line)["predictions"] for line in text.splitlines())
        case _:
            assert all(line.count(",") >= 7 for line in text.splitlines())


def test_ctrl_c_ends_the_wait_for_a_silent_server(grace_hopper: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        for protocol in ("http", "grpc"):
            model = ("--model", "some", "--timeout", "1000", "--protocol", protocol, "--url", url)
            with running(url, "classify", grace_hopper, *model) as process, silent.accept()[0]:
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == -signal.SIGINT


def test_a_server_that_dies_ends_the_run_with_6_after_the_results_so_far(
    small_repository: Path, grace_hopper: Path, tmp_path: Path
) -> None:
    names = endless(tmp_path, grace_hopper)
    with (
        TritonServer(ServerConfig(small_repository)) as server,
        running(server.grpc_url, "classify", "--from-file", names, "--output", "json") as process,
    ):
        assert process.stdout is not None
        first = process.stdout.readline()
        os.kill(server.pid, signal.SIGKILL)
        rest, errors = remaining_output(process)
    assert process.returncode == 6
    assert len(errors.splitlines()) == 1, errors
    assert server.grpc_url in errors
    assert all(result["predictions"] for result in json.loads(first + rest))


def test_requests_are_retried_until_a_server_is_back(
    small_repository: Path, grace_hopper: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names"
    names.write_text(f"{grace_hopper}\n" * 3000)
    with TritonServer(ServerConfig(small_repository)) as server:
        ports = [int(url.rsplit(":", 1)[1]) for url in (server.http_url, server.grpc_url, server.metrics_url)]
        command = ("classify", "--from-file", names, "--output", "jsonl", "--top", "1", "--retries", "10")
        with running(server.grpc_url, *command) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
            reader.start()
            os.kill(server.pid, signal.SIGKILL)
            with pytest.raises(ServerExited):
                server.wait(60)
            again = TritonServer(
                ServerConfig(small_repository, http_port=ports[0], grpc_port=ports[1], metrics_port=ports[2])
            )
            with again:
                reader.join(120)
                assert process.wait(10) == 0
    answers = [json.loads(line)["predictions"][0]["index"] for line in lines]
    assert len(answers) == 3000
    assert len(set(answers)) == 1


def test_with_little_shared_memory_only_the_image_that_does_not_fit_fails(
    small_repository: Path, grace_hopper: Path, tmp_path: Path
) -> None:
    """As in a container without --shm-size, which has 64 MB."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs root, for a /dev/shm of its own")
    large = tmp_path / "large.jpg"
    large.write_bytes(b"\xff\xd8\xff" + bytes(66_000_000))
    serve = [str(CLIENT.with_name("seresnext-serve")), "--repository", str(small_repository)]
    classify = [str(CLIENT), "classify", str(grace_hopper), str(large), str(grace_hopper), "--output", "jsonl"]
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "sh"]
    completed = subprocess.run(
        [*small, *serve, *ANY_PORTS, "--", *classify],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert completed.returncode == 3, completed.stderr
    first, refused, last = map(json.loads, completed.stdout.splitlines())
    assert first["predictions"] == last["predictions"]
    assert refused["error"].startswith("too large for the server's shared memory")


def test_colors_are_for_terminals(small_server: RunningServer, grace_hopper: Path) -> None:
    shown = shown_on_a_terminal(small_server.grpc_url, "classify", grace_hopper, stdout_too=True)
    assert "\x1b[32m" in shown
    assert "\x1b[" not in run(small_server.grpc_url, "classify", grace_hopper).stdout


def test_progress_is_shown_on_a_terminal_without_results(
    small_server: RunningServer, grace_hopper: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names"
    names.write_text(f"{grace_hopper}\n" * 200)
    command = ("classify", "--from-file", names)
    assert "classifying" in shown_on_a_terminal(small_server.grpc_url, *command, stdout_too=False)
    assert "classifying" not in shown_on_a_terminal(small_server.grpc_url, *command, stdout_too=True)


def test_server_and_client_preprocessing_give_the_same_answer(server: RunningServer, grace_hopper: Path) -> None:
    results = {}
    for place in ("server", "client"):
        completed = run(server.grpc_url, "classify", grace_hopper, "--output", "json", "--preprocess", place)
        (results[place],) = json.loads(completed.stdout)
    assert {place: result["model"] for place, result in results.items()} == {"server": ENSEMBLE, "client": NETWORK}
    assert results["server"]["predictions"] == results["client"]["predictions"]


def test_a_network_is_sent_pixels_and_an_ensemble_never_is(small_server: RunningServer, grace_hopper: Path) -> None:
    for model, place, status in ((NETWORK, "server", 0), (NETWORK, "client", 0), (ENSEMBLE, "client", 7)):
        completed = run(small_server.grpc_url, "classify", grace_hopper, "--model", model, "--preprocess", place)
        assert completed.returncode == status, completed.stderr
    assert "takes encoded images" in completed.stderr


def test_a_contact_sheet_is_drawn(small_server: RunningServer, grace_hopper: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    completed = run(small_server.grpc_url, "classify", grace_hopper, "nowhere.jpg", "--contact-sheet", sheet)
    assert completed.returncode == 3
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_labels_are_those_of_the_build(small_server: RunningServer) -> None:
    for place in ("server", "client"):
        completed = run(small_server.grpc_url, "labels", "--output", "json", "--preprocess", place)
        labels = [f"{label['wnid']} {label['label']}" for label in json.loads(completed.stdout)]
        assert labels == IMAGENET_FILE.read_text().splitlines()


def test_an_evaluation_measures_the_accuracy(
    server: RunningServer, images: tuple[Path, ...], reference_probabilities: NDArray[np.float32], tmp_path: Path
) -> None:
    labels = IMAGENET_FILE.read_text().splitlines()
    truths = [labels[index].split()[0] for index in reference_probabilities.argmax(axis=1)]
    truths[0] = next(wnid for wnid in (label.split()[0] for label in labels) if wnid not in truths)  # a wrong one
    for number, (image, truth) in enumerate(zip(images, truths, strict=True)):
        (tmp_path / truth).mkdir(exist_ok=True)
        shutil.copy(image, tmp_path / truth / f"{number}{image.suffix}")
    models = ("--model", ENSEMBLE, "--model", FormatName.TORCHSCRIPT.ensemble)
    completed = run(server.grpc_url, "evaluate", tmp_path, *models, "--output", "json", "--fail-under", "99")
    report = json.loads(completed.stdout)
    assert completed.returncode == 5
    for model in report["models"]:
        assert (model["top1"]["hits"], model["top1"]["of"]) == (len(images) - 1, len(images))
        assert model["worst"][0]["truth"].startswith(truths[0])
    assert report["agreement"][0]["top1"]["value"] == 1
    assert run(server.grpc_url, "evaluate", tmp_path, "--fail-under", "75", "--limit", "5").returncode == 0


@pytest.fixture(scope="module")
def proxy(
    small_server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tls, dict[WireProtocol, str]]]:
    """An nginx that requires a client certificate and refuses the index and the statistics."""
    folder = tmp_path_factory.mktemp("proxy")
    certificate = make_certificate(folder)
    http_port, grpc_port = free_ports(2)
    tls = f"""
        ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};
        ssl_client_certificate {certificate.ca}; ssl_verify_client on; client_max_body_size 100k;"""
    config = f"""
      server {{
        listen 127.0.0.1:{http_port} ssl; {tls}
        location ~ ^/v2/(repository|models/stats) {{ return 403; }}
        location / {{ proxy_pass http://{small_server.http_url}; }}
      }}
      server {{
        listen 127.0.0.1:{grpc_port} ssl http2; {tls}
        location ~ (RepositoryIndex|ModelStatistics)$ {{ return 403; }}
        location / {{ grpc_pass grpc://{small_server.grpc_url}; }}
      }}"""
    with nginx(folder, config, (http_port, grpc_port)):
        urls = {WireProtocol.HTTP: f"localhost:{http_port}", WireProtocol.GRPC: f"localhost:{grpc_port}"}
        yield certificate, urls


@needs_nginx
@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_proxy_with_tls_and_restricted_apis(
    protocol: WireProtocol, proxy: tuple[Tls, dict[WireProtocol, str]], grace_hopper: Path, tmp_path: Path
) -> None:
    certificate, urls = proxy
    address = ("--url", urls[protocol], "--protocol", protocol)
    ca = ("--tls-ca", str(certificate.ca))
    tls = (*ca, "--tls-cert", str(certificate.certificate), "--tls-key", str(certificate.key))

    completed = run(urls[protocol], "classify", grace_hopper, *address, *tls)
    assert completed.returncode == 0, completed.stderr
    assert len(completed.stdout.splitlines()) == 6

    status = run(urls[protocol], "status", *address, *tls)
    assert status.returncode == 0, status.stderr
    assert "403" in status.stdout

    (tmp_path / "large.bin").write_bytes(b"\xff\xd8\xff" + bytes(200_000))
    refused = run(urls[protocol], "classify", tmp_path / "large.bin", *address, *tls)
    assert refused.returncode == 7
    assert "413" in refused.stderr

    for options in ((), ("--tls",), ca):
        completed = run(urls[protocol], "classify", grace_hopper, *address, *options)
        assert completed.returncode in (6, 7), completed.stderr  # 7 where nginx answers without the certificate
        assert len(completed.stderr.splitlines()) == 1
        assert urls[protocol] in completed.stderr


def test_a_benchmark_measures_ensembles_and_networks(
    small_server: RunningServer, grace_hopper: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    models = ("--model", ENSEMBLE, "--model", NETWORK)
    load = ("--concurrency", "2", "--interval", "300", "--protocol", "grpc", "--protocol", "http")
    addresses = {"SERESNEXT_HTTP_URL": small_server.http_url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    completed = commands.run(
        *("seresnext-client", "benchmark", grace_hopper, "--results", results, *models, *load),
        environment=environment(small_server.grpc_url, **addresses),
        timeout_s=200,
    )
    if completed.returncode == 4:
        pytest.skip(completed.stderr)
    assert completed.returncode == 0, completed.stderr
    assert ENSEMBLE in completed.stdout
    measurements = json.loads((results / "results.json").read_text())["measurements"]
    assert [(measurement["load"]["model"], measurement["load"]["protocol"]) for measurement in measurements] == [
        (ENSEMBLE, "grpc"),
        (ENSEMBLE, "http"),
        (NETWORK, "grpc"),
        (NETWORK, "http"),
    ]
    for measurement in measurements:
        assert measurement["images_per_s"] > 0
        assert measurement["failures"] == 0
    assert (results / "report.html").stat().st_size > 50_000
    compared = run("nowhere:1", "compare", results, results).stdout
    assert len(re.findall(r"1\.00x +1\.00x", compared)) == 4
