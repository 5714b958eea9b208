"""How near images are to their originals, how sharp they are, and how far chance may have moved a mean.

    originals, images (N, C, H, W), uint8 -> a number an image (N,), by the names in `PER_IMAGE`

No one number is sharpness.  Noise has gradients, too, so strength on the original's edges is counted apart from what lies
off them; a crisp edge in the wrong place has as much of high frequencies as in the right one, which only the edge ratio and the
comparisons with the original (`psnr`, `ssim`, `gmsd`) notice.  Ratios are measures of the image divided by those of its
original: 1 is as sharp as it.

In a ratio no measure counts as less than what rounding to 256 levels leaves in an image, on average (white noise of variance
1/12 squared level): so a flat image beside a flat original has the ratio 1, and nothing is divided by 0.
"""

import functools

import numpy as np
import scipy.fft
from scipy import ndimage
from skimage.filters import unsharp_mask
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

__all__ = [
    "PER_IMAGE",
    "per_image",
    "psnr",
    "ssim",
    "edge_gradient_ratio",
    "off_edge_gradient_ratio",
    "laplacian_variance_ratio",
    "high_frequency_ratio",
    "gmsd",
    "luminance",
    "kernel_distance",
    "blurred",
    "unsharp_masked",
    "bootstrap_interval",
]

MAX_PSNR = 100.0  # dB; what identical images get
EDGE_SHARE = 0.1  # of the original's pixels are its edges: those with the strongest gradients
HIGH_FREQUENCY = 0.25  # cycles a pixel, a quarter of the sampling rate
GMSD_CONSTANT = 170 / 255**2  # 0.0026 on [0, 1]
ROUNDING = 1 / 12 / 255**2  # variance that rounding to 256 levels adds, on [0, 1]
BLOCK = (
    256  # images, or resamples, or rows of a kernel matrix at a time, so that memory stays small
)


def _checked(images, what="images"):
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"{what} must be a uint8 array (N, C, H, W) with C 1 or 3; found {images.dtype} {images.shape}"
        )
    return images


def _for_images(measure):
    """A measure of a few originals and images, as one that checks its input and goes through any number of them."""

    @functools.wraps(measure)
    def whole(originals, images):
        originals, images = _checked(originals, "originals"), _checked(images)
        if originals.shape != images.shape:
            raise ValueError(
                f"originals and images must have one shape; found {originals.shape} and {images.shape}"
            )
        parts = [
            measure(originals[i : i + BLOCK], images[i : i + BLOCK])
            for i in range(0, len(images), BLOCK)
        ]
        return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)

    return whole


def _ratio(images, originals, least):
    return np.maximum(images, least) / np.maximum(originals, least)


def luminance(images):
    r"""Grey images, :math:`Y = 0.299 R + 0.587 G + 0.114 B` (Recommendation ITU-R BT.601), in [0, 1].

    Parameters
    ----------
    images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 (which is grey already) or 3.

    Returns
    -------
    numpy.ndarray, float64, shape (N, H, W)
    """
    images = _checked(images)
    weights = (1.0,) if images.shape[1] == 1 else (0.299, 0.587, 0.114)
    return np.einsum("nchw,c->nhw", images.astype(np.float64), np.array(weights) / 255)


@_for_images
def psnr(originals, images):
    r"""Peak signal-to-noise ratio in dB; higher is nearer.

    .. math:: 10 \log_{10} \frac{255^2}{\mathrm{mean}_i (x_i - y_i)^2}

    Identical images get `MAX_PSNR` and not infinity, so that means stay numbers.  (No others come near
    it: one pixel of 3 x 64 x 64 that is off by one level costs an image all above 89 dB.)

    Parameters
    ----------
    originals, images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3.

    Returns
    -------
    numpy.ndarray, float64, shape (N,)
        dB, at most `MAX_PSNR`.

    Raises
    ------
    ValueError
        Shapes that differ, or another kind of array.

    References
    ----------
    skimage.metrics.peak_signal_noise_ratio.
    """
    with np.errstate(divide="ignore"):
        values = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(originals, images)]
    return np.minimum(values, MAX_PSNR)


@_for_images
def ssim(originals, images):
    r"""Structural similarity, a mean over pixels and channels; 1 for identical images, higher is nearer.

    .. math:: \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}{(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)},
              \qquad C_1 = (0.01 \cdot 255)^2, \quad C_2 = (0.03 \cdot 255)^2

    Means and (co)variances under a Gaussian window of 11 x 11 with standard deviation 1.5, as in the paper.

    Parameters
    ----------
    originals, images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3, H and W at least 11.

    Returns
    -------
    numpy.ndarray, float64, shape (N,)

    Raises
    ------
    ValueError
        Shapes that differ, or another kind of array, or images that are smaller than the window.

    References
    ----------
    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13 (2004);
    skimage.metrics.structural_similarity.
    """
    return np.array(
        [
            structural_similarity(
                x,
                y,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=255,
                channel_axis=0,
            )
            for x, y in zip(originals, images)
        ]
    )


