"""Addresses, ports, paths and reasons, without a server."""

import os
import socket
from pathlib import Path

import pytest

from seresnext_client.errors import MissingPrerequisite
from seresnext_server import gpu, server
from seresnext_server.config import Device, ServerConfig
from seresnext_server.errors import NothingToServe, NotWritable, PortUnavailable
from seresnext_server.server import TritonServer
from seresnext_server.triton_process import open_log


@pytest.mark.parametrize(
    ("host", "reachable"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")],
)
def test_an_endpoint_is_an_address_that_a_client_can_use(host: str, reachable: str) -> None:
    endpoints = server._endpoints(ServerConfig(Path("models"), host=host))
    ports = (endpoints.http_port, endpoints.grpc_port, endpoints.metrics_port)
    assert len(set(ports)) == 3
    assert endpoints.url(endpoints.http_port) == f"{reachable}:{endpoints.http_port}"


def test_a_name_is_resolved() -> None:
    assert server._endpoints(ServerConfig(Path("models"), host="localhost")).address in ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a\0b", ""])
def test_an_address_that_this_machine_does_not_have_is_refused(host: str) -> None:
    if host:
        with pytest.raises(PortUnavailable, match="cannot listen on"):
            server._endpoints(ServerConfig(Path("models"), host=host))


def test_a_port_in_use_and_equal_ports_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(PortUnavailable, match=str(port)):
            server._endpoints(ServerConfig(Path("models"), grpc_port=port))
    with pytest.raises(PortUnavailable):
        server._endpoints(ServerConfig(Path("models"), grpc_port=port, http_port=port))


def test_a_safe_path_is_used_as_it_is_and_another_through_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    plain, strange = tmp_path / "models", tmp_path / "my $(models)"
    for repository in (plain, strange):
        repository.mkdir()
    assert server._safe_path(plain, folder) == plain
    link = server._safe_path(strange, folder)
    assert link.parent == folder
    assert link.resolve() == strange


def test_the_reasons_of_an_ensemble_are_those_of_its_models() -> None:
    reasons = {"ensemble": "depends on network", "network": "no file"}
    assert server._reason("ensemble", ("decode", "network"), reasons) == "network: no file"
    assert server._reason("ensemble", (), reasons) == "depends on network"
    assert "log" in server._reason("other", (), reasons)


def test_what_cannot_be_served_is_found_out_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(NothingToServe), TritonServer(ServerConfig(tmp_path / "missing")):
        pass
    if not gpu.is_present():
        with pytest.raises(MissingPrerequisite), TritonServer(ServerConfig(tmp_path, device=Device.GPU)):
            pass


def test_a_device_hides_the_gpu_or_not() -> None:
    assert server._device_environment(Device.CPU) == {"SERESNEXT_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    assert server._device_environment(Device.AUTO) == {"SERESNEXT_DEVICE": "auto"}


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, tmp_path / "missing" / "log", fifo, Path("a\0b")):
        with pytest.raises(NotWritable):
            open_log(path)


def test_a_log_is_appended_to_and_may_be_a_device(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for text in (b"first ", b"second"):
        with open_log(log) as output:
            output.write(text)
    assert log.read_bytes() == b"first second"
    open_log(log, truncate=True).close()
    assert log.read_bytes() == b""
    open_log(Path("/dev/null")).close()
