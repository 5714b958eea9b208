"""What image files are, by their bytes: their kind, and their pixels without the metadata."""

import re
import struct
import zlib

from ..storage.files import regular_file

READ = {  # what a file that is read begins with
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF....WEBP",
    "BMP": rb"BM....\0\0\0\0",
}
OTHER_IMAGES = {
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb"....ftyp.{0,28}avi[fs]",
    "HEIC": rb"....ftyp(hei|hev|mif1|msf1)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "icon": rb"\0\0\x01\0",
    "Photoshop": rb"8BPS",
    "SVG": rb"(\xef\xbb\xbf)?\s*(<\?xml.*)?<svg",
}
OTHERS = {
    "HTML": rb"(?i)(\xef\xbb\xbf)?\s*(<!--.*)?<(!doctype html|html|head|body)",
    "PDF": rb"%PDF",
    "PostScript": rb"%!PS",
    "ZIP": rb"PK\x03\x04",
    "gzip": rb"\x1f\x8b",
    "video": rb"....ftyp",
    "Git LFS pointer": rb"version https://git-lfs",
    "text": rb"[\t\n\r -~]+\Z",
}
SUFFIX_OF = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "BMP": ".bmp"}


def kind_of(path):
    """What a file is by its first bytes: a key of `READ`, `OTHER_IMAGES` or `OTHERS`, or ''."""
    with open(regular_file(path), "rb") as file:
        start = file.read(512)
    kinds = {**READ, **OTHER_IMAGES, **OTHERS}
    return next((kind for kind in kinds if re.match(kinds[kind], start, re.DOTALL)), "")


def misnamed(path):
    """Why a file without an image's suffix is left out; '' for one that is no image."""
    kind = kind_of(path)
    if kind in READ:
        return f"{kind} of another suffix (rename to {SUFFIX_OF[kind]})"
    return kind if kind in OTHER_IMAGES else ""


def without_metadata(content):
    """The bytes of a JPEG, PNG or WebP file without what says nothing about its pixels.

    Pillow can skip damaged metadata only together with damaged pixels, so it is cut out here.
    An intact orientation stays.  Files of other kinds come back as they are.
    """
    chunks = {"JPEG": _jpeg_pixels, "PNG": _png_pixels, "WebP": _webp_pixels}
    for kind, pixels in chunks.items():
        if re.match(READ[kind], content, re.DOTALL):
            return b"".join(pixels(content))
    return content


def _jpeg_pixels(content):
    yield content[:2]
    at = 2
    while len(content) >= at + 4 and content[at] == 0xFF and content[at + 1] != 0xDA:
        marker, (length,) = content[at + 1], struct.unpack(">H", content[at + 2 : at + 4])
        segment = content[at : at + 2 + max(2, length)]
        is_metadata = marker == 0xFE or 0xE0 <= marker <= 0xEF
        says_colours = marker in (0xE0, 0xEE) and length >= 14  # JFIF, Adobe
        if not is_metadata or says_colours or segment[4:10] == b"Exif\0\0":
            yield segment
        at += len(segment)
    yield content[at:]


def _png_pixels(content):
    yield content[:8]
    at = 8
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8].ljust(8, b"\0"))
        chunk = content[at : at + 12 + length]
        right = zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]
        is_metadata = kind[:1].islower() and kind != b"tRNS"  # others are critical
        if not is_metadata or kind == b"eXIf" and right:
            yield chunk
        at += len(chunk)


def _webp_pixels(content):
    kept, at = [], 12
    while at < len(content):
        kind, length = struct.unpack("<4sI", content[at : at + 8].ljust(8, b"\0"))
        chunk = content[at : at + 8 + length + length % 2]
        is_whole = len(chunk) == 8 + length + length % 2
        if kind not in (b"ICCP", b"XMP ", b"EXIF") or kind == b"EXIF" and is_whole:
            kept.append(chunk)
        at += len(chunk)
    yield b"RIFF" + struct.pack("<I", 4 + sum(map(len, kept))) + b"WEBP"
    yield from kept
