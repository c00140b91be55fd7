"""The repository on disk: models are published whole, or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from seresnext_client.contract import PREPROCESSING_MODEL, FormatName
from seresnext_export.errors import ExportFailed, InvalidRepository
from seresnext_export.repository import digest, keep_versions, publish_model, staging

ONNX_MODELS = {PREPROCESSING_MODEL, FormatName.ONNX.network, FormatName.ONNX.ensemble}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Where a repository will be; nothing may be left beside it."""
    yield tmp_path / "models"
    assert {path.name for path in tmp_path.iterdir()} <= {"models"}


def model(folder: Path, name: str, content: str) -> Path:
    """Write a model directory with one version."""
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "1" / "model").write_text(content)
    return folder / name


def test_publishing_the_same_model_again_changes_nothing(target: Path) -> None:
    for expected in (True, False):
        with staging(target) as stage:
            assert publish_model(model(stage.folder, "a", "content"), target) is expected


def test_a_model_is_replaced_with_everything_in_it(target: Path) -> None:
    target.mkdir()
    (model(target, "a", "old") / "extra").touch()
    with staging(target) as stage:
        assert publish_model(model(stage.folder, "a", "new"), target)
    assert [path.name for path in (target / "a").iterdir()] == ["1"]
    assert (target / "a" / "1" / "model").read_text() == "new"


def test_byte_code_that_a_server_wrote_is_no_difference(target: Path) -> None:
    target.mkdir()
    (model(target, "a", "content") / "1" / "__pycache__").mkdir()
    with staging(target) as stage:
        assert not publish_model(model(stage.folder, "a", "content"), target)


def test_kept_versions_are_hard_links(target: Path) -> None:
    published = model(target, "a", "old")
    with staging(target) as stage:
        (stage.folder / "a" / "2").mkdir(parents=True)
        keep_versions(published, stage.folder / "a")
        assert (stage.folder / "a" / "1" / "model").samefile(published / "1" / "model")


def test_an_empty_repository_that_a_failed_build_created_is_removed(target: Path) -> None:
    with pytest.raises(RuntimeError), staging(target):
        raise RuntimeError
    assert not target.exists()


def test_a_file_is_not_a_repository(target: Path) -> None:
    target.write_text("")
    with pytest.raises(InvalidRepository, match="is not a directory"), staging(target):
        pass


def test_a_full_disk_is_an_export_that_failed(target: Path) -> None:
    with pytest.raises(ExportFailed, match="no space left"), staging(target):
        raise OSError(28, os.strerror(28))


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a mount point that can be written")
def test_a_mount_point_is_refused(tmp_path: Path) -> None:
    mount = Path("/dev/shm")
    before = set(mount.iterdir())
    with pytest.raises(InvalidRepository, match="is a mount point"), staging(mount):
        pass
    assert set(mount.iterdir()) <= before


def test_a_repository_may_be_a_link(target: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    real = tmp_path_factory.mktemp("real") / "models"
    real.mkdir()
    link = tmp_path_factory.mktemp("link") / "models"
    link.symlink_to(real)
    with staging(link) as stage:
        publish_model(model(stage.folder, "a", "content"), link)
    assert [path.name for path in real.iterdir()] == ["a"]
    assert link.is_symlink()


def test_the_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert digest(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
