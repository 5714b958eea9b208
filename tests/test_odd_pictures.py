"""Image files as people's folders hold them: damaged metadata costs nothing, what is left out is named with the reason."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from d2lvae.data import DataError, load_faces
from d2lvae.sources import image_folder
from PIL import Image, ImageFile

SIZE = 96
ORIENTATION = 0x0112


def face():
    """Colours, edges and an up: neither turned nor mirrored it equals itself."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    pixels = np.stack([x, y, 1 - x * y], axis=2)
    pixels[(x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.05] = (1, 0.8, 0.7)
    return Image.fromarray((255 * pixels).astype(np.uint8))


def saved(kind, image=None, **options):
    file = io.BytesIO()
    (image or face()).save(file, kind, **options)
    return file.getvalue()


def exif(orientation):
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found.tobytes()


def chunk(kind, data, checksum=None):
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(*chunks, image=None):
    """With chunks between the header and the pixels."""
    content = saved("PNG", image)
    return content[:33] + b"".join(chunks) + content[33:]


def png_after(*chunks):
    """With chunks between the pixels and the end."""
    content = saved("PNG")
    return content[:-12] + b"".join(chunks) + content[-12:]


def jpeg(marker, data, image=None):
    content = saved("JPEG", image, quality=95, subsampling=0)
    return (
        content[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data + content[2:]
    )


def webp(kind, data, missing=0):
    """With a chunk of metadata behind the pixels, of which the last bytes may be missing."""
    flags = {b"EXIF": 8, b"XMP ": 4}[kind]
    extended = b"VP8X" + struct.pack("<IB3x", 10, flags) + (SIZE - 1).to_bytes(3, "little") * 2
    metadata = kind + struct.pack("<I", len(data) + missing) + data + b"\0" * (len(data) % 2)
    body = b"WEBP" + extended + saved("WEBP", lossless=True)[12:] + metadata
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(image, alpha):
    """32 bits a pixel with a field for alpha."""
    pixels = np.asarray(image)[::-1, :, ::-1]
    pixels = np.dstack([pixels, np.full(pixels.shape[:2], alpha, np.uint8)]).tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, SIZE, SIZE, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return (
        b"BM"
        + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header))
        + header
        + pixels
    )


