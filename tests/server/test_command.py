"""`seresnext-client` as a shell and a person meet it: terminals, Ctrl-C, a server that dies, a proxy with TLS."""

import contextlib
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import seresnext_export
from seresnext_server.server import TritonServer

pytestmark = pytest.mark.triton

CLIENT = Path(sys.executable).with_name("seresnext-client")
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.fixture(scope="module")
def small_server(small_repository: Path) -> Iterator[TritonServer]:
    with TritonServer(small_repository) as running:
        yield running


def environment(url: str, **more: str) -> dict[str, str]:
    return os.environ | {"SERESNEXT_URL": url, "TERM": "xterm", "COLUMNS": "100"} | more


def run(url: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [CLIENT, *arguments], capture_output=True, text=True, timeout=60, env=environment(url, NO_COLOR="1")
    )


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


def rest_of(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What is still to come; communicate() would miss what readline() has already taken from the pipe."""
    assert process.stdout is not None
    assert process.stderr is not None
    rest = process.stdout.read(), process.stderr.read()
    process.wait(30)
    return rest


def shown_on_a_terminal(url: str, *arguments: str | Path, stdout_too: bool) -> str:
    """What a person sees of a command whose stderr, and its stdout if wanted, are a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [CLIENT, *arguments],
        stdout=theirs if stdout_too else subprocess.DEVNULL,
        stderr=theirs,
        env={name: value for name, value in environment(url).items() if name != "NO_COLOR"},
    ):
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
            while chunk := os.read(ours, 1 << 16):
                seen += chunk
    os.close(ours)
    return seen.decode()


def endless(tmp_path: Path, picture: Path) -> Path:
    """More names than anyone waits for."""
    names = tmp_path / "names"
    names.write_text(f"{picture}\n" * 100_000)
    return names


@pytest.mark.parametrize("output", ["json", "jsonl", "csv"])
def test_ctrl_c_prints_what_is_done_and_leaves(
    output: str, small_server: TritonServer, grace_hopper: Path, tmp_path: Path
) -> None:
    names = endless(tmp_path, grace_hopper)
    with running(small_server.grpc_url, "classify", "--from-file", names, "--output", output) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGINT)
        rest, errors = rest_of(process)
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


