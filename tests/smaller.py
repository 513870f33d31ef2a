"""A picture of a page with fewer colours, as it is kept in the repository."""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = 256
RGB, PALETTE = 2, 3  # the two kinds of PNG
COARSE = 0b11110000  # what is kept of the seldom colours, those of letters' edges


def smaller(png: bytes) -> bytes:
    """The same picture in 256 colours: a third of the bytes, and nobody sees the difference."""
    parts = list(chunks(png))
    width, height, depth, kind = struct.unpack(">IIBB", dict(parts)[b"IHDR"][:10])
    assert (depth, kind) == (8, RGB)
    raw = zlib.decompress(b"".join(body for name, body in parts if name == b"IDAT"))
    rows = [list(pixels(line)) for line in lines(raw, width * 3)]
    counted = Counter(pixel for row in rows for pixel in row)
    coarse = Counter(coarsely(pixel) for pixel in counted)
    kept = [pixel for pixel, _ in counted.most_common(max(0, COLOURS - len(coarse)))]
    palette = [*kept, *(pixel for pixel in coarse if pixel not in kept)][:COLOURS]
    number = {pixel: place for place, pixel in enumerate(palette)}
    index = {pixel: number.get(pixel, number.get(coarsely(pixel), 0)) for pixel in counted}
    drawn = b"".join(b"\0" + bytes(index[pixel] for pixel in row) for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 8, PALETTE, 0, 0, 0)
    colours = b"".join(bytes(pixel) for pixel in palette)
    return SIGNATURE + b"".join(
        chunk(name, body)
        for name, body in (
            (b"IHDR", head),
            (b"PLTE", colours),
            (b"IDAT", zlib.compress(drawn, 9)),
            (b"IEND", b""),
        )
    )


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The parts of a PNG, each with its name."""
    at = len(SIGNATURE)
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += size + 12


def chunk(name: bytes, body: bytes) -> bytes:
    """A part as it is written."""
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def coarsely(pixel: tuple[int, int, int]) -> tuple[int, int, int]:
    """A colour like many others."""
    red, green, blue = (value & COARSE | value >> 4 for value in pixel)
    return red, green, blue


def pixels(line: bytes) -> Iterator[tuple[int, int, int]]:
    """The colours of a line."""
    return zip(line[0::3], line[1::3], line[2::3], strict=True)


def lines(raw: bytes, width: int) -> Iterator[bytes]:
    """The lines without the filters that they were written by (PNG, 9.2)."""
    above = bytes(width)
    for at in range(0, len(raw), width + 1):
        line = bytearray(raw[at + 1 : at + 1 + width])
        for place in range(width):
            left = line[place - 3] if place >= 3 else 0
            corner = above[place - 3] if place >= 3 else 0
            guess = predicted(raw[at], left, above[place], corner)
            line[place] = (line[place] + guess) & 255
        above = bytes(line)
        yield above


def predicted(method: int, left: int, above: int, corner: int) -> int:
    """What a filter takes a byte to be."""
    if method == 4:
        nearest = left + above - corner
        return min((left, above, corner), key=lambda value: abs(nearest - value))
    return (0, left, above, (left + above) // 2)[method]
