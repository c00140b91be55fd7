"""Many images from an object store, by several processes that end early: every image gets one result."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.commands import run
from tests.support.ports import free_ports, wait_for_listener
from tests.support.waiting import eventually

from seresnext_server.server import RunningServer

pytestmark = pytest.mark.triton
SHARDS = 3
REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": REGION}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server with the API of S3; yields the environment in which its clients find it."""
    for package in ("moto", "s3fs"):
        pytest.importorskip(package)
    (port,) = free_ports(1)
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log
    )
    try:
        assert wait_for_listener(port, 60)
        yield {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@pytest.fixture(scope="module")
def bucket(s3: dict[str, str], images: tuple[Path, ...]) -> str:
    """Thirty images, one of which is damaged, and a text file."""
    import boto3

    store = boto3.client(
        "s3",
        endpoint_url=s3["AWS_ENDPOINT_URL"],
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name=REGION,
    )
    store.create_bucket(Bucket="images")
    jpegs = [path for path in images if path.suffix == ".jpg"]
    for number in range(29):
        key = f"{number % 3}/{number:03}.jpg"
        store.put_object(Bucket="images", Key=key, Body=jpegs[number % len(jpegs)].read_bytes())
    store.put_object(Bucket="images", Key="1/damaged.jpg", Body=b"\xff\xd8\xff\xe0" + bytes(100))
    store.put_object(Bucket="images", Key="notes.txt", Body=b"text")
    store.close()
    return "s3://images/"


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def test_shards_classify_every_object_of_a_bucket_once(
    small_server: RunningServer, s3: dict[str, str], bucket: str, tmp_path: Path
) -> None:
    environment = s3 | {"SERESNEXT_URL": small_server.grpc_url}
    statuses = []
    for shard in range(SHARDS):
        options = ("--output", "jsonl", "--resume", tmp_path / f"{shard}.jsonl", "--shard", f"{shard}/{SHARDS}")
        finished = run("seresnext-client", "classify", bucket, *options, environment=environment)
        assert finished.stdout == ""
        assert "1 files" in finished.stderr
        statuses.append(finished.returncode)
    assert sorted(statuses) == [0, 0, 3], "one shard has the damaged image"
    results = [record for shard in range(SHARDS) for record in records(tmp_path / f"{shard}.jsonl")]
    assert len({str(result["image"]) for result in results}) == len(results) == 30
    assert [result["image"] for result in results if "error" in result] == ["s3://images/1/damaged.jpg"]


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def kill_after(command: list[str | Path], environment: dict[str, str], file: Path, file_size: int) -> bool:
    """Run a command, and kill it when its file has reached a size; return whether it was still running."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    eventually(lambda: process.poll() is not None or size(file) > file_size)
    process.kill()
    return process.wait(60) == -signal.SIGKILL


def test_a_process_that_is_killed_goes_on_where_it_was(
    small_server: RunningServer, s3: dict[str, str], bucket: str, tmp_path: Path
) -> None:
    file = tmp_path / "results.jsonl"
    environment = os.environ | s3 | {"SERESNEXT_URL": small_server.grpc_url}
    options = ["--output", "jsonl", "--resume", str(file), "--batch-size", "1", "--concurrency", "1"]
    command: list[str | Path] = [Path(sys.executable).parent / "seresnext-client", "classify", bucket, *options]
    killed = 0
    while size(file) == 0 or len(records(file)) < 25:
        killed += kill_after(command, environment, file, size(file) + 4000)
    assert killed >= 3
    finished = run("seresnext-client", "classify", bucket, *options, environment=environment)
    assert finished.returncode in (0, 3), finished.stderr
    names = [record["image"] for record in records(file)]
    assert len(set(names)) == len(names) == 30


def test_an_unreachable_store_is_said_in_one_line(small_server: RunningServer, tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": address, "SERESNEXT_URL": small_server.grpc_url}
    finished = run("seresnext-client", "classify", "s3://images/a.jpg", environment=environment)
    assert finished.returncode == 3
    assert "Traceback" not in finished.stderr
    assert len(finished.stdout.splitlines()) == 2