PROMPT = zlib.compress(b"a prompt, " * 200_000)
SHOW_THE_FACE = {
    "Exif that is no TIFF.png": png(chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03")),
    "Exif behind the pixels.png": png_after(chunk(b"eXIf", b"garbage!")),
    "Exif with a wrong checksum.png": png(chunk(b"eXIf", exif(1)[6:], checksum=1)),
    "Exif that is no TIFF.webp": saved("WEBP", lossless=True, exif=b"Exif\0\0\0\x08\0\x02garbage!"),
    "Exif cut short.webp": webp(b"EXIF", exif(1)[:20], missing=40),
    "Exif that is no TIFF.jpg": jpeg(0xE1, b"Exif\0\0garbage!"),
    "packed prompt.png": png(chunk(b"zTXt", b"parameters\0\0" + PROMPT)),
    "packed prompt behind the pixels.png": png_after(chunk(b"zTXt", b"parameters\0\0" + PROMPT)),
    "packed prompt in Unicode.png": png(chunk(b"iTXt", b"parameters\0\1\0\0\0" + PROMPT)),
    "70 MB of text.png": png(chunk(b"tEXt", b"parameters\0" + b"a" * 70_000_000)),
    "text packed otherwise.png": png(chunk(b"zTXt", b"parameters\0\7abc")),
    "text with a wrong checksum.png": png(chunk(b"tEXt", b"parameters\0abc", checksum=1)),
    "profile too large.png": png(chunk(b"iCCP", b"sRGB\0\0" + PROMPT)),
    "profile cut short.png": png(chunk(b"iCCP", b"")),
    "chromaticities cut short.png": png(chunk(b"cHRM", b"\0\1")),
    "resolution cut short.png": png(chunk(b"pHYs", b"\0\1")),
    "gamma cut short.png": png(chunk(b"gAMA", b"")),
    "animation cut short.png": png(chunk(b"acTL", b"\0\0")),
    "frame cut short.png": png_after(chunk(b"fcTL", b"\0\0"), chunk(b"fdAT", b"")),
    "profile cut short.jpg": jpeg(0xE2, b"ICC_PROFILE\0"),
    "Adobe's segment cut short.jpg": jpeg(0xEE, b"Adobe\0"),
    "JFIF cut short.jpg": jpeg(0xE0, b"JFIF\0"),
    "Photoshop's segment cut short.jpg": jpeg(0xED, b"Photoshop 3.0\x008BIM\4"),
    "list of images that is none.jpg": jpeg(0xE2, b"MPF\0garbage!"),
    "unused alpha.bmp": bmp(face(), 0),
    "opaque alpha.bmp": bmp(face(), 255),
}


def assert_is_face(array, tolerance, image=None):
    expected = np.asarray((image or face()).resize((64, 64), Image.Resampling.LANCZOS)).transpose(
        2, 0, 1
    )
    assert np.abs(array.astype(int) - expected).mean() <= tolerance


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
@pytest.mark.parametrize("name", SHOW_THE_FACE)
def test_metadata_never_costs_an_image(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(SHOW_THE_FACE[name])
    assert_is_face(image_folder.decode(path, 64), tolerance=2 if name.endswith(".jpg") else 0)


TURNS = {  # Exif's orientation: what brings it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def test_what_is_compared_with_is_no_other_way_up():
    for turn in TURNS.values():
        with pytest.raises(AssertionError):
            assert_is_face(
                np.asarray(face().transpose(turn).resize((64, 64))).transpose(2, 0, 1), 2
            )


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_every_orientation_is_turned_upright(tmp_path, kind, orientation):
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(
        orientation, TURNS.get(orientation)
    )
    turned = face() if back is None else face().transpose(back)
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    (tmp_path / "a").write_bytes(saved(kind, turned, exif=exif(orientation), **options))
    assert_is_face(image_folder.decode(tmp_path / "a", 64), tolerance=2 if kind == "JPEG" else 0)


def test_an_intact_orientation_survives_other_metadata_that_is_damaged(tmp_path):
    turned = face().transpose(Image.Transpose.ROTATE_90)
    for content in (
        png(chunk(b"eXIf", exif(6)[6:]), chunk(b"zTXt", b"parameters\0\0" + PROMPT), image=turned),
        saved("JPEG", turned, exif=exif(6), quality=95).replace(
            b"\xff\xe1", b"\xff\xe2\0\x0eICC_PROFILE\0\xff\xe1", 1
        ),
    ):
        (tmp_path / "a").write_bytes(content)
        assert_is_face(image_folder.decode(tmp_path / "a", 64), tolerance=2)


def test_sixteen_bits_are_turned_upright_as_well(tmp_path):
    grey = face().convert("L")
    wide = Image.fromarray(
        np.asarray(grey.transpose(Image.Transpose.ROTATE_90)).astype(np.uint16) * 257
    )
    wide.save(tmp_path / "a.png", exif=exif(6))
    assert_is_face(image_folder.decode(tmp_path / "a.png", 64), 1, grey.convert("RGB"))


def test_pixels_that_are_damaged_are_refused_whatever_the_metadata(tmp_path):
    content = bytearray(png(chunk(b"zTXt", b"parameters\0\0" + PROMPT)))
    content[content.index(b"IEND") - 5] ^= 1  # of the pixels' checksum
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(Exception, match="checksum|broken"):
        image_folder.decode(tmp_path / "a.png", 64)


# folders


@pytest.fixture
def anime(tmp_path, monkeypatch):
    """A data root's anime/ with 25 faces."""
    folder = tmp_path / "anime"
    folder.mkdir()
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path))
    for i in range(25):
        (folder / f"{i:03}.png").write_bytes(png())
    return folder


def said_of(anime, capsys, files):
    """What is printed on a folder of 25 faces and these files, the first and the second time."""
    for name, content in files.items():
        (anime / name).parent.mkdir(exist_ok=True)
        (anime / name).write_bytes(content)
    load_faces("anime", image_size=32)
    first = capsys.readouterr().out
    load_faces("anime", image_size=32)  # from the cache
    assert capsys.readouterr().out == first
    return first.splitlines()


def test_every_one_of_them_is_used(anime, capsys):
    lines = said_of(anime, capsys, SHOW_THE_FACE)
    assert len(lines) == 1 and f"from {25 + len(SHOW_THE_FACE)} files" in lines[0]


GIF = saved("GIF", face().convert("P"))
AVIF = b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + bytes(50)
HALF = saved("JPEG")[:1000]
LEFT_OUT = {
    "GIF": {"a.jpg": GIF, "a.gif": GIF, "a": GIF},
    "TIFF": {"a.jpg": saved("TIFF"), "a.tif": saved("TIFF")},
    "AVIF": {
        "a.jpg": AVIF,
        "b.jpg": b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif" + bytes(9),
        "a.avif": AVIF,
    },
    "HEIC": {"a.jpeg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)},
    "icon": {"a.png": saved("ICO")},
    "JPEG 2000": {"a.jpg": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20)},
    "HTML": {"a.jpg": b"<!DOCTYPE html>\n<html>404</html>", "b.png": b"\n<HTML><body>no</body>"},
    "SVG": {"a.png": b'<?xml version="1.0"?>\n<svg></svg>', "a.svg": b"<svg></svg>"},
    "PDF": {"a.png": b"%PDF-1.4\n"},
    "ZIP": {"a.png": b"PK\x03\x04" + bytes(50)},
    "Git LFS pointer": {"a.png": b"version https://git-lfs.github.com/spec/v1\n"},
    "text": {"a.png": b"this is no image\n"},
    "empty": {"a.webp": b""},
    "of no known kind": {"a.bmp": bytes(range(200))},
    "JPEG, damaged or cut short": {"a.jpg": HALF, "b.png": HALF},
    "PNG, damaged or cut short": {"a.png": png()[:-20]},
    "JPEG of another suffix (rename to .jpg)": {
        "a.jfif": saved("JPEG"),
        "a.jpg_large": saved("JPEG"),
        "b/c": saved("JPEG"),
    },
    "PNG of another suffix (rename to .png)": {"a": png()},
    "of one colour, or wholly transparent": {
        "a.png": saved("PNG", Image.new("RGBA", (SIZE, SIZE), (9, 8, 7, 0))),
        "b.jpg": saved("JPEG", Image.new("L", (SIZE, SIZE), 7)),
        "c.bmp": bmp(Image.new("RGB", (SIZE, SIZE)), 0),
    },
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_what_is_left_out_is_counted_and_named_with_the_reason(anime, capsys, reason):
    files = LEFT_OUT[reason]
    lines = said_of(anime, capsys, files)
    assert lines[0].startswith(f"{len(files)} file(s) or folder(s) in {anime} are left out")
    assert lines[1] == f"  {len(files)} {reason}: {', '.join(sorted(files))}"
    assert len(lines) == 3 and "from 25 files" in lines[2]


def test_half_an_image_is_left_out_whatever_gluoncv_has_told_pillow(anime, capsys, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as `import gluoncv` does
    lines = said_of(anime, capsys, {"a.jpg": HALF})
    assert lines[1] == "  1 JPEG, damaged or cut short: a.jpg" and "from 25 files" in lines[2]


def test_three_names_a_reason_and_the_commonest_first(anime, capsys):
    files = {
        **{f"{i}.jpg": GIF for i in range(5)},
        "page.jpg": b"<html>",
        **{f"{i}.png": b"" for i in range(6, 8)},
    }
    assert said_of(anime, capsys, files)[1:-1] == [
        "  5 GIF: 0.jpg, 1.jpg, 2.jpg, ...",
        "  2 empty: 6.png, 7.png",
        "  1 HTML: page.jpg",
    ]


def test_other_files_beside_images_are_passed_over(anime, capsys):
    others = {
        "captions.txt": b"hair",
        "README": b"of",
        "labels.csv": b"1,2",
        "archive.zip": b"PK\x03\x04",
        "page.html": b"<html>",
        ".hidden.gif": GIF,
        "empty": b"",
    }
    assert len(said_of(anime, capsys, others)) == 1


def test_a_folder_of_gifs_alone_is_not_an_empty_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path))
    (tmp_path / "anime").mkdir()
    (tmp_path / "anime" / "a.gif").write_bytes(GIF)
    with pytest.raises(DataError, match=r"0 image\(s\) that can be read"):
        load_faces("auto")
    assert "1 GIF: a.gif" in capsys.readouterr().out


def test_a_file_of_too_many_bytes(anime, monkeypatch, capsys):
    monkeypatch.setattr(image_folder, "MAX_BYTES", 20_000)
    assert "20,000 bytes: a.png" in said_of(anime, capsys, {"a.png": png() + bytes(20_000)})[1]


# names

ODD_NAMES = {
    "été.jpg": "été.jpg",
    "日本.jpg": "日本.jpg",
    "a\nb.jpg": r"a\nb.jpg",
    "\x1b[31mred.jpg": r"\x1b[31mred.jpg",
    "\u202egpj.jpg": r"\u202egpj.jpg",
    "\x85.jpg": r"\x85.jpg",
}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_printed_on_one_line_without_control_characters(anime, capsys, name):
    lines = said_of(anime, capsys, {name: b""})
    assert lines[1] == f"  1 empty: {ODD_NAMES[name]}" and len(lines) == 3


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_an_output_of_few_letters_takes_every_name(tmp_path, monkeypatch, encoding):
    """Names of files, and of the folder: in what is left out, in what an unusable cache is called, and without any image."""
    root = tmp_path / "データ"
    (root / "anime").mkdir(parents=True)
    monkeypatch.setenv("D2LVAE_DATA", str(root))
    output = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr("d2lvae.data.drawn_faces", lambda *a: None)
    load_faces("auto")
    for i in range(25):
        (root / "anime" / f"{i}.png").write_bytes(png())
    open(os.fsencode(root / "anime") + "/日本é".encode() + b"\xff.jpg", "wb").close()
    (root / ".anime_64.cache").write_text("something else")
    load_faces("anime")
    output.flush()
    said = output.buffer.getvalue().decode(encoding)
    japanese, accented = (
        ("日本", "é")
        if encoding == "utf-8"
        else (r"\u65e5\u672c", "é" if encoding == "latin-1" else r"\xe9")
    )
    assert rf"1 empty: {japanese}{accented}\udcff.jpg" in said
    assert (
        "drawn faces" in said
        and "made anew" in said
        and ("データ" in said) == (encoding == "utf-8")
    )