def _gradient_magnitude(grey, smoothing):
    """(N, H, W) -> (N, H, W): central differences, smoothed across, as Sobel and Prewitt have them.  (scipy's own would smooth along N.)"""

    def along(axis, across, **border):
        return ndimage.correlate1d(
            ndimage.correlate1d(grey, [-1, 0, 1], axis, **border), smoothing, across, **border
        )

    border = {"mode": "reflect"} if smoothing == SOBEL else {"mode": "constant"}
    return np.hypot(along(1, 2, **border), along(2, 1, **border))


SOBEL, PREWITT = [1, 2, 1], [1 / 3, 1 / 3, 1 / 3]
# what rounding leaves: two components of normal noise, whose magnitude has a Rayleigh distribution
LEAST_GRADIENT = np.sqrt(np.pi / 2 * ROUNDING * 2 * sum(weight**2 for weight in SOBEL))


def _gradients(originals, images):
    """Sobel magnitudes of both and which are the original's edges: exactly `EDGE_SHARE` of each; all (N, H * W)."""
    original, image = (
        _gradient_magnitude(luminance(part), SOBEL).reshape(len(part), -1)
        for part in (originals, images)
    )
    num_edges = max(1, round(EDGE_SHARE * original.shape[1]))
    weakest = np.partition(original, -num_edges, axis=1)[:, -num_edges, None]
    edge, equal = original > weakest, original == weakest
    return (
        original,
        image,
        edge | equal & (np.cumsum(equal, axis=1) <= num_edges - edge.sum(axis=1, keepdims=True)),
    )


def _gradient_ratio(original, image, where):
    """Of the means over the pixels in `where`."""
    return _ratio(
        *(np.mean(part, axis=1, where=where) for part in (image, original)), LEAST_GRADIENT
    )


@_for_images
def edge_gradient_ratio(originals, images):
    r"""How strong the image's gradients are on the original's edges; 1 is as sharp as the original, less is softer.

    .. math:: \sum_{i \in E} |\nabla y_i| \Big/ \sum_{i \in E} |\nabla x_i|

    :math:`|\nabla|` is the magnitude of Sobel's operator on the grey image, :math:`E` the tenth of the pixels where the
    original's is largest (of equals the first).  Above 1: harder than the original.

    Parameters
    ----------
    originals, images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3.

    Returns
    -------
    numpy.ndarray, float64, shape (N,)

    Raises
    ------
    ValueError
        Shapes that differ, or another kind of array.

    References
    ----------
    Of this project; the operator: Sobel and Feldman, as in scipy.ndimage.sobel.
    """
    original, image, edge = _gradients(originals, images)
    return _gradient_ratio(original, image, edge)


@_for_images
def off_edge_gradient_ratio(originals, images):
    r"""The same as :func:`edge_gradient_ratio` over the other nine tenths of the pixels; 1 is right.

    .. math:: \sum_{i \notin E} |\nabla y_i| \Big/ \sum_{i \notin E} |\nabla x_i|

    Above 1 the image has more than the original off its strongest edges: noise, a grid, texture, edges in wrong places, but
    also weaker edges made harder.  What noise adds shows here more than in `edge_gradient_ratio`, so it cannot pass for sharpness.

    Parameters
    ----------
    originals, images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3.

    Returns
    -------
    numpy.ndarray, float64, shape (N,)

    Raises
    ------
    ValueError
        Shapes that differ, or another kind of array.

    References
    ----------
    Of this project.
    """
    original, image, edge = _gradients(originals, images)
    return _gradient_ratio(original, image, ~edge)


@_for_images
def laplacian_variance_ratio(originals, images):
    r"""Variance of the Laplacian, a usual measure of focus; 1 is as sharp as the original, less is softer.

    .. math:: \mathrm{var}(\Delta y) / \mathrm{var}(\Delta x), \qquad
              \Delta = \begin{pmatrix} 0 & 1 & 0 \\ 1 & -4 & 1 \\ 0 & 1 & 0 \end{pmatrix} \text{ on the grey image}

    Noise raises it as well.

    Parameters
    ----------
    originals, images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3.

    Returns
    -------
    numpy.ndarray, float64, shape (N,)

    Raises
    ------
    ValueError
        Shapes that differ, or another kind of array.

    References
    ----------
    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000; the operator as in scipy.ndimage.laplace.
    """

    def variance(images):
        grey = luminance(images)
        return sum(ndimage.correlate1d(grey, [1, -2, 1], axis) for axis in (1, 2)).var(axis=(1, 2))

    return _ratio(variance(images), variance(originals), ROUNDING * (4**2 + 4 * 1**2))