def test_ctrl_c_leaves_a_server_that_says_nothing(grace_hopper: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        for protocol in ("http", "grpc"):
            model = ("--model", "some", "--timeout", "1000", "--protocol", protocol, "--url", url)
            with running(url, "classify", grace_hopper, *model) as process, silent.accept()[0]:
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == -signal.SIGINT


def test_a_server_that_dies_ends_the_run_with_6_after_what_is_done(
    small_repository: Path, grace_hopper: Path, tmp_path: Path
) -> None:
    names = endless(tmp_path, grace_hopper)
    with (
        TritonServer(small_repository) as server,
        running(server.grpc_url, "classify", "--from-file", names, "--output", "json") as process,
    ):
        assert process.stdout is not None
        first = process.stdout.readline()
        os.kill(server.pid, signal.SIGKILL)
        rest, errors = rest_of(process)
    assert process.returncode == 6
    assert len(errors.splitlines()) == 1, errors
    assert server.grpc_url in errors
    assert all(one["predictions"] for one in json.loads(first + rest))


def test_a_server_that_is_back_in_time_is_not_missed(
    small_repository: Path, grace_hopper: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names"
    names.write_text(f"{grace_hopper}\n" * 3000)
    with TritonServer(small_repository) as server:
        ports = [int(url.rsplit(":", 1)[1]) for url in (server.http_url, server.grpc_url, server.metrics_url)]
        command = ("classify", "--from-file", names, "--output", "jsonl", "--top", "1", "--retries", "10")
        with running(server.grpc_url, *command) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
            reader.start()
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            again = TritonServer(small_repository, http_port=ports[0], grpc_port=ports[1], metrics_port=ports[2])
            with again:
                reader.join(120)
                assert process.wait(10) == 0
    answers = [json.loads(line)["predictions"][0]["index"] for line in lines]
    assert len(answers) == 3000
    assert len(set(answers)) == 1


def test_a_small_shared_memory_costs_only_the_picture_that_does_not_fit(
    small_repository: Path, grace_hopper: Path, tmp_path: Path
) -> None:
    """As in a container without --shm-size, which has 64 MB."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("may not make a /dev/shm of its own")
    large = tmp_path / "large.jpg"
    large.write_bytes(b"\xff\xd8\xff" + bytes(66_000_000))
    serve = [str(CLIENT.with_name("seresnext-serve")), "--repository", str(small_repository)]
    ports = [option for port in ("http", "grpc", "metrics") for option in (f"--{port}-port", "0")]
    classify = [str(CLIENT), "classify", str(grace_hopper), str(large), str(grace_hopper), "--output", "jsonl"]
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "sh"]
    finished = subprocess.run(
        [*small, *serve, *ports, "--", *classify],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 3, finished.stderr
    first, refused, last = map(json.loads, finished.stdout.splitlines())
    assert first["predictions"] == last["predictions"]
    assert refused["error"].startswith("too large for the server's shared memory")


def test_colours_are_on_a_terminal_only(small_server: TritonServer, grace_hopper: Path) -> None:
    seen = shown_on_a_terminal(small_server.grpc_url, "classify", grace_hopper, stdout_too=True)
    assert "\x1b[32m" in seen
    assert "\x1b[" not in run(small_server.grpc_url, "classify", grace_hopper).stdout


def test_progress_is_shown_where_the_results_are_not(
    small_server: TritonServer, grace_hopper: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names"
    names.write_text(f"{grace_hopper}\n" * 200)
    command = ("classify", "--from-file", names)
    assert "200/?" in shown_on_a_terminal(small_server.grpc_url, *command, stdout_too=False)
    assert "200/?" not in shown_on_a_terminal(small_server.grpc_url, *command, stdout_too=True)


def test_both_places_of_preprocessing_give_the_same_answer(server: TritonServer, grace_hopper: Path) -> None:
    found = [
        json.loads(run(server.grpc_url, "classify", grace_hopper, "--output", "json", "--preprocess", where).stdout)
        for where in ("server", "client")
    ]
    assert [one["model"] for (one,) in found] == ["seresnext101_onnx_ensemble", "seresnext101_onnx"]
    assert found[0][0]["predictions"] == found[1][0]["predictions"]


def test_a_network_that_is_sent_pictures_says_so_once(server: TritonServer, grace_hopper: Path) -> None:
    finished = run(server.grpc_url, "classify", grace_hopper, grace_hopper, "--model", "seresnext101_onnx")
    assert finished.returncode == 7
    assert "a network their pixels (--preprocess client)" in finished.stderr
    assert finished.stdout == ""


def test_a_sheet_is_drawn_of_what_was_done(small_server: TritonServer, grace_hopper: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    finished = run(small_server.grpc_url, "classify", grace_hopper, "nowhere.jpg", "--save-plot", sheet)
    assert finished.returncode == 3
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_labels_are_those_of_the_build(small_server: TritonServer) -> None:
    wanted = Path(seresnext_export.__file__).with_name("labels.txt").read_text().splitlines()
    for where in ("server", "client"):
        found = json.loads(run(small_server.grpc_url, "labels", "--output", "json", "--preprocess", where).stdout)
        assert [f"{one['wnid']} {one['label']}" for one in found] == wanted


def test_an_evaluation_measures_what_is_known(
    server: TritonServer, pictures: list[Path], answers: NDArray[np.float32], tmp_path: Path
) -> None:
    labels = Path(seresnext_export.__file__).with_name("labels.txt").read_text().splitlines()
    truths = [labels[index].split()[0] for index in answers.argmax(axis=1)]
    truths[0] = next(wnid for wnid in (label.split()[0] for label in labels) if wnid not in truths)  # one is wrong
    for number, (picture, truth) in enumerate(zip(pictures, truths, strict=True)):
        (tmp_path / truth).mkdir(exist_ok=True)
        shutil.copy(picture, tmp_path / truth / f"{number}{picture.suffix}")
    models = ("--model", "seresnext101_onnx_ensemble", "--model", "seresnext101_torchscript_ensemble")
    finished = run(server.grpc_url, "evaluate", tmp_path, *models, "--output", "json", "--fail-under", "99")
    report = json.loads(finished.stdout)
    assert finished.returncode == 5
    for model in report["models"]:
        assert (model["top1"]["hits"], model["top1"]["of"]) == (len(pictures) - 1, len(pictures))
        assert model["worst"][0]["truth"].startswith(truths[0])
    assert report["agreement"][0]["top1"]["value"] == 1
    assert run(server.grpc_url, "evaluate", tmp_path, "--fail-under", "75", "--limit", "5").returncode == 0


@pytest.fixture(scope="module")
def proxy(small_server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int, int]]:
    """An nginx that wants a client's certificate and lets nobody at the index and the statistics."""
    if NGINX is None:
        pytest.skip("needs nginx")
    folder = tmp_path_factory.mktemp("proxy")
    certificate = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    subprocess.run(
        [
            *("openssl", "req", "-x509", *certificate, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        http_port, grpc_port = (held.getsockname()[1] for held in (one, other))
    tls = f"""
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
        ssl_client_certificate {folder}/cert.pem; ssl_verify_client on; client_max_body_size 100k;"""
    (folder / "nginx.conf").write_text(f"""
    daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;
    events {{}}
    http {{
      access_log off;
      client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
      fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
      server {{
        listen 127.0.0.1:{http_port} ssl; {tls}
        location ~ ^/v2/(repository|models/stats) {{ return 403; }}
        location / {{ proxy_pass http://{small_server.http_url}; }}
      }}
      server {{
        listen 127.0.0.1:{grpc_port} ssl http2; {tls}
        location ~ (RepositoryIndex|ModelStatistics)$ {{ return 403; }}
        location / {{ grpc_pass grpc://{small_server.grpc_url}; }}
      }}
    }}""")
    with subprocess.Popen([NGINX, "-e", folder / "error.log", "-c", folder / "nginx.conf"]) as process:
        try:
            for port in (http_port, grpc_port):
                _wait_for(port)
            yield folder, http_port, grpc_port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(port)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_proxy_with_tls_that_restricts_is_lived_with(
    protocol: str, proxy: tuple[Path, int, int], grace_hopper: Path, tmp_path: Path
) -> None:
    folder, http_port, grpc_port = proxy
    url = f"localhost:{http_port if protocol == 'http' else grpc_port}"
    where = ("--url", url, "--protocol", protocol)
    tls = ("--tls-ca", folder / "cert.pem", "--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem")

    finished = run(url, "classify", grace_hopper, *where, *tls)
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) == 6

    found = run(url, "status", *where, *tls)
    assert "the list of models cannot be had: " in found.stdout
    assert "the statistics cannot be had: " in found.stdout

    (tmp_path / "large.bin").write_bytes(b"\xff\xd8\xff" + bytes(200_000))
    refused = run(url, "classify", tmp_path / "large.bin", *where, *tls)
    assert refused.returncode == 7
    assert "413" in refused.stderr

    for options in ((), ("--tls",), ("--tls-ca", folder / "cert.pem")):
        finished = run(url, "classify", grace_hopper, *where, *options)
        assert finished.returncode in (6, 7), finished.stderr
        assert len(finished.stderr.splitlines()) == 1
        assert url in finished.stderr


def test_a_benchmark_measures_ensembles_and_networks(
    small_server: TritonServer, grace_hopper: Path, tmp_path: Path
) -> None:
    models = ("--model", "seresnext101_onnx_ensemble", "--model", "seresnext101_onnx")
    sizes = ("--concurrency", "2", "--interval", "300", "--wire", "grpc", "--wire", "http")
    with_http = {"SERESNEXT_HTTP_URL": small_server.http_url}
    finished = subprocess.run(
        [CLIENT, "benchmark", grace_hopper, "--results", tmp_path / "results", *models, *sizes],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment(small_server.grpc_url, **with_http),
    )
    if finished.returncode == 4 and "cannot fetch" in finished.stderr:
        pytest.skip(finished.stderr)
    assert finished.returncode == 0, finished.stderr
    assert "Fastest is seresnext101_onnx_ensemble over " in finished.stdout
    measured = json.loads((tmp_path / "results" / "results.json").read_text())["measurements"]
    assert [(one["load"]["model"], one["load"]["protocol"]) for one in measured] == [
        ("seresnext101_onnx_ensemble", "grpc"),
        ("seresnext101_onnx_ensemble", "http"),
        ("seresnext101_onnx", "grpc"),
        ("seresnext101_onnx", "http"),
    ]
    assert all(one["pictures_per_s"] > 10 and one["failures"] == 0 for one in measured)
    assert all(one["batches"]["seresnext101_onnx"] for one in measured)
    assert (tmp_path / "results" / "report.html").stat().st_size > 50_000
    again = run("nowhere:1", "compare", tmp_path / "results", tmp_path / "results")
    assert again.stdout.count("1.00x    1.00x") == 4
