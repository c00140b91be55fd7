"""Estimates the memory and CPU time of decoding an image from its header.

The constants are upper bounds, measured on the most expensive files of each format;
`python -m tests.benchmarks.hostile_images` compares the estimates with measurements. A build copies this file beside
the preprocessing model's `model.py`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from .image_headers import BMP_RUN_LENGTHS, TIFF_JPEG, TIFF_LZMA, Header
    from .image_limits import Cost
    from .netpbm import Netpbm
else:
    from image_headers import BMP_RUN_LENGTHS, TIFF_JPEG, TIFF_LZMA, Header
    from image_limits import Cost
    from netpbm import Netpbm

# Bytes per pixel of Pillow's modes; four in all others.
MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
FIXED_MEMORY = 2 << 20
# For each pixel that is converted to gray or RGB.
CONVERSION_BYTES, CONVERSION_NS = 4, 10


def decoding_cost(header: Header, size: tuple[int, int], mode: str, *, converted: bool) -> Cost:
    """Return the cost of an image that Pillow decodes.

    Args:
        size, mode: Pillow's; of the image as it is stored.
        converted: whether it is converted to gray or RGB after decoding.
    """
    pixels, file_bytes, components = size[0] * size[1], len(header.content), header.components
    image_bytes = pixels * MODE_BYTES.get(mode, 4)
    decoder_bytes = 0
    match header.format:
        case "JPEG":
            cpu_ns = pixels * 2.0 * components + file_bytes * 6
            if header.scans > 1:  # the decoder holds all coefficients, and visits them in each scan
                decoder_bytes = pixels * 2 * components
                cpu_ns += pixels * (2 * components + 0.2 * header.scans) + header.scans * 10_000 + file_bytes * 12
        case "PNG":
            cpu_ns = pixels * 3.5 + header.raw_bytes * 3 + min(file_bytes * 20, header.raw_bytes * 5)
            if header.has_deep_color_key:  # decoded twice
                image_bytes, cpu_ns = 2 * image_bytes, 2 * cpu_ns
        case "TIFF":
            raw_bytes = max(header.raw_bytes, header.buffer_bytes)
            slow = header.compression == TIFF_LZMA
            decoder_bytes = header.buffer_bytes + header.strips * 400
            cpu_ns = pixels * 2.0 + raw_bytes * (5 if slow else 3) + header.strips * 5000
            cpu_ns += min(file_bytes * (32 if slow else 20), raw_bytes * 16)
            if header.compression == TIFF_JPEG:  # libtiff allows up to 100 scans
                decoder_bytes += 2 * header.buffer_bytes
                cpu_ns += raw_bytes * 6
        case "GIF":
            cpu_ns = pixels * 4.0 + file_bytes * 10
        case "BMP" if header.compression in BMP_RUN_LENGTHS:  # unpacked in Python
            decoder_bytes = pixels * 3
            cpu_ns = pixels * 100.0 + file_bytes * 500
        case "WEBP":  # two canvases and a frame
            decoder_bytes = pixels * 12 + file_bytes
            cpu_ns = pixels * (35.0 if mode == "RGBA" else 15.0) + file_bytes * 50
        case "AVIF":  # planes with and without film grain, and a frame
            decoder_bytes = pixels * (24 if header.bits > 8 else 14) + file_bytes
            cpu_ns = pixels * 15.0 + file_bytes * 55
        case _:
            cpu_ns = pixels * 6.0
    if converted:
        read_pixels = min(size) ** 2  # a center square
        decoder_bytes = max(decoder_bytes, read_pixels * CONVERSION_BYTES)
        cpu_ns += read_pixels * CONVERSION_NS
    return Cost(FIXED_MEMORY + 2 * file_bytes + image_bytes + decoder_bytes, cpu_ns / 1e9)


def netpbm_cost(header: Netpbm, file_bytes: int) -> Cost:
    """Return the cost of a Netpbm file."""
    pixels = header.width * header.height
    samples = pixels * header.channels
    memory = FIXED_MEMORY + samples + 4 * pixels
    cpu_ns = samples * 13
    if header.is_text:
        memory += 2 * file_bytes + 8 * min(samples, file_bytes // 2)
        cpu_ns += file_bytes * 20
    return Cost(memory, cpu_ns / 1e9)
