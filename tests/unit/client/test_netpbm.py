"""Netpbm's formats are read whatever their depth, and refused where they are damaged."""

import numpy as np
import pytest

from seresnext_client.image_limits import InvalidImage, Reason
from seresnext_client.netpbm import decode_netpbm, read_netpbm


def decode(image: bytes) -> list[object]:
    rows: list[object] = np.asarray(decode_netpbm(image, read_netpbm(image))).tolist()
    return rows


@pytest.mark.parametrize(
    ("image", "pixels"),
    [
        (b"P1 2 2\n1 0\n01", [[0, 255], [255, 0]]),
        (b"P1\n# black\n2 1\n10# the end", [[0, 255]]),
        (b"P2 3 1 2\n0 1 2", [[0, 128, 255]]),
        (b"P2 2 1 65535\n0 65535", [[0, 255]]),
        (b"P3 1 1 255\n1 2 3", [[[1, 2, 3]]]),
        (b"P4 10 1\n\xff\x40", [[0] * 8 + [255, 0]]),
        (b"P4 9 1\n\x00\x80", [[255] * 8 + [0]]),
        (b"P5 2 1 255\n\x00\xff", [[0, 255]]),
        (b"P5 2 1 100\n\x32\x64", [[128, 255]]),
        (b"P5 2 1 4095\n\x00\x00\x0f\xff", [[0, 255]]),
        (b"P6 1 1 65535\n\xff\xff\x80\x00\x00\x00", [[[255, 128, 0]]]),
        (b"Pf 1 2 -1\n" + np.array([0.5, 1], "<f4").tobytes(), [[255], [128]]),
        (b"PF 1 1 1\n" + np.array([0, 0.5, 1], ">f4").tobytes(), [[[0, 128, 255]]]),
    ],
)
def test_samples_are_those_of_the_specification(image: bytes, pixels: list[object]) -> None:
    assert decode(image) == pixels


@pytest.mark.parametrize(
    "image",
    [
        b"P5 2 2 255\n\0\0\0",
        b"P5 2 2",
        b"P5 0 2 255\n",
        b"P5 2 2 0\n\0\0\0\0",
        b"P5 2 2 65536\n" + bytes(8),
        b"P5 two 2 255\n\0\0\0\0",
        b"P5 -2 2 255\n\0\0\0\0",
        b"P2 2 1 255\n1 300",
        b"P2 2 1 255\n1 -3",
        b"P2 2 1 255\n1 x",
        b"P1 2 1\n12",
        b"Pf 1 1 0\n\0\0\0\0",
        b"Pf 1 1 nan\n\0\0\0\0",
        b"P6 1 1 255 \n",
    ],
)
def test_damaged_files_are_refused(image: bytes) -> None:
    with pytest.raises(InvalidImage) as caught:
        decode(image)
    assert caught.value.reason is Reason.DAMAGED
