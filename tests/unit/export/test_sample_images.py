"""The images that artefacts are verified with."""

import logging
from pathlib import Path

import pytest

from seresnext_client.contract import PIXELS_SHAPE
from seresnext_client.errors import MissingPrerequisite
from seresnext_export import sample_images
from seresnext_export.errors import NoVerificationImages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one that is damaged, a hidden file and a subfolder."""
    (tmp_path / "a.png").write_bytes(sample_images.bundled()[0].read_bytes())
    (tmp_path / "b.jpg").write_bytes(b"not an image")
    (tmp_path / "c.png").write_bytes(sample_images.bundled()[1].read_bytes())
    (tmp_path / ".hidden").touch()
    (tmp_path / "subfolder").mkdir()
    return tmp_path


def test_a_folder_is_its_visible_files_in_order(folder: Path) -> None:
    assert [path.name for path in sample_images.images_in(folder)] == ["a.png", "b.jpg", "c.png"]


def test_an_image_that_cannot_be_decoded_is_left_out_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pixels = sample_images.read(sample_images.images_in(folder))
    assert pixels.shape == (2, *PIXELS_SHAPE)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"1 of 3 images cannot be decoded and are left out; the first is {folder}/b.jpg"
    )


def test_without_a_single_image_there_is_nothing_to_verify_with(folder: Path) -> None:
    damaged = (folder / "b.jpg",)
    for use in (sample_images.check, sample_images.read):
        with pytest.raises(NoVerificationImages, match=r"none of the 1 .*b\.jpg"):
            use(damaged)
        with pytest.raises(NoVerificationImages):
            use(())
    sample_images.check((*damaged, folder / "a.png"))


@pytest.mark.parametrize("name", ["missing", "a.png", "subfolder"])
def test_a_folder_without_images_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(NoVerificationImages, match=name):
        sample_images.images_in(folder / name)


def test_bundled_images_come_with_packages_that_are_named_if_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(sample_images.bundled()) >= 10
    monkeypatch.setattr(sample_images, "find_spec", lambda package: None)
    with pytest.raises(MissingPrerequisite, match=r"\.\[export\]"):
        sample_images.bundled()


def test_noise_is_reproducible() -> None:
    assert (sample_images.noise(2) == sample_images.noise(3)[:2]).all()
    assert (sample_images.noise(2) != sample_images.noise(2, seed=1)).any()
