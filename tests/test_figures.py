"""A red square stays red and square; axes and titles say what they show."""

import base64
import io
import json

import mxnet as mx
import numpy as np
import pytest
from d2lvae import figures
from d2lvae.evaluation.figures import show_longest
from d2lvae.storage import inline, paths, png
from PIL import Image


@pytest.fixture
def red_square():
    """Black but for a red square in the upper left: rows 1-3, columns 2-4 of 8 x 6."""
    image = np.zeros((3, 8, 6), np.float32)
    image[0, 1:4, 2:5] = 1
    return image


def test_a_red_square_stays_red_and_square(tmp_path, red_square):
    png.save_image(tmp_path / "red.png", mx.nd.array(red_square))
    image = Image.open(tmp_path / "red.png")
    assert image.size == (6, 8) and image.mode == "RGB"
    array = np.asarray(image)
    assert (array[1:4, 2:5] == (255, 0, 0)).all()
    assert array.sum() == 9 * 255


def shown_in(figure, height, width, num_cols=5):
    """The images of so many pixels in a figure of `show_images`, without the white places."""
    page = np.asarray(figure.axes[0].images[0].get_array()).astype(int)
    scale, found = (page.shape[1] // num_cols - 6) // width, []
    for top in range(png.TITLE + 3, len(page), scale * height + 6):
        for left in range(3, page.shape[1], scale * width + 6):
            image = page[top : top + scale * height, left : left + scale * width]
            assert (image[::scale].repeat(scale, 0) == image).all()
            found.append(image[::scale, ::scale])
    return [image for image in found if (image < 255).any()]


def test_it_stays_so_in_a_figure(red_square):
    figure = figures.show_images(red_square[None], "drawn: one", num_cols=1)
    [shown] = shown_in(figure, *red_square.shape[1:], num_cols=2)
    assert (shown[1:4, 2:5] == (255, 0, 0)).all() and shown.sum() == 9 * 255
    assert figure.axes[0].images[0].get_interpolation() == "nearest"
    figures.d2l.plt.close(figure)


@pytest.mark.pictures
def test_it_stays_so_in_a_figures_file_and_on_a_page(red_square, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(inline.IPython.display, "display", lambda data, **about: given.append(data))
    figure = figures.show_images(red_square[None], "drawn: one", num_cols=1)
    page = figure.axes[0].images[0].get_array()[png.TITLE :]
    figure._ipython_display_()
    png.save(figure, tmp_path / "figure.png")
    shown = io.BytesIO(base64.b64decode(given[0]["image/png"]))
    for density, file in ((1, tmp_path / "figure.png"), (2, shown)):
        dots = np.asarray(Image.open(file))[density * png.TITLE :: density, ::density]
        np.testing.assert_array_equal(dots, page)


@pytest.mark.parametrize("size, num_cols, dots", [(28, 5, 4), (28, 10, 2), (64, 5, 2), (128, 5, 1)])
def test_every_pixel_is_a_square_of_dots(size, num_cols, dots):
    """In a file and, at twice the density, on a page; ten images side by side fit on the page."""
    images = np.random.default_rng(0).integers(0, 256, (10, 3, size, size)).astype(np.uint8)
    figure = figures.show_images(images, "drawn faces: ten of them", num_cols)
    for density in (1, 2):
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=density * png.DPI)
        sheet, k = np.asarray(Image.open(drawn).convert("RGB")).astype(int), dots * density
        assert sheet.shape[1] <= 840 * density
        for i, image in enumerate(images):
            row, column = divmod(i, num_cols)
            left = density * (column * (size * dots + 6) + 3)
            bottom = density * ((10 // num_cols - 1 - row) * (size * dots + 6) + 3)
            top, side = len(sheet) - bottom - k * size, k * size
            expected = image.transpose(1, 2, 0).repeat(k, axis=0).repeat(k, axis=1)
            assert (sheet[top : top + side, left : left + side] == expected).all(), i
    figures.d2l.plt.close(figure)


@pytest.mark.parametrize("make", [figures.show_history, figures.show_images])
def test_a_page_shows_a_figure_unscaled_at_twice_the_density_with_its_text(make, monkeypatch):
    """Notebooks get the PNG with the size that the figure says, not a margin more or less."""
    shown = []
    monkeypatch.setattr(
        inline.IPython.display, "display", lambda data, **about: shown.append((data, about))
    )
    history = [{"epoch": 0, **dict.fromkeys(figures.LINES, 1.0)}]
    what = history if make is figures.show_history else np.zeros((5, 1, 28, 28), np.uint8)
    figure = make(what, "drawn digits: some")
    figure._ipython_display_()
    [(data, about)] = shown
    size = about["metadata"]["image/png"]
    assert size["alt"] == "drawn digits: some" and size["width"] <= inline.WIDTH
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.size == (2 * size["width"], 2 * size["height"])
    figures.d2l.plt.close(figure)


def test_a_history_of_one_loss_has_one_panel():
    figure = figures.show_history([{"epoch": 0, "loss": 3.0}], "drawn digits")
    assert len(figure.axes) == 1
    figures.d2l.plt.close(figure)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_a_long_title_fits_on_its_figure(shape):
    title = (
        "ConvVAE ConvDisc LeakyReLU on drawn faces, BCE + features + adversarial loss, 200 epochs"
    )
    images = np.zeros((10, *shape), np.uint8)
    figure = figures.show_reconstructions(images, images, title)
    figure.canvas.draw()
    box = figure._suptitle.get_window_extent()
    assert 0 <= box.x0 and box.x1 <= figure.bbox.width and figure._suptitle.get_fontsize() < 11
    figures.d2l.plt.close(figure)
    figure = figures.show_images(images, "drawn: short")
    assert figure._suptitle.get_fontsize() == 11
    figures.d2l.plt.close(figure)


def test_grey_is_neither_stretched_nor_coloured(tmp_path):
    grey = np.full((1, 4, 4), 0.4, np.float32)
    grey[0, 0, 0] = 0.6
    png.save_image(tmp_path / "grey.png", grey)
    array = np.asarray(Image.open(tmp_path / "grey.png"))
    assert array.shape == (4, 4) and array[0, 0] == 153 and array[1, 1] == 102
    figure = figures.show_images(grey[None], "drawn: grey", num_cols=1)
    [shown] = shown_in(figure, 4, 4, num_cols=2)
    assert (shown[1, 1] == 102).all() and (shown[0, 0] == 153).all()
    figures.d2l.plt.close(figure)


def test_uint8_goes_through_unchanged_and_others_are_clipped():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert (png.to_uint8(images) == images).all()
    assert (png.to_uint8(images / 255.0) == images).all()
    assert png.to_uint8(np.array([-0.5, 1.5])).tolist() == [0, 255]


def test_reconstructions_stand_under_their_originals():
    originals = np.stack([np.full((1, 4, 4), value, np.uint8) for value in (10, 20)])
    figure = figures.show_reconstructions(originals, originals + 100, "drawn digits")
    assert [image[0, 0, 0] for image in shown_in(figure, 4, 4, num_cols=2)] == [10, 20, 110, 120]
    assert "drawn digits" in figure._suptitle.get_text()
    figures.d2l.plt.close(figure)


def test_one_reconstruction_stands_under_its_original():
    original = np.full((1, 1, 4, 4), 10, np.uint8)
    figure = figures.show_reconstructions(original, original + 100, "drawn digits")
    page = np.asarray(figure.axes[0].images[0].get_array())[png.TITLE :, :, 0]
    above, below = (np.argwhere(page == value)[:, 0] for value in (10, 110))
    assert above.max() < below.min()
    figures.d2l.plt.close(figure)


def test_ten_reconstructions_stand_in_two_rows_of_pairs():
    originals = np.stack([np.full((1, 4, 4), value, np.uint8) for value in range(10)])
    figure = figures.show_reconstructions(originals, originals + 100, "drawn digits")
    shown = [image[0, 0, 0] for image in shown_in(figure, 4, 4)]
    assert shown == [*range(5), *range(100, 105), *range(5, 10), *range(105, 110)]
    figures.d2l.plt.close(figure)


def test_history_has_labelled_axes_and_units():
    history = [
        {
            "epoch": epoch,
            "loss": 3.0 - epoch,
            "pixel_loss": 2.0,
            "kl": 1.0,
            "adversarial_loss": 0.5,
            "disc_loss": 1.2,
            "seconds": 1,
            "images_per_second": 2,
        }
        for epoch in range(3)
    ]
    figure = figures.show_history(history, "drawn digits: training losses")
    assert len(figure.axes) == 3
    for ax in figure.axes:
        assert (
            ax.get_xlabel() == "epoch" and ax.get_ylabel() == "nats per image" and ax.get_legend()
        )
    assert list(figure.axes[0].lines[0].get_ydata()) == [3, 2, 1]
    figures.d2l.plt.close(figure)
    solo = [
        {name: record[name] for name in ("epoch", "loss", "pixel_loss", "kl")} for record in history
    ]
    figure = figures.show_history(solo, "drawn digits")
    assert len(figure.axes) == 2
    figures.d2l.plt.close(figure)
    features = [
        {name: value for name, value in record.items() if name != "adversarial_loss"}
        for record in history
    ]
    figure = figures.show_history(features, "drawn digits")
    assert [text.get_text() for text in figure.axes[2].get_legend().get_texts()] == [
        "discriminator's loss"
    ], "no line, no name"
    figures.d2l.plt.close(figure)
    figures.d2l.plt.close(figures.show_history([], "stopped before the first epoch ended"))


@pytest.mark.parametrize("num_epochs", [2, 10, 50, 200, 1000])
def test_the_numbers_of_epochs_do_not_touch(num_epochs):
    names = "loss", "pixel_loss", "kl", "adversarial_loss", "disc_loss"
    history = [{"epoch": i, **dict.fromkeys(names, 1.0)} for i in range(num_epochs)]
    figure = figures.show_history(history, "digits")
    figure.canvas.draw()
    for ax in figure.axes:
        boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
        assert len(boxes) > 2
        assert all(left.x1 + 3 < right.x0 for left, right in zip(boxes, boxes[1:]))


def test_curves_of_a_training_under_way_have_room_for_all_epochs():
    figure = figures.show_history(
        [{"epoch": 0.003, "loss": 544.0, "pixel_loss": 543.0, "kl": 1.0}],
        "drawn digits",
        num_epochs=12,
    )
    assert all(ax.get_xlim() == (0, 12) for ax in figure.axes)
    figures.d2l.plt.close(figure)


def test_the_longest_committed_run_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    for epochs, seed, colour in ((50, 0, "blue"), (200, 0, "red"), (200, 1, "green")):
        folder = tmp_path / "results" / "images" / "VAE_on_anime" / f"5_{epochs}_seed_{seed}"
        folder.mkdir(parents=True)
        record = {"epochs_done": epochs, "config": {"learned_loss": "both", "seed": seed}}
        (folder / "metrics.json").write_text(json.dumps(record))
        for i in range(10):
            Image.new("RGB", (32, 32), colour).save(folder / f"{i}.png")
    figure = show_longest("VAE_on_anime/5_*")
    assert "(both), 200 epochs" in figure._suptitle.get_text()
    [shown] = figure.axes[0].images
    red = (shown.get_array() == (255, 0, 0)).all(axis=-1)
    assert red.sum() == 10 * (4 * 32) ** 2 and shown.get_array().shape[1] == 5 * (4 * 32 + 6)
    figures.d2l.plt.close(figure)
    assert show_longest("VAE_on_anime/6_*") is None
    assert "no committed run is here" in capsys.readouterr().out


def test_a_rows_name_stands_beside_its_middle():
    rows = {
        name: np.full((2, 1, 20, 20), value, np.uint8) for name, value in (("a", 10), ("b", 20))
    }
    figure = figures.show_rows(rows, "drawn: two rows", scale=3)
    page = np.asarray(figure.axes[0].images[0].get_array())[..., 0]
    names = {text.get_text(): text.get_position() for text in figure.texts}
    for name, value in (("a", 10), ("b", 20)):
        shown = np.flatnonzero((page == value).any(axis=1))
        assert len(shown) == 60 and (page == value).sum() == 2 * 60**2
        assert (1 - names[name][1]) * len(page) == pytest.approx((shown[0] + shown[-1] + 1) / 2)
    figures.d2l.plt.close(figure)
