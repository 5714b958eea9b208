"""Measures of images, against numbers worked out by hand, loops, and what blur, noise and displacement must do."""

import numpy as np
import pytest
from d2lvae.evaluation import metrics
from d2lvae.evaluation.metrics import (
    PER_IMAGE,
    bootstrap_interval,
    gmsd,
    kernel_distance,
    per_image,
)
from skimage.metrics import peak_signal_noise_ratio

RATIOS = [name for name in PER_IMAGE if name.endswith("_ratio")]


def batch(*greys):
    """Grey images (H, W) as (N, 1, H, W) uint8."""
    return np.rint(np.stack(greys))[:, None].astype(np.uint8)


def step(contrast=100, where=32, size=64):
    """A vertical edge."""
    return np.where(np.arange(size) < where, 128 - contrast / 2, 128 + contrast / 2) * np.ones(
        (size, 1)
    )


def wave(frequency, amplitude, size=80):
    """A sinusoid along the width, in cycles a pixel."""
    return amplitude * np.cos(2 * np.pi * frequency * np.arange(size)) * np.ones((size, 1))


@pytest.fixture(scope="module")
def faces(tiny_faces):
    return tiny_faces.train[:12]


def noisy(images, sigma=12):
    noise = np.random.default_rng(0).normal(0, sigma, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def test_identical_images(faces, tiny):
    for images in (faces, tiny.train[:20]):
        for name, values in per_image(images, images.copy()).items():
            assert values.dtype == np.float64 and values.shape == (len(images),)
            np.testing.assert_allclose(
                values, {"psnr": 100, "gmsd": 0}.get(name, 1), atol=1e-9, err_msg=name
            )


def test_blur_is_softer_by_every_measure(faces):
    soft, softer = (per_image(faces, metrics.blurred(faces, sigma)) for sigma in (1.0, 2.0))
    for name in (
        "ssim",
        "psnr",
        "edge_gradient_ratio",
        "laplacian_variance_ratio",
        "high_frequency_ratio",
    ):
        assert (softer[name] < soft[name]).all() and (
            soft[name] < (100 if name == "psnr" else 1)
        ).all(), name
    assert (softer["gmsd"] > soft["gmsd"]).all() and (soft["gmsd"] > 0).all()


def test_noise_does_not_pass_for_sharpness(faces):
    clear = per_image(faces, noisy(faces))
    for name in ("off_edge_gradient_ratio", "laplacian_variance_ratio", "high_frequency_ratio"):
        assert clear[name].mean() > 1.05, name
    assert abs(clear["edge_gradient_ratio"] - 1).max() < 0.05
    assert (clear["off_edge_gradient_ratio"] > clear["edge_gradient_ratio"]).all()
    blurred = metrics.blurred(faces)
    assert (
        per_image(faces, noisy(blurred))["edge_gradient_ratio"] < 0.8
    ).all()  # noise does not give a blurred edge back


def test_unsharp_masking_is_sharper_by_every_measure(faces):
    sharp = per_image(faces, metrics.unsharp_masked(faces))
    for name in RATIOS:
        assert (sharp[name] > 1.05).all(), name
    milder = per_image(faces, metrics.unsharp_masked(faces, amount=0.5))
    assert (milder["edge_gradient_ratio"] < sharp["edge_gradient_ratio"]).all()
    exact = faces + (faces - metrics.ndimage.gaussian_filter(faces.astype(float), (0, 0, 1, 1)))
    assert abs(metrics.unsharp_masked(faces) - np.clip(exact, 0, 255)).max() < 0.51


def test_controls_leave_shape_kind_and_flat_images(faces):
    flat = np.full((2, 3, 16, 16), 77, np.uint8)
    for control in (metrics.blurred, metrics.unsharp_masked):
        assert control(faces).dtype == np.uint8 and control(faces).shape == faces.shape
        np.testing.assert_array_equal(control(flat), flat)
    dot = np.zeros((3, 1, 21, 21), np.uint8)
    dot[1, 0, 10, 10] = 255
    blurred = metrics.blurred(dot)
    assert not blurred[[0, 2]].any() and blurred[1, 0, 10, 10] == round(
        255 / (2 * np.pi)
    )  # 1 / (2 pi sigma^2), not across images


# each measure by itself


def test_psnr_of_a_constant_offset():
    originals = np.random.default_rng(0).integers(0, 240, (3, 3, 16, 16)).astype(np.uint8)
    values = metrics.psnr(originals, originals + np.uint8(10))
    np.testing.assert_allclose(values, 20 * np.log10(255 / 10))
    np.testing.assert_allclose(
        values, [peak_signal_noise_ratio(x, x + np.uint8(10)) for x in originals]
    )


def test_ssim_of_flat_images():
    """Variances are 0: what is left is the term of the means."""
    constant = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + constant) / (100**2 + 120**2 + constant)
    flat = np.full((2, 3, 16, 16), 100, np.uint8)
    np.testing.assert_allclose(metrics.ssim(flat, flat + np.uint8(20)), expected, rtol=1e-9)