@_for_images
def high_frequency_ratio(originals, images):
    r"""Power of what is finer than four pixels a wave; 1 is as much as in the original, less is softer.

    .. math:: \sum_{|f| > 1/4} |\hat y_f|^2 \Big/ \sum_{|f| > 1/4} |\hat x_f|^2

    :math:`\hat y` is the Fourier transform of the grey image less its mean, times a Hann window in both directions, and
    :math:`|f| = \sqrt{f_h^2 + f_w^2}` in cycles a pixel.  It is a power: half the contrast gives a quarter.  Noise raises it as well.

    Parameters
    ----------
    originals, images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3.

    Returns
    -------
    numpy.ndarray, float64, shape (N,)

    Raises
    ------
    ValueError
        Shapes that differ, or another kind of array.

    References
    ----------
    Of this project; the window: Harris, "On the use of windows for harmonic analysis", Proc. IEEE 66 (1978).
    """
    height, width = images.shape[2:]
    window = np.outer(*(np.sin(np.pi * np.arange(n) / n) ** 2 for n in (height, width)))
    high = np.hypot(scipy.fft.fftfreq(height)[:, None], scipy.fft.fftfreq(width)) > HIGH_FREQUENCY

    def power(images):
        grey = luminance(images)
        waves = scipy.fft.fft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)[:, high]
        return (waves.real**2 + waves.imag**2).sum(axis=1)

    return _ratio(power(images), power(originals), ROUNDING * (window**2).sum() * high.sum())


@_for_images
def gmsd(originals, images):
    r"""Gradient magnitude similarity deviation: how unevenly edges are damaged; 0 for identical images, lower is nearer.

    .. math:: \mathrm{GMSD} = \mathrm{std}_i \frac{2 m_i(x) m_i(y) + c}{m_i(x)^2 + m_i(y)^2 + c}, \qquad c = 170 \text{ on 0 to 255}

    :math:`m` is the gradient's magnitude by Prewitt's operator (a third of it) on the grey image, brought to half its height and
    width by means over 2 x 2 pixels; outside of the image is black, as in the authors' own program.  The
    standard deviation divides by the number of pixels, as in the paper.

    Parameters
    ----------
    originals, images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3; the last row or column of an odd number is left out.

    Returns
    -------
    numpy.ndarray, float64, shape (N,)

    Raises
    ------
    ValueError
        Shapes that differ, or another kind of array.

    References
    ----------
    Xue et al., "Gradient Magnitude Similarity Deviation", IEEE TIP 23 (2014), arXiv 1308.3052.
    """

    def gradients(images):
        grey = luminance(images)
        height, width = (n // 2 for n in grey.shape[1:])
        half = grey[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2).mean(axis=(2, 4))
        return _gradient_magnitude(half, PREWITT)

    x, y = gradients(originals), gradients(images)
    return ((2 * x * y + GMSD_CONSTANT) / (x**2 + y**2 + GMSD_CONSTANT)).std(axis=(1, 2))


PER_IMAGE = {
    "psnr": psnr,
    "ssim": ssim,
    "edge_gradient_ratio": edge_gradient_ratio,
    "off_edge_gradient_ratio": off_edge_gradient_ratio,
    "laplacian_variance_ratio": laplacian_variance_ratio,
    "high_frequency_ratio": high_frequency_ratio,
    "gmsd": gmsd,
}


def per_image(originals, images):
    """All measures in `PER_IMAGE`.

    Parameters
    ----------
    originals, images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3, H and W at least 11.

    Returns
    -------
    dict of numpy.ndarray, float64, shape (N,)
        By the measures' names.

    Raises
    ------
    ValueError
        Shapes that differ, or another kind of array.
    """
    return {name: measure(originals, images) for name, measure in PER_IMAGE.items()}


def _kernel_sum(x, y, same=False):
    """Sum of (x.y / D + 1)^3 over all pairs; of a set with itself without the pairs of a point with itself."""
    total = 0.0
    for start in range(0, len(x), BLOCK):
        kernel = x[start : start + BLOCK] @ y.T / x.shape[1] + 1
        total += (kernel * kernel * kernel).sum()
    return total - (((x * x).sum(axis=1) / x.shape[1] + 1) ** 3).sum() if same else total


def kernel_distance(features, other_features):
    r"""Kernel distance of two sets of images by their features (KID): around 0 for sets of one kind, lower is nearer.

    The squared maximum mean discrepancy, estimated without bias (so it may be a little below 0), with the polynomial kernel
    :math:`k(x, y) = (x \cdot y / D + 1)^3`:

    .. math:: \frac{1}{N (N - 1)} \sum_{i \neq j} k(x_i, x_j) + \frac{1}{M (M - 1)} \sum_{i \neq j} k(y_i, y_j)
              - \frac{2}{N M} \sum_{i, j} k(x_i, y_j)

    Its size depends on the features: only distances by the same classifier compare, and none with published ones, which
    use another net (Inception).  For a set and its own reconstructions, image by image of the same things, the estimate lies a
    little below that for other images of the same kind.

    Parameters
    ----------
    features : numpy.ndarray, shape (N, D)
        Such as :func:`d2lvae.evaluation.classifier.features` gives; N at least 2.
    other_features : numpy.ndarray, shape (M, D)
        M at least 2.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        Shapes other than these.

    References
    ----------
    Binkowski et al., "Demystifying MMD GANs", ICLR 2018, arXiv 1801.01401, section 4.
    """
    x, y = (np.asarray(array, dtype=np.float64) for array in (features, other_features))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"features must be two arrays (N, D) and (M, D), N and M at least 2; found {x.shape} and {y.shape}"
        )
    n, m = len(x), len(y)
    return float(
        _kernel_sum(x, x, same=True) / (n * (n - 1))
        + _kernel_sum(y, y, same=True) / (m * (m - 1))
        - 2 * _kernel_sum(x, y) / (n * m)
    )


