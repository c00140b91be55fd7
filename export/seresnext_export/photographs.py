"""The pictures that random weights are fitted to and artefacts are verified with."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seresnext_client.preprocessing import BadPicture, preprocess
from seresnext_export.errors import MissingPrerequisite, UnusablePictures

Pixels = NDArray[np.uint8]

# What two packages ship, photographs only. They are read as files: importing the packages would cost a second.
SHIPPED = {
    "skimage": tuple(
        f"data/{name}"
        for name in (
            "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "hubble_deep_field.jpg",
            "motorcycle_left.png", "retina.jpg", "rocket.jpg", "brick.png", "grass.png", "gravel.png", "moon.png",
        )
    ),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}  # fmt: skip


def shipped() -> list[Path]:
    """Return the photographs that scikit-image and matplotlib brought along."""
    found = []
    for package, names in SHIPPED.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            found += [Path(folder, name) for name in names if Path(folder, name).is_file()]
    if not found:
        message = "no photographs to verify with: pip install 'seresnext-triton[export]', or give --verify-images DIR"
        raise MissingPrerequisite(message)
    return found


def pictures_in(folder: Path) -> list[Path]:
    """Return the files of `folder`, in order, without descending into it."""
    if not folder.is_dir():
        message = f"{folder} is not a folder of pictures"
        raise UnusablePictures(message)
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def read(paths: Sequence[Path]) -> Pixels:
    """Return the pictures as UINT8 (N, 224, 224, 3), RGB; those that cannot be decoded are left out."""
    pixels = []
    for path in paths:
        try:
            pixels.append(preprocess(path.read_bytes()))
        except BadPicture:
            continue
    if not pixels:
        message = f"no picture among {len(paths)} files" + (f" of {paths[0].parent}" if paths else "")
        raise UnusablePictures(message)
    return np.stack(pixels)


def noise(count: int, seed: int = 0) -> Pixels:
    """Return `count` pictures of uniform noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, 224, 224, 3), np.uint8)