def test_ssim_in_the_middle_by_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (2, 1, 1, 11, 11)).astype(np.uint8)
    x, y = (np.pad(part, ((0, 0), (0, 0), (5, 5), (5, 5)), mode="symmetric") for part in (x, y))
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for i in range(11):
        for j in range(11):
            a, b = (part[0, 0, i : i + 11, j : j + 11].astype(float) for part in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b, both = (
                (window * a * a).sum() - mean_a**2,
                (window * b * b).sum() - mean_b**2,
                (window * a * b).sum() - mean_a * mean_b,
            )
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * both + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    np.testing.assert_allclose(
        metrics.ssim(x, y), np.mean(values), rtol=1e-9
    )  # it leaves out a rim of 5 pixels


def test_an_edge_of_half_the_contrast():
    originals, images = batch(step(100)), batch(step(50))
    assert metrics.edge_gradient_ratio(originals, images)[0] == pytest.approx(0.5, abs=1e-12)
    assert metrics.laplacian_variance_ratio(originals, images)[0] == pytest.approx(0.25, abs=1e-12)
    assert metrics.off_edge_gradient_ratio(originals, images)[0] == 1  # nothing there in either


def test_the_edges_are_exactly_a_tenth_and_the_originals():
    rng = np.random.default_rng(0)
    originals, images = rng.integers(0, 256, (2, 3, 1, 20, 20)).astype(np.uint8)
    for k, (x, y) in enumerate(zip(originals[:, 0].astype(float), images[:, 0].astype(float))):
        magnitude = []
        for grey in (x, y):
            wide = np.pad(grey, 1, mode="symmetric")
            at = {
                (i, j): wide[1 + i : 21 + i, 1 + j : 21 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)
            }
            down = sum(w * (at[1, j] - at[-1, j]) for j, w in ((-1, 1), (0, 2), (1, 1)))
            right = sum(w * (at[i, 1] - at[i, -1]) for i, w in ((-1, 1), (0, 2), (1, 1)))
            magnitude.append(np.sqrt(down**2 + right**2).ravel())
        order = np.argsort(-magnitude[0], kind="stable")
        for measure, where in (
            (metrics.edge_gradient_ratio, order[:40]),
            (metrics.off_edge_gradient_ratio, order[40:]),
        ):
            expected = magnitude[1][where].sum() / magnitude[0][where].sum()
            assert measure(originals, images)[k] == pytest.approx(expected, rel=1e-9)


def test_equal_gradients_are_still_a_tenth():
    ramps = batch(np.outer(np.ones(20), 10.0 * np.arange(20)), step(100, 10, 20))
    edges = [metrics._edges(metrics._sobel(image)) for image in ramps]
    assert [edge.sum() for edge in edges] == [40, 40]


def test_off_edge_strength_lies_off_the_edge():
    stripes = (
        sum(step(60, where) for where in (16, 32, 48)) - 256
    )  # six columns of edges: a little less than a tenth
    originals, images = stripes.copy(), stripes.copy()
    images[5:60, 5:10] += 20
    originals[5:60, 5:10] += 10
    assert metrics.edge_gradient_ratio(batch(originals), batch(images))[0] == pytest.approx(
        1, abs=0.03
    )
    assert metrics.off_edge_gradient_ratio(batch(originals), batch(images))[0] > 1.5


def test_an_edge_elsewhere_is_as_sharp_but_not_alike():
    x, y = batch(step(100, 32)), batch(step(100, 34))
    values = per_image(x, y)
    assert values["laplacian_variance_ratio"][0] == pytest.approx(1) and values[
        "high_frequency_ratio"
    ][0] == pytest.approx(1, abs=0.05)
    assert values["edge_gradient_ratio"][0] < 0.1 and values["off_edge_gradient_ratio"][0] > 1
    assert values["gmsd"][0] > 3 * gmsd(x, batch(step(80, 32)))[0] > 0 and values["ssim"][0] < 0.95


@pytest.mark.parametrize("turned", [False, True])
def test_high_frequencies_are_those_above_a_quarter(turned):
    def images(*parts):
        image = 128 + sum(wave(*part) for part in parts)
        return batch(image.T if turned else image)

    fine = images((0.4, 20))
    assert metrics.high_frequency_ratio(fine, images((0.4, 40)))[0] == pytest.approx(4, rel=0.01)
    assert metrics.high_frequency_ratio(fine, images((0.4, 20), (0.09, 60)))[0] == pytest.approx(
        1, rel=0.01
    )
    assert metrics.high_frequency_ratio(fine, images((0.2, 60)))[0] < 0.001
    assert metrics.high_frequency_ratio(images((0.3, 20)), images((0.3, 10)))[0] == pytest.approx(
        0.25, rel=0.02
    )


def gmsd_by_loops(x, y):
    """From the paper's equations, on 0 to 255, a pixel at a time."""
    maps = []
    for image in (x, y):
        height, width = image.shape[0] // 2, image.shape[1] // 2
        half = np.zeros((height + 2, width + 2))  # black around
        for i in range(height):
            for j in range(width):
                half[i + 1, j + 1] = (
                    sum(float(image[2 * i + k, 2 * j + l]) for k in (0, 1) for l in (0, 1)) / 4
                )
        magnitude = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                across = sum(half[i + k, j] - half[i + k, j + 2] for k in range(3)) / 3
                down = sum(half[i, j + k] - half[i + 2, j + k] for k in range(3)) / 3
                magnitude[i, j] = (across**2 + down**2) ** 0.5
        maps.append(magnitude)
    similarity = [
        (2 * a * b + 170) / (a * a + b * b + 170) for a, b in zip(maps[0].ravel(), maps[1].ravel())
    ]
    mean = sum(similarity) / len(similarity)
    return (sum((s - mean) ** 2 for s in similarity) / len(similarity)) ** 0.5


def test_gmsd_against_loops(faces):
    grey = metrics.luminance(faces[:3]) * 255
    other = metrics.blurred(faces[:3])
    expected = [gmsd_by_loops(x, y) for x, y in zip(grey, metrics.luminance(other) * 255)]
    np.testing.assert_allclose(gmsd(faces[:3], other), expected, rtol=1e-9)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (2, 1, 1, 17, 22)).astype(np.uint8)  # of an odd height
    np.testing.assert_allclose(gmsd(x, y), gmsd_by_loops(x[0, 0, :16], y[0, 0, :16]), rtol=1e-9)


