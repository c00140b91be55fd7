"""Where the weights come from: nothing is read before it is asked for, and nothing falls back silently."""

import logging
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.small_network import small_checkpoint

from seresnext_client.errors import SeresnextError
from seresnext_client.progress import NO_PROGRESS
from seresnext_client.provenance import CheckpointIdentity
from seresnext_export.checkpoints import random_weights
from seresnext_export.checkpoints.source import Checkpoint, CheckpointSource
from seresnext_export.errors import DownloadFailed, InvalidCheckpoint, InvalidRequest

DIGEST_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "weights.pth").write_bytes(b"abc")
    return tmp_path / "weights.pth"


@pytest.fixture
def unreachable() -> str:
    """An address at which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth"


def test_a_file_is_identified_before_it_is_loaded(file: Path) -> None:
    checkpoint = CheckpointSource.resolve(str(file), ema=True).fetch(NO_PROGRESS)
    assert checkpoint.identity == CheckpointIdentity(source="weights.pth", sha256=DIGEST_OF_ABC, ema=True)
    with pytest.raises(InvalidCheckpoint, match=r"weights\.pth is not a checkpoint"):
        checkpoint.load()


def test_resolving_reads_nothing(tmp_path: Path) -> None:
    source = CheckpointSource.resolve(str(tmp_path / "missing.pth"))
    with pytest.raises(InvalidCheckpoint, match=r"missing\.pth: No such file"):
        source.fetch(NO_PROGRESS)


def test_another_digest_is_refused(file: Path) -> None:
    CheckpointSource.resolve(str(file), sha256=DIGEST_OF_ABC).fetch(NO_PROGRESS)
    with pytest.raises(InvalidCheckpoint, match=DIGEST_OF_ABC):
        CheckpointSource.resolve(str(file), sha256="ab" * 32).fetch(NO_PROGRESS)


def test_random_weights_are_announced(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_checkpoint().load()
    monkeypatch.setattr(random_weights, "random_network", lambda: network)
    with caplog.at_level(logging.WARNING):
        checkpoint = CheckpointSource.resolve("random").fetch(NO_PROGRESS)
    assert checkpoint.identity.is_random
    assert checkpoint.load() is network
    assert "RANDOM" in caplog.text


@pytest.mark.parametrize("options", [{"ema": True}, {"sha256": "ab" * 32}])
def test_random_weights_take_no_options_of_a_file(options: dict[str, str | bool]) -> None:
    with pytest.raises(InvalidRequest):
        CheckpointSource.resolve("random", **options)  # type: ignore[arg-type]


def test_a_failed_download_is_an_error_or_random_weights_as_asked_for(
    unreachable: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DownloadFailed):
        CheckpointSource.resolve(unreachable).fetch(NO_PROGRESS)
    with caplog.at_level(logging.WARNING):
        assert CheckpointSource.resolve(unreachable, or_random=True).fetch(NO_PROGRESS).identity.is_random
    download, random = (record.getMessage() for record in caplog.records)
    assert "cannot download" in download
    assert "RANDOM" in random


def test_a_missing_file_never_becomes_random_weights(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint):
        CheckpointSource.resolve(str(tmp_path / "missing.pth"), or_random=True).fetch(NO_PROGRESS)


def test_a_checkpoint_is_its_own_source() -> None:
    checkpoint = small_checkpoint()
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.fetch(NO_PROGRESS) is checkpoint


# Without letters: a name that a resolver might know takes its time.
ADDRESSES = st.text(st.sampled_from("0127.:[]@/\\%#?&= \x00\n\t\u00e9\u202e-_~"), max_size=40)


@given(scheme=st.sampled_from(["http://", "https://", "HTTP://"]), rest=ADDRESSES)
@settings(max_examples=100, deadline=None)
def test_any_address_is_refused_by_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, scheme: str, rest: str
) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp()))
        for url in (f"{scheme}127.0.0.1:1/{rest}", f"{scheme}{rest}"):
            with pytest.raises(SeresnextError):
                CheckpointSource.resolve(url).fetch(NO_PROGRESS)
