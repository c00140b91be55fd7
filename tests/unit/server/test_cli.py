"""The command line becomes a configuration and a command; signals become exceptions."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seresnext_server import cli
from seresnext_server.command import CommandNotFound, resolve
from seresnext_server.config import Device, ServerConfig
from seresnext_server.errors import ServerExited

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Ended:
    """A running server that ended by itself."""

    serving = ("model_ensemble",)
    failed = {"other_ensemble": "no file"}  # noqa: RUF012
    grpc_url, http_url, metrics_url = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"

    def wait(self) -> None:
        message = "tritonserver ended by itself"
        raise ServerExited(message)


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Restore the handlers that the command replaces."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def configurations(monkeypatch: pytest.MonkeyPatch) -> list[ServerConfig]:
    """The configurations that servers were started with."""
    started: list[ServerConfig] = []

    @contextmanager
    def server(config: ServerConfig) -> Iterator[Ended]:
        started.append(config)
        yield Ended()

    monkeypatch.setattr(cli, "TritonServer", server)
    return started


def test_options_become_the_configuration(configurations: list[ServerConfig]) -> None:
    options = ["--repository", "models", "--host", "::1", "--http-port", "0", "--grpc-port", "1", "--metrics-port", "2"]
    more = ["--device", "cpu", "--log-file", "log", "--triton-arg=--log-verbose=1", "--triton-arg=--strict-readiness"]
    CliRunner().invoke(cli.app, options + more)
    assert configurations == [
        ServerConfig(
            Path("models"),
            host="::1",
            http_port=0,
            grpc_port=1,
            metrics_port=2,
            device=Device.CPU,
            log_file=Path("log"),
            triton_arguments=("--log-verbose=1", "--strict-readiness"),
        )
    ]


def test_the_defaults_are_the_ports_of_triton_on_loopback(configurations: list[ServerConfig]) -> None:
    CliRunner().invoke(cli.app, [])
    (config,) = configurations
    assert (config.host, config.http_port, config.grpc_port, config.metrics_port) == ("127.0.0.1", 8000, 8001, 8002)


def test_a_server_that_ends_by_itself_is_an_error_with_a_reason(configurations: list[ServerConfig]) -> None:
    result = CliRunner().invoke(cli.app, [])
    assert result.exit_code == ServerExited.exit_code
    assert result.stderr.splitlines() == [
        "warning: other_ensemble is not served: no file",
        "serving model_ensemble",
        "gRPC 127.0.0.1:1, HTTP 127.0.0.1:2, metrics 127.0.0.1:3/metrics",
        "error: tritonserver ended by itself",
    ]


@pytest.mark.parametrize("options", [["--http-port", "65536"], ["--http-port", "-1"], ["--device", "tpu"], ["--no"]])
def test_options_that_cannot_be_used_are_a_usage_error(configurations: list[ServerConfig], options: list[str]) -> None:
    assert CliRunner().invoke(cli.app, options).exit_code == 2
    assert configurations == []


def test_a_command_that_does_not_exist_is_found_out_before_the_server_starts(
    configurations: list[ServerConfig],
) -> None:
    assert CliRunner().invoke(cli.app, ["--", "no-such-program", "--option"]).exit_code == 127
    assert configurations == []


def test_a_program_is_resolved_as_a_shell_does(tmp_path: Path) -> None:
    assert resolve(["sh", "-c", "true"])[1:] == ["-c", "true"]
    assert Path(resolve(["sh"])[0]).is_absolute()
    data = tmp_path / "data"
    data.write_text("")
    for program, status in (("no-such-program", 127), (str(tmp_path / "missing"), 127), (str(data), 126)):
        with pytest.raises(CommandNotFound) as caught:
            resolve([program])
        assert caught.value.status == status


@pytest.mark.parametrize("number", SIGNALS[1:])
def test_a_signal_becomes_the_exit_status_of_a_shell_and_later_ones_are_ignored(number: signal.Signals) -> None:
    cli._stop_on_signals()
    with pytest.raises(SystemExit) as caught:
        signal.raise_signal(number)
    assert caught.value.code == 128 + number
    for other in SIGNALS:
        signal.raise_signal(other)


def test_nohup_is_honored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    cli._stop_on_signals()
    signal.raise_signal(signal.SIGHUP)