def test_luminance_weighs_colours():
    primaries = np.zeros((4, 3, 1, 1), np.uint8)
    primaries[range(3), range(3)] = 255
    primaries[3] = 255
    np.testing.assert_allclose(metrics.luminance(primaries).ravel(), [0.299, 0.587, 0.114, 1])
    np.testing.assert_allclose(metrics.luminance(np.full((1, 1, 2, 2), 51, np.uint8)), 0.2)


def test_flat_images_give_finite_numbers(faces):
    flat = np.full(faces.shape, 128, np.uint8)
    for originals, images in (
        (flat, faces),
        (faces, flat),
        (flat, flat),
        (flat, flat + np.uint8(1)),
        (0 * flat, flat),
    ):
        for name, values in per_image(originals, images).items():
            assert np.isfinite(values).all(), name
    for name in RATIOS:
        np.testing.assert_array_equal(PER_IMAGE[name](flat, flat + np.uint8(9)), 1)
        assert (PER_IMAGE[name](faces, flat) < 0.2).all(), name


def test_each_image_is_measured_by_itself(faces):
    images = noisy(faces)
    whole = per_image(faces, images)
    for name, measure in PER_IMAGE.items():
        np.testing.assert_allclose(measure(faces[7:8], images[7:8]), whole[name][7:8], rtol=1e-12)
        assert measure(faces[:0], images[:0]).shape == (0,)


