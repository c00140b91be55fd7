"""The images that random weights are fitted to, INT8 is calibrated with and artefacts are verified with."""

import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seresnext_client.contract import PIXELS_SHAPE
from seresnext_client.errors import MissingPrerequisite
from seresnext_client.preprocessing import InvalidImage, preprocess
from seresnext_export.errors import NoVerificationImages

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]  # (N, 224, 224, 3), RGB

# Natural images and textures that two packages ship. They are read as files: an import would cost a second.
BUNDLED = {
    "skimage": tuple(
        f"data/{name}"
        for name in (
            "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "hubble_deep_field.jpg",
            "motorcycle_left.png", "retina.jpg", "rocket.jpg", "brick.png", "grass.png", "gravel.png", "moon.png",
        )
    ),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}  # fmt: skip


def bundled() -> tuple[Path, ...]:
    """Return the images that scikit-image and matplotlib ship; raises MissingPrerequisite without both."""
    paths = tuple(path for package, names in BUNDLED.items() for path in _installed(package, names))
    if not paths:
        message = "no images to verify with: pip install '.[export]', or name a folder of images"
        raise MissingPrerequisite(message)
    return paths


def images_in(folder: Path) -> tuple[Path, ...]:
    """Return the files of `folder`, sorted, without subfolders and hidden files; raises NoVerificationImages."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        message = f"{folder} is not a folder of images: {error.strerror}"
        raise NoVerificationImages(message) from error
    if not paths:
        message = f"no images in {folder}"
        raise NoVerificationImages(message)
    return tuple(paths)


def check(paths: Sequence[Path]) -> None:
    """Raise NoVerificationImages unless some of the images can be decoded; usually the first is all that is read."""
    if not any(_decodes(path) for path in paths):
        raise _none_decodes(paths)


def read(paths: Sequence[Path]) -> Pixels:
    """Return the images as UINT8 (N, 224, 224, 3), RGB.

    Images that cannot be decoded are left out, with a warning; raises NoVerificationImages where none is left.
    """
    pixels, failures = [], []
    for path in paths:
        try:
            pixels.append(preprocess(path.read_bytes()))
        except (InvalidImage, OSError) as error:
            failures.append(f"{path}: {error}")
    if not pixels:
        raise _none_decodes(paths)
    if failures:
        log.warning(
            "%d of %d images cannot be decoded and are left out; the first is %s",
            len(failures),
            len(paths),
            failures[0],
        )
    return np.stack(pixels)


def noise(count: int, seed: int = 0) -> Pixels:
    """Return `count` images of uniform noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, *PIXELS_SHAPE), np.uint8)


def _installed(package: str, names: Sequence[str]) -> Iterator[Path]:
    """Yield the files of a package that are installed."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        yield from (path for name in names if (path := Path(folder, name)).is_file())


def _decodes(path: Path) -> bool:
    try:
        preprocess(path.read_bytes())
    except (InvalidImage, OSError):
        return False
    return True


def _none_decodes(paths: Sequence[Path]) -> NoVerificationImages:
    message = f"none of the {len(paths)} images can be decoded"
    return NoVerificationImages(message + (f"; the first is {paths[0]}" if paths else ""))
