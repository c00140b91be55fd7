"""Images are written as perf_analyzer sends them, and only those that a server can use."""

import base64
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seresnext_client.benchmark.input_data import (
    MAX_IMAGES,
    read_images,
    write_input_data,
    write_pixel_batches,
)
from seresnext_client.errors import ImageError
from seresnext_client.images import Source
from seresnext_client.preprocessing import preprocess
from seresnext_client.signature import CONTRACT_IMAGES, CONTRACT_PIXELS, EncodedInput

PPM = b"P5 2 2 255\n\x00\x40\x80\xff"


def test_an_image_is_a_bytes_element(tmp_path: Path) -> None:
    write_input_data(tmp_path / "in.json", [PPM], CONTRACT_IMAGES)
    (entry,) = json.loads((tmp_path / "in.json").read_text())["data"]
    assert base64.b64decode(entry["image"]["b64"]) == struct.pack("<I", len(PPM)) + PPM


def test_the_bytes_of_a_file_may_be_numbers(tmp_path: Path) -> None:
    signature = replace(CONTRACT_IMAGES, input=EncodedInput(name="x", datatype="UINT8", axes=1))
    write_input_data(tmp_path / "in.json", [PPM], signature)
    (entry,) = json.loads((tmp_path / "in.json").read_text())["data"]
    assert entry == {"x": {"content": {"b64": base64.b64encode(PPM).decode()}, "shape": [len(PPM)]}}


def test_pixels_are_those_of_the_preprocessing(tmp_path: Path) -> None:
    write_input_data(tmp_path / "in.json", [PPM], CONTRACT_PIXELS)
    (entry,) = json.loads((tmp_path / "in.json").read_text())["data"]
    pixels = np.frombuffer(base64.b64decode(entry["pixels"]["content"]["b64"]), np.uint8)
    np.testing.assert_array_equal(pixels.reshape(entry["pixels"]["shape"]), preprocess(PPM))


def test_batches_of_pixels_are_full_and_hold_every_image(tmp_path: Path) -> None:
    images = [b"P5 1 1 255\n%c" % gray for gray in (10, 20, 30)]
    write_pixel_batches(tmp_path / "in.json", images, 2)
    entries = [entry["pixels"] for entry in json.loads((tmp_path / "in.json").read_text())["data"]]
    assert [entry["shape"] for entry in entries] == [[2, 224, 224, 3]] * 2
    batches = [np.frombuffer(base64.b64decode(entry["content"]["b64"]), np.uint8) for entry in entries]
    grays = [batch.reshape(2, -1).mean(axis=1).tolist() for batch in batches]
    assert grays == [[10, 20], [30, 10]]


def test_images_that_the_server_would_refuse_are_refused_before() -> None:
    with pytest.raises(ImageError):
        read_images([])
    with pytest.raises(ImageError):
        read_images([Source("a", lambda: PPM), Source("b", lambda: b"text")])


def test_no_more_images_are_read_than_are_sent() -> None:
    assert len(read_images(Source("a", lambda: PPM) for _ in range(2 * MAX_IMAGES))) == MAX_IMAGES