@pytest.mark.parametrize("name", PER_IMAGE)
def test_wrong_input_is_named(name, faces):
    with pytest.raises(ValueError, match=r"\(12, 3, 32, 32\) and \(11, 3, 32, 32\)"):
        PER_IMAGE[name](faces, faces[1:])
    with pytest.raises(
        ValueError, match=r"images must be a uint8 array .* float64 \(12, 3, 32, 32\)"
    ):
        PER_IMAGE[name](faces, faces / 255)
    with pytest.raises(ValueError, match=r"originals must be .* \(32, 32\)"):
        PER_IMAGE[name](faces[0, 0], faces[0, 0])
    assert "math::" in PER_IMAGE[name].__doc__ and "References" in PER_IMAGE[name].__doc__


# the kernel distance


def test_kernel_distance_against_loops():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 4)), rng.normal(0.5, 1, (5, 4)).astype(np.float32)

    def kernel(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b)) / 4 + 1) ** 3

    expected = (
        sum(kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
        + sum(kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
        - 2 * sum(kernel(a, b) for a in x for b in y) / 35
    )
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert kernel_distance(y, x) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_is_unbiased_and_grows():
    rng = np.random.default_rng(0)
    same = [kernel_distance(rng.normal(size=(60, 8)), rng.normal(size=(40, 8))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200) and min(same) < 0 < max(same)
    x, y = rng.normal(size=(2, 500, 8))
    distances = [kernel_distance(x, y + shift) for shift in (0, 0.2, 0.5, 1)]
    assert abs(distances[0]) < 0.02 and distances == sorted(distances) and distances[2] > 0.5


@pytest.mark.parametrize(
    "shapes",
    [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5, 3), (1, 3)), ((5,), (5,)), ((5, 3, 1), (5, 3, 1))],
)
def test_kernel_distance_of_wrong_shapes(shapes):
    with pytest.raises(ValueError, match="features must be two arrays"):
        kernel_distance(*map(np.zeros, shapes))


# intervals


def test_an_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [
        bootstrap_interval(rng.normal(3, 2, 100), 1_000, seed=trial) for trial in range(200)
    ]
    assert 0.90 <= np.mean([low < 3 < high for low, high in intervals]) <= 0.99


def test_the_width_of_an_interval():
    values = np.random.default_rng(0).normal(3, 2, 1_000)
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(1_000), rel=0.04)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.01)
    narrow = bootstrap_interval(values, level=0.5)
    assert narrow[1] - narrow[0] == pytest.approx(
        2 * 0.6745 * values.std() / np.sqrt(1_000), rel=0.05
    )
    assert bootstrap_interval(values) == (low, high) != bootstrap_interval(values, seed=1)


def test_images_and_trainings_both_count():
    rng = np.random.default_rng(0)
    images = rng.normal(size=200)  # the same ones for all trainings

    def width(values, **options):
        low, high = bootstrap_interval(values, **options)
        return high - low

    alike, different = (
        np.tile(images, (4, 1)) + shift for shift in (0, np.array([[-1], [-0.3], [0.3], [1]]))
    )
    assert width(alike) == pytest.approx(width(images), rel=0.05)
    variance = images.var() / 200 + np.var([-1, -0.3, 0.3, 1]) / 4
    assert width(different) == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.06) and width(
        different
    ) > 3 * width(alike)
    assert width(images[None]) == pytest.approx(width(images), rel=0.05)


@pytest.mark.parametrize("values", [[], [[]], [1.0, np.nan], [np.inf], 3.0, np.zeros((2, 2, 2))])
def test_an_interval_of_nothing_sensible(values):
    with pytest.raises(ValueError, match="values must be"):
        bootstrap_interval(values)


def test_a_level_that_is_none():
    with pytest.raises(ValueError, match="level must be between 0 and 1; found 95"):
        bootstrap_interval([1.0, 2.0], level=95)
