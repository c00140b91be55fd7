"""Files that are no images of ours, and files that were images until some of their bytes changed."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

from tests.support import image_kinds
from tests.support.image_files import PNG_SIGNATURE, png_chunk

from seresnext_client.preprocessing import Reason


@cache
def jpeg() -> bytes:
    return image_kinds.encode(image_kinds.sample_image(), "JPEG")


@cache
def png_bomb() -> bytes:
    """A PNG of 100 kB whose 2.5 billion pixels would take as many bytes."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    content = b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(100)), packer.flush()])
    return PNG_SIGNATURE + header + png_chunk(b"IDAT", content) + png_chunk(b"IEND")


INVALID: dict[str, tuple[Callable[[], bytes], Reason]] = {
    "empty": (bytes, Reason.EMPTY),
    "text": (lambda: b"not an image", Reason.UNKNOWN_FORMAT),
    "a page": (lambda: b"<!doctype html><html></html>", Reason.UNKNOWN_FORMAT),
    "svg": (
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        Reason.UNKNOWN_FORMAT,
    ),
    "a magic number alone": (lambda: b"\xff\xd8\xff", Reason.UNKNOWN_FORMAT),
    "truncated": (lambda: jpeg()[:20_000], Reason.DAMAGED),
    "truncated pgm": (lambda: image_kinds.KINDS["pgm 16 bit"]()[:1000], Reason.DAMAGED),
    "truncated png": (lambda: image_kinds.KINDS["png 8 bit"]()[:20_000], Reason.DAMAGED),
    "a bomb": (png_bomb, Reason.TOO_MANY_PIXELS),
    "eps": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", Reason.UNKNOWN_FORMAT),
    "zeros": (lambda: bytes(10_000), Reason.UNKNOWN_FORMAT),
    "noise": (lambda: random.Random(0).randbytes(10_000), Reason.UNKNOWN_FORMAT),
}


def mutations(count: int, seed: int) -> Iterator[bytes]:
    """Yield files of every kind, a few of their bytes changed, cut out or repeated."""
    dice = random.Random(seed)
    kinds = [name for name in image_kinds.KINDS if "x" not in name.split()[-1]]
    files = [image_kinds.KINDS[name]() for name in dice.sample(kinds, min(len(kinds), count))]
    for number in range(count):
        content = bytearray(files[number % len(files)])
        for _ in range(dice.randint(1, 3)):
            # Headers are short and decide most.
            position = dice.randrange(dice.choice((64, 1024, len(content), len(content))) % len(content) + 1)
            match dice.randrange(4):
                case 0:
                    content[position : position + 1] = bytes([dice.randrange(256)])
                case 1:
                    content[position : position + 4] = dice.randbytes(4)
                case 2:
                    del content[position : position + dice.randint(1, 64)]
                case _:
                    content[position:position] = content[position : position + dice.randint(1, 64)]
            content = content or bytearray(b"x")
        yield bytes(content)