def _to_uint8(images):
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def blurred(images, sigma=1.0):
    """Images through a Gaussian blur, in height and width: a control that every measure of sharpness must call softer
    (but for what lies off the edges, where the edges of thin strokes are blurred to).

    Parameters
    ----------
    images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3.
    sigma : float
        Standard deviation in pixels.

    Returns
    -------
    numpy.ndarray, uint8, shape (N, C, H, W)
    """
    return _to_uint8(
        ndimage.gaussian_filter(_checked(images).astype(np.float32), (0, 0, sigma, sigma))
    )


def unsharp_masked(images, radius=1.0, amount=1.0):
    r"""Images sharpened by a filter, channel by channel: a control that is sharper without having learnt anything.

    .. math:: y = x + \mathrm{amount} \cdot (x - \mathrm{blur}(x)), \text{ clipped to 0 to 255}

    Parameters
    ----------
    images : numpy.ndarray, uint8, shape (N, C, H, W)
        With C 1 or 3.
    radius : float
        Standard deviation of the Gaussian blur, in pixels.
    amount : float
        How much of what the blur takes away is added.

    Returns
    -------
    numpy.ndarray, uint8, shape (N, C, H, W)

    References
    ----------
    skimage.filters.unsharp_mask.
    """
    images = _checked(images)
    if not len(images):
        return images.copy()
    sharper = unsharp_mask(images.reshape(-1, *images.shape[2:]), radius, amount, channel_axis=0)
    return _to_uint8(255 * sharper).reshape(images.shape)


def bootstrap_interval(values, num_resamples=10_000, level=0.95, seed=0):
    """An interval for the mean of `values`, by resampling them (percentile bootstrap).

    Parameters
    ----------
    values : array_like, shape (N,) or (S, N)
        One value an image: images are drawn anew, with replacement.  Or of S trainings (seeds) on the same N images: then
        trainings and images are both drawn anew, independently, so that the interval covers what another training and
        other images would change.  For a comparison give differences, image by image.
    num_resamples : int
        How many means.
    level : float
        Share of the means that lie in the interval.
    seed : int
        The same seed gives the same interval.

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        Another shape, no values, values that are not finite, or a level that is not between 0 and 1.

    Notes
    -----
    With few trainings the interval is too narrow: their variance is underestimated by the factor (S - 1) / S,
    and with one it counts as none.

    References
    ----------
    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; for two directions: Owen, "The pigeonhole
    bootstrap", Annals of Applied Statistics 1 (2007), arXiv 0712.1111.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if np.ndim(values) not in (1, 2) or not table.size or not np.isfinite(table).all():
        raise ValueError(
            f"values must be finite numbers, (N,) or (S, N); found {table.size - np.isfinite(table).sum()} that are not "
            f"finite in the shape {np.shape(values)}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1; found {level}")
    rng = np.random.default_rng(seed)
    (num_seeds, num_images), means = table.shape, []
    for start in range(0, num_resamples, BLOCK):
        size = min(BLOCK, num_resamples - start)
        share = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size) / num_seeds
        chosen = rng.integers(num_images, size=(size, num_images))
        means.append(np.take_along_axis(share @ table, chosen, axis=1).mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
