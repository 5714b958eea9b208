"""Faces: any folder of images, decoded right, cached honestly; and faces drawn by rule."""

import errno
import importlib.util
import os
import pathlib
import re
import struct
import subprocess
import sys
import types
import zlib

import d2lvae
import numpy as np
import PIL
import pytest
from d2lvae import data as datasets
from d2lvae.config import ParameterError
from d2lvae.data import DataError, NoImages, load_faces, real_faces
from d2lvae.engine import threads
from d2lvae.sources import image_bytes, image_folder, synthetic, synthetic_faces
from d2lvae.storage import files
from PIL import Image

RED, BLUE = (220, 20, 30), (20, 30, 200)


def red_square(size=(64, 64)):
    """Red at the right of the top on blue: neither a mirrored nor a turned nor a scrambled one equals it."""
    image = Image.new("RGB", size, BLUE)
    width, height = size
    image.paste(RED, (width // 2, height // 8, width - width // 8, height // 2))
    return image


def assert_is_red_square(array, tolerance=2):
    assert array.shape[0] == 3 and array.dtype == np.uint8
    size = array.shape[1]
    expected = np.empty((3, size, size))
    expected[:] = np.array(BLUE)[:, None, None]
    expected[:, size // 8 : size // 2, size // 2 : size - size // 8] = np.array(RED)[:, None, None]
    edges = abs(array.astype(int) - expected).max(axis=0) > tolerance
    assert edges.mean() < 0.1, "only the rim of the square may differ"


def grey(level, size=(64, 64), spread=8):
    """Mostly of one grey, which its left upper corner has; as much is darker as is lighter."""
    image = Image.new("L", size, level)
    image.paste(level - spread, (size[0] // 2, 0, size[0], size[1] // 2))
    image.paste(level + spread, (size[0] // 2, size[1] // 2, size[0], size[1]))
    return image


def many(folder, number=25, size=(64, 64)):
    """Images that can be told apart: each of another grey."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        grey(8 + 5 * i, size).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture
def anime(tmp_path, monkeypatch):
    """An empty `anime` folder below a data root with a blank and letters that are not ASCII."""
    folder = tmp_path / "Données été" / "anime"
    folder.mkdir(parents=True)
    monkeypatch.setenv("D2LVAE_DATA", str(folder.parent))
    return folder


# decoding


@pytest.mark.parametrize(
    "name, options",
    [
        ("a.png", {}),
        ("a.PNG", {}),
        ("a.bmp", {}),
        ("a.webp", {"lossless": True}),
        ("a.jpg", {"quality": 95, "subsampling": 0}),
        ("a.jpeg", {"quality": 95, "subsampling": 0}),
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (256, 256), (1100, 1100), (32, 32)])
def test_a_red_square_stays_red_and_square(tmp_path, name, options, size):
    red_square(size).save(tmp_path / name, **options)
    assert_is_red_square(image_folder.decode(tmp_path / name, 64), tolerance=30)


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "CMYK"])
def test_coloured_modes(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image = red_square().quantize(8) if mode == "P" else red_square().convert(mode)
    image.save(path, **({"quality": 98} if mode == "CMYK" else {}))
    assert_is_red_square(image_folder.decode(path, 64), tolerance=25)


@pytest.mark.parametrize(
    "mode, level", [("L", 100), ("LA", 100), ("1", 255), ("I;16", 100 * 257), ("I", 100 * 257)]
)
def test_grey_modes_become_three_equal_channels(tmp_path, mode, level):
    image = Image.new("L", (80, 80), 100) if mode == "LA" else Image.new(mode, (80, 80), level)
    image.convert("LA").save(tmp_path / "a.png") if mode == "LA" else image.save(tmp_path / "a.png")
    array = image_folder.decode(tmp_path / "a.png", 64)
    assert set(np.unique(array)) == {100 if mode != "1" else 255}


def test_transparent_is_white_and_half_transparent_half(tmp_path):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((0, 0, 0, 128), (0, 0, 32, 64))
    image.save(tmp_path / "a.png")
    array = image_folder.decode(tmp_path / "a.png", 64)
    assert (array[:, :, 40:] == 255).all() and abs(array[:, :, :24].astype(int) - 127).max() <= 1


def test_the_middle_is_kept_and_turned_upright(tmp_path):
    wide = Image.new("RGB", (192, 64), (255, 0, 0))
    wide.paste((0, 255, 0), (64, 0, 128, 64))
    wide.save(tmp_path / "a.png")
    assert (
        image_folder.decode(tmp_path / "a.png", 64) == np.array([0, 255, 0])[:, None, None]
    ).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: upright after a quarter turn to the right
    red_square().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    assert_is_red_square(image_folder.decode(tmp_path / "b.png", 64))


def test_a_good_filter_neither_aliases_nor_shifts(tmp_path):
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    assert abs(image_folder.decode(tmp_path / "a.png", 64)[:, :, 4:-4].astype(int) - 127).max() < 12


# folders


def test_sorted_names_a_permutation_from_the_seed_and_80_percent(anime):
    for i in np.random.default_rng(0).permutation(40):  # made in any order, in folders of any depth
        place = anime / ("b/c" if i % 3 else "a")
        place.mkdir(parents=True, exist_ok=True)
        grey(int(6 * i), spread=1).save(place / f"{i:02}.png")
    images = real_faces(anime, seed=3)
    greys = [6 * i for i in range(40) if i % 3 == 0] + [
        6 * i for i in range(40) if i % 3
    ]  # a/..., then b/c/...
    expected = [greys[i] for i in np.random.default_rng(3).permutation(40)]
    assert (
        images.train[:, 0, 0, 0].tolist() == expected[:32]
        and images.validation[:, 0, 0, 0].tolist() == expected[32:]
    )
    assert images.image_shape == (3, 64, 64) and images.is_real and images.name == "anime"
    other = real_faces(anime, seed=4)
    assert other.validation[:, 0, 0, 0].tolist() != expected[32:]


def test_unreadable_files_are_counted_and_named_with_the_reason(anime, capsys):
    many(anime)
    (anime / "empty.jpg").touch()
    (anime / "text.png").write_text("this is not an image")
    red_square().save(anime / "short.jpg")
    (anime / "short.jpg").write_bytes((anime / "short.jpg").read_bytes()[:300])
    (anime / "notes.txt").write_text("not even looked at")
    (anime / "._001.jpg").write_bytes(b"what some systems leave beside a file")
    os.mkfifo(anime / "pipe.png")
    (anime / "to itself.png").symlink_to("to itself.png")
    for _ in range(2):  # the second time from the cache
        images = load_faces("anime")
        lines = capsys.readouterr().out.splitlines()
        assert len(images.train) + len(images.validation) == 25
        assert re.match(r"5 file\(s\) or folder\(s\) in .*anime are left out", lines[0])
        assert set(lines[1:-1]) == {
            "  1 empty: empty.jpg",
            "  1 text: text.png",
            "  1 JPEG, damaged or cut short: short.jpg",
            "  1 not a file, but a pipe or a device: pipe.png",
            f"  1 cannot be read ({os.strerror(errno.ELOOP)}): to itself.png",
        }
        assert lines[-1].startswith(
            "data: anime: 20 training and 5 validation images of 3 x 64 x 64, from 25 files"
        )


def test_mixed_sizes_modes_and_kinds_together(anime):
    for i, (size, mode, suffix) in enumerate(
        zip(
            [(64, 64), (30, 90), (500, 400), (2, 2), (2000, 30)] * 5,
            "L RGB RGBA P CMYK".split() * 5,
            "png bmp webp png jpg".split() * 5,
        )
    ):
        grey(9 * i + 10, size).convert(mode).save(anime / f"{i:02}.{suffix}")
    images = real_faces(anime, image_size=32)
    assert images.image_shape == (3, 32, 32) and len(images.train) + len(images.validation) == 25
    found = sorted(np.concatenate([images.train, images.validation]).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(found, 9 * np.arange(25) + 10, atol=3)


def test_bombs_do_no_harm(anime, capsys):
    many(anime)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    Image.new("1", (9000, 9000)).save(anime / "whole.png")  # nothing wrong with it but its size
    for side in (12_000, 60_000):  # a warning of Pillow's, an error of Pillow's
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        (anime / f"bomb{side}.png").write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(bytes(100_000)))
            + chunk(b"IEND", b"")
        )
    assert len(load_faces("anime").train) == 20
    assert "3 file(s)" in capsys.readouterr().out


def test_links_are_followed_and_loops_end(anime, tmp_path):
    many(tmp_path / "elsewhere")
    (anime / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(anime)
    files, left_out = image_folder.find_images(anime)
    assert len(files) == 25 and files[0][0] == "linked/000.png" and not left_out


def test_a_directory_that_cannot_be_read_is_named(anime, monkeypatch, capsys):
    many(anime)
    many(anime / "locked")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert len(load_faces("anime").train) == 20
    assert "1 file(s) or folder(s)" in (said := capsys.readouterr().out)
    assert "1 folder that cannot be read (Permission denied): locked/" in said


@pytest.mark.parametrize("number, content", [(0, b""), (1, None), (19, None), (10_000, b"")])
def test_too_few_is_an_error_that_says_what_to_do(anime, number, content):
    for i in range(number):
        if content is None:
            red_square().save(anime / f"{i}.png")
        else:
            (anime / f"{i}.jpg").write_bytes(content)
    for data in ("anime", "auto"):
        if data == "auto" and not number:
            continue
        with pytest.raises(DataError) as caught:
            load_faces(data)
        message = str(caught.value)
        found = (
            f"{0 if content is not None else number} image(s) that can be read; at least 20"
            if number
            else "no images (.jpg"
        )
        assert (
            found in message
            and "anime" in message
            and "data/README.md" in message
            and "-p data drawn" in message
        )


@pytest.fixture
def few_faces(monkeypatch):
    """Synthetic sets of 60 + 10 faces, not 4,096 + 1,024."""
    monkeypatch.setattr(synthetic, "NUM_FACES", 60)
    monkeypatch.setattr(synthetic, "NUM_VALIDATION_FACES", 10)


@pytest.mark.parametrize("there", [True, False])
def test_a_fresh_clone_has_no_anime_folder_or_an_empty_one(anime, there, few_faces, capsys):
    if not there:
        anime.rmdir()
    with pytest.raises(
        NoImages, match="no images .*soumikrakshit/anime-faces or splcher/animefacedataset"
    ):
        load_faces("anime")
    assert load_faces("auto", num_train=20, image_size=32).name == "drawn_faces"
    assert (
        "So these are drawn faces." in capsys.readouterr().out and not cache_of(anime, 32).exists()
    )


def test_a_folder_of_ones_own_gets_advice_of_its_own(tmp_path):
    with pytest.raises(NoImages, match="photos. Give a folder that has images in it"):
        real_faces(tmp_path / "photos")
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(DataError, match="photo.png is no folder"):
        real_faces(tmp_path / "photo.png")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("here", [".", "../anime"])
def test_the_folder_that_one_stands_in(anime, monkeypatch, here):
    many(anime)
    monkeypatch.chdir(anime)
    assert len(real_faces(here).train) == 20
    assert cache_of(anime).exists()


def test_a_name_that_is_no_text_can_be_printed(anime, capsys):
    many(anime)
    open(os.fsencode(anime) + b"/\xff.jpg", "wb").close()
    assert len(load_faces("anime").train) == 20
    assert r"1 empty: \udcff.jpg" in capsys.readouterr().out


def test_auto_takes_drawn_faces_where_there_are_none_and_says_so(anime, capsys, few_faces):
    (anime / "readme.txt").write_text("a folder of text files")
    images = load_faces("auto", num_train=30, image_size=32)
    said = capsys.readouterr().out
    assert images.name == "drawn_faces" and not images.is_real
    assert (
        "no images" in said
        and "So these are drawn faces." in said
        and "data: drawn faces: 30 training and 10" in said
    )
    many(anime)
    assert load_faces("auto", image_size=32).name == "anime"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(image_size=50), "image_size must be 32, 64 or 128; found 50"),
        (dict(data="mnist"), "data must be 'auto', 'anime' or 'drawn' for faces; found 'mnist'"),
        (dict(data="animee"), "found 'animee' (text); did you mean 'anime'?"),
        (dict(num_train=-1), "num_train must be"),
    ],
)
def test_wrong_requests(arguments, message):
    with pytest.raises(ParameterError) as caught:
        load_faces(**arguments)
    assert message in str(caught.value)


def test_faces_are_not_digits():
    with pytest.raises(ParameterError, match="'auto', 'mnist' or 'drawn' for digits"):
        d2lvae.load_digits("anime")


# the cache


@pytest.fixture
def no_decoding(monkeypatch):
    def forbid():
        monkeypatch.setattr(image_folder, "decode", lambda *a: pytest.fail("decoded again"))

    return forbid


def cache_of(anime, size=64):
    return anime.with_name(f".anime_{size}.cache")


def test_the_second_start_decodes_nothing(anime, no_decoding):
    many(anime)
    first = real_faces(anime)
    no_decoding()
    again = real_faces(anime)
    assert again.sha256() == first.sha256() and cache_of(anime).is_file()


@pytest.mark.parametrize("change", ["content", "new file", "file gone", "renamed", "size"])
def test_a_cache_of_other_files_is_not_trusted(anime, change):
    many(anime)
    before = real_faces(anime).sha256()
    size = 64
    if change == "content":
        grey(247).save(anime / "003.png")
        os.utime(anime / "003.png", ns=(0, 0))
    elif change == "new file":
        grey(247).save(anime / "new.png")
    elif change == "file gone":
        (anime / "003.png").unlink()
    elif change == "renamed":
        (anime / "003.png").rename(anime / "zzz.png")
    else:
        size = 32
    after = real_faces(anime, image_size=size)
    assert after.sha256() != before
    if change == "content":
        assert 247 in after.train or 247 in after.validation


@pytest.mark.parametrize("part", [image_folder, image_bytes], ids=["images", "image_bytes"])
def test_a_cache_by_an_older_decoder_is_not_trusted(anime, monkeypatch, part):
    many(anime)
    before = real_faces(anime).sha256()
    newer = anime.parent / "newer.py"
    newer.write_text("another decoder")
    monkeypatch.setattr(part, "__file__", str(newer))
    monkeypatch.setattr(
        image_folder,
        "decode",
        lambda path, size: np.arange(3 * size * size, dtype=np.uint8).reshape(3, size, size),
    )
    assert real_faces(anime).sha256() != before


@pytest.mark.parametrize("damage", ["cut", "altered", "emptied", "other", "record"])
def test_a_damaged_cache_is_made_anew(anime, damage):
    many(anime)
    before = real_faces(anime).sha256()
    path = cache_of(anime)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "altered":
        content[5000] ^= 1
    elif damage == "emptied":
        content = b""
    elif damage == "other":
        content = b"something else altogether" * 10
    else:
        content[-20:-8] = b"x" * 12
    path.write_bytes(content)
    assert real_faces(anime).sha256() == before
    assert len(path.read_bytes()) > 25 * 64 * 64 * 3, "the damaged one has been replaced"


def test_a_place_that_cannot_be_written_costs_only_time(anime, monkeypatch, capsys):
    many(anime)
    monkeypatch.setattr(
        files, "atomic_write", lambda path: open(anime / "no" / "such" / "place", "wb")
    )
    assert len(real_faces(anime).train) == 20
    assert "not kept for the next time" in capsys.readouterr().out


# drawn faces


def test_drawn_faces_follow_the_seed_however_many_and_by_whom():
    few, factors = synthetic_faces.draw_faces(12, seed=5)
    again, _ = synthetic_faces.draw_faces(20, seed=5)
    other, _ = synthetic_faces.draw_faces(12, seed=6)
    assert few.shape == (12, 3, 64, 64) and few.dtype == np.uint8
    assert (few == again[:12]).all() and (few != other).any()
    by_all_cores, all_factors = synthetic_faces.draw_faces(501, seed=5)
    assert (by_all_cores[:12] == few).all() and (all_factors[:12] == factors).all()
    assert len({face.tobytes() for face in by_all_cores}) == 501, "two of them are the same"


def test_faces_are_drawn_by_as_many_processes_as_there_are_usable_cores(monkeypatch):
    """A container may use fewer cores than its machine has."""
    started, begin = [], subprocess.Popen
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a) or begin(*a, **k))
    faces, _ = synthetic_faces.draw_faces(501, seed=5, image_size=16)
    assert len(started) == 3 and faces.shape == (501, 3, 16, 16)


def test_factors_are_the_truth_about_the_images():
    faces, factors = synthetic_faces.draw_faces(300, seed=0)
    of = dict(zip(synthetic_faces.FACTORS, factors.T))
    white = of["background"] == synthetic_faces.FACTORS["background"].index("white")
    corners = faces[:, :, 0, [0, -1]].astype(int).min(axis=(1, 2))
    dark_side = abs(of["light"]) > 0.5
    assert np.median(corners[white & ~dark_side]) > 235 > np.median(corners[~white])
    brightness = faces.mean(axis=(1, 2)).astype(float)
    left_to_right = brightness[:, 48:].mean(axis=1) - brightness[:, :16].mean(axis=1)
    assert np.corrcoef(of["light"], left_to_right)[0, 1] > 0.3
    for name, values in synthetic_faces.FACTORS.items():
        low, high = values if synthetic_faces._is_interval(values) else (0, len(values) - 1)
        assert low <= of[name].min() < of[name].max() <= high, name


@pytest.mark.parametrize("name", list(synthetic_faces.FACTORS))
def test_every_factor_shows(name):
    """Turned from one end to the middle or the other end, with everything else as it is, it changes pixels of some face."""
    factors = synthetic_faces.face_factors(6, seed=1)
    values = synthetic_faces.FACTORS[name]
    ends = (
        (values[0], sum(values) / 2)
        if synthetic_faces._is_interval(values)
        else (0, len(values) - 1)
    )  # hues are circles
    changed = []
    for row in factors:
        pair = []
        for end in ends:
            row[list(synthetic_faces.FACTORS).index(name)] = end
            pair.append(synthetic_faces._draw(row, 64, np.random.default_rng(0)))
        changed.append((pair[0] != pair[1]).any())
    assert any(changed)


def test_drawn_faces_are_cached_with_their_factors(anime, few_faces, monkeypatch, capsys):
    first = datasets.drawn_faces(40, seed=9, image_size=32)
    assert "drawing 70 faces" in capsys.readouterr().out
    monkeypatch.setattr(synthetic_faces, "draw_faces", lambda *a: pytest.fail("drawn again"))
    again = datasets.drawn_faces(50, seed=9, image_size=32)
    assert (again.train[:40] == first.train).all() and (again.validation == first.validation).all()
    assert (
        again.train_labels.shape == (50, len(again.label_names))
        and again.label_names[0] == "hair_style"
    )
    faces, factors = (
        synthetic_faces._draw_part(32, 9, 10, 16),
        synthetic_faces.face_factors(16, 9)[10:],
    )
    assert (again.train[:6] == faces).all() and (again.train_labels[:6] == factors).all()


@pytest.mark.parametrize("package", [PIL, np])
def test_drawn_faces_cached_by_another_version_are_drawn_again(
    anime, few_faces, monkeypatch, capsys, package
):
    for drawn in (1, 0):
        datasets.drawn_faces(8, image_size=32)
        assert capsys.readouterr().out.count("drawing") == drawn
    monkeypatch.setattr(package, "__version__", "99.0")
    datasets.drawn_faces(8, image_size=32)
    assert "made anew" in (said := capsys.readouterr().out) and "drawing" in said


def test_the_first_of_a_larger_set_are_those_of_the_smaller(anime, few_faces):
    small = datasets.drawn_faces(20, image_size=32)
    large = datasets.drawn_faces(90, image_size=32)
    assert (large.train[:20] == small.train).all() and len(large.train) == 90


# fetching


@pytest.fixture
def get_faces():
    path = pathlib.Path(__file__).resolve().parent.parent / "tools" / "get_faces.py"
    spec = importlib.util.spec_from_file_location("get_faces", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_what_kaggle_gives_is_linked_and_found(get_faces, tmp_path, monkeypatch, capsys):
    """Kaggle's own client is played by a folder here."""
    asked = []
    fake = types.SimpleNamespace(
        dataset_download=lambda name: asked.append(name)
        or str(many(tmp_path / "kaggle" / "images").parent)
    )
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path / "data"))
    get_faces()
    assert asked == ["soumikrakshit/anime-faces"] and "25 images" in capsys.readouterr().out
    assert len(load_faces("anime").train) == 20
    with pytest.raises(SystemExit, match="is there already"):
        get_faces()
    with pytest.raises(
        SystemExit,
        match="expected soumikrakshit/anime-faces or splcher/animefacedataset; found faces",
    ):
        get_faces("faces")


def test_without_kaggles_client_it_says_how_to_install_it(get_faces, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path / "data"))
    with pytest.raises(SystemExit, match="pip install .*kagglehub"):
        get_faces()
