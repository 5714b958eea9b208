"""How near images are to their originals, how sharp they are, and how far chance may move a mean.

    originals, images (N, C, H, W), uint8 -> a number an image (N,), by the names in `PER_IMAGE`

No one number is sharpness.  Noise has gradients, too, so those on the original's edges are counted
apart from those off them.  A crisp edge in the wrong place has as much of high frequencies as in
the right one: only the gradients' ratios, `psnr`, `ssim` and `gmsd` notice.

Ratios are an image's measure divided by its original's: 1 is as sharp.  Nothing in them counts as
less than what rounding to 256 levels leaves (noise of variance 1/12 squared level), on average.  So
a flat image beside a flat original has the ratio 1.
"""

import functools

import numpy as np
from scipy import ndimage
from scipy.signal.windows import hann
from skimage.filters import unsharp_mask
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.transform import downscale_local_mean

MAX_PSNR = 100.0  # dB; what identical images get
EDGE_SHARE = 0.1  # of the original's pixels are its edges: those with the strongest gradients
HIGH_FREQUENCY = 0.25  # cycles a pixel, a quarter of the sampling rate
GMSD_CONSTANT = 170 / 255**2  # 0.0026 on [0, 1]
ROUNDING = 1 / 12 / 255**2  # variance that rounding to 256 levels adds, on [0, 1]
# What rounding leaves of Sobel's operator: two normal components; Rayleigh's mean of their length.
LEAST_GRADIENT = np.sqrt(np.pi / 2 * ROUNDING * 2 * (1**2 + 2**2 + 1**2))
PER_IMAGE = {}  # the measures by name
AT_ONCE = 256  # resamples; the order of the random numbers, and so every interval, depends on it

ARGUMENTS = """    Parameters
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

"""


def _checked(images, what="images"):
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"{what} must be a uint8 array (N, C, H, W) with C 1 or 3; "
            f"found {images.dtype} {images.shape}"
        )
    return images


def _for_images(measure):
    """Make a measure of one original and image (C, H, W) one of any number, and list it.

    It checks its input, and `ARGUMENTS` are added to its docstring, before the references.
    """

    @functools.wraps(measure)
    def measure_all(originals, images):
        originals, images = _checked(originals, "originals"), _checked(images)
        if originals.shape != images.shape:
            raise ValueError(
                "originals and images must have one shape; "
                f"found {originals.shape} and {images.shape}"
            )
        return np.array([measure(*pair) for pair in zip(originals, images)], dtype=np.float64)

    text, title = measure.__doc__ or "", "    References\n"
    measure_all.__doc__ = text.replace(title, ARGUMENTS + title)
    PER_IMAGE[measure.__name__] = measure_all
    return measure_all


def luminance(images):
    r"""Grey images, :math:`Y = 0.299 R + 0.587 G + 0.114 B`, in [0, 1], float64 (N, H, W).

    `images` are uint8 (N, C, H, W), with C 1 (which is grey already) or 3.
    Source: Recommendation ITU-R BT.601.
    """
    images = _checked(images)
    weights = (1.0,) if images.shape[1] == 1 else (0.299, 0.587, 0.114)
    return np.einsum("nchw,c->nhw", images.astype(np.float64), np.array(weights) / 255)


def _grey(image):
    return luminance(image[None])[0]


def _ratio(image, original, least):
    return max(image, least) / max(original, least)


@_for_images
def psnr(original, image):
    r"""Peak signal-to-noise ratio in dB, at most `MAX_PSNR`; higher is nearer.

    .. math:: 10 \log_{10} \frac{255^2}{\mathrm{mean}_i (x_i - y_i)^2}

    Identical images get `MAX_PSNR` and not infinity, so that means stay numbers.  (No others come
    near it: one pixel of 3 x 64 x 64 that is off by one level costs an image all above 89 dB.)

    References
    ----------
    skimage.metrics.peak_signal_noise_ratio.
    """
    with np.errstate(divide="ignore"):
        return min(peak_signal_noise_ratio(original, image, data_range=255), MAX_PSNR)


@_for_images
def ssim(original, image):
    r"""Structural similarity, a mean over pixels and channels; 1 if identical, higher is nearer.

    .. math:: \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
                   {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)},
              \qquad C_1 = (0.01 \cdot 255)^2, \quad C_2 = (0.03 \cdot 255)^2

    Means and (co)variances under a Gaussian window of 11 x 11 with standard deviation 1.5, as in
    the paper.  H and W must be at least 11; a ValueError is raised for less.

    References
    ----------
    Wang et al., "Image quality assessment: from error visibility to structural similarity",
    IEEE TIP 13 (2004); skimage.metrics.structural_similarity.
    """
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(original, image, data_range=255, channel_axis=0, **window)


def _sobel(image):
    """(C, H, W) -> the magnitude of its gradient, (H * W,)."""
    grey = _grey(image)
    return np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)).ravel()


def _edges(gradient):
    """Which pixels are edges, (H * W,): exactly `EDGE_SHARE` of them, of equals the first."""
    strongest_first = np.argsort(-gradient, kind="stable")
    edges = np.zeros(gradient.shape, bool)
    edges[strongest_first[: max(1, round(EDGE_SHARE * gradient.size))]] = True
    return edges


def _gradient_ratio(original, image, on_edges):
    """Of the mean gradients on the original's edges, or off them."""
    original, image = _sobel(original), _sobel(image)
    where = _edges(original) == on_edges
    return _ratio(image[where].mean(), original[where].mean(), LEAST_GRADIENT)


@_for_images
def edge_gradient_ratio(original, image):
    r"""How strong gradients are on the original's edges; 1 is as sharp as it, less is softer.

    .. math:: \sum_{i \in E} |\nabla y_i| \Big/ \sum_{i \in E} |\nabla x_i|

    :math:`|\nabla|` is the magnitude of Sobel's operator on the grey image, :math:`E` the tenth of
    the pixels where the original's is largest (of equals the first).  Above 1: harder than the
    original.

    References
    ----------
    Of this project; the operator: Sobel and Feldman, scipy.ndimage.sobel.
    """
    return _gradient_ratio(original, image, True)


@_for_images
def off_edge_gradient_ratio(original, image):
    r"""The same as :func:`edge_gradient_ratio` over the other nine tenths of the pixels.

    .. math:: \sum_{i \notin E} |\nabla y_i| \Big/ \sum_{i \notin E} |\nabla x_i|

    1 is right.  Above 1 the image has more than the original off its strongest edges: noise, a
    grid, texture, edges in wrong places, but also weaker edges made harder.  What noise adds shows
    here more than in `edge_gradient_ratio`, so it cannot pass for sharpness.

    References
    ----------
    Of this project.
    """
    return _gradient_ratio(original, image, False)


@_for_images
def laplacian_variance_ratio(original, image):
    r"""Variance of the Laplacian, a usual measure of focus; 1 is as sharp, less is softer.

    .. math:: \mathrm{var}(\Delta y) / \mathrm{var}(\Delta x), \qquad
              \Delta = \begin{pmatrix} 0 & 1 & 0 \\ 1 & -4 & 1 \\ 0 & 1 & 0 \end{pmatrix}
              \text{ on the grey image}

    Noise raises it as well.

    References
    ----------
    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000;
    scipy.ndimage.laplace.
    """
    image, original = (ndimage.laplace(_grey(each)).var() for each in (image, original))
    return _ratio(image, original, ROUNDING * (4**2 + 4 * 1**2))


@_for_images
def high_frequency_ratio(original, image):
    r"""Power of what is finer than four pixels a wave; 1 is as much as in the original.

    .. math:: \sum_{|f| > 1/4} |\hat y_f|^2 \Big/ \sum_{|f| > 1/4} |\hat x_f|^2

    :math:`\hat y` is the Fourier transform of the grey image less its mean, times a Hann window in
    both directions, and :math:`|f| = \sqrt{f_h^2 + f_w^2}` in cycles a pixel.  Less than 1 is
    softer.  It is a power: half the contrast gives a quarter.  Noise raises it as well.

    References
    ----------
    Of this project; the window: Harris, "On the use of windows for harmonic analysis",
    Proc. IEEE 66 (1978).
    """
    height, width = image.shape[1:]
    window = np.outer(hann(height, sym=False), hann(width, sym=False))
    high = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) > HIGH_FREQUENCY

    def power(image):
        grey = _grey(image)
        return (np.abs(np.fft.fft2((grey - grey.mean()) * window)[high]) ** 2).sum()

    return _ratio(power(image), power(original), ROUNDING * (window**2).sum() * high.sum())


@_for_images
def gmsd(original, image):
    r"""Gradient magnitude similarity deviation: how unevenly edges are damaged; lower is nearer.

    .. math:: \mathrm{GMSD} = \mathrm{std}_i \frac{2 m_i(x) m_i(y) + c}{m_i(x)^2 + m_i(y)^2 + c},
              \qquad c = 170 \text{ on 0 to 255}

    0 for identical images.  :math:`m` is the gradient's magnitude by Prewitt's operator (a third of
    it) on the grey image, brought to half its height and width by means over 2 x 2 pixels.  The
    last row or column of an odd number is left out.  Outside of the image is black, as in the
    authors' own program.  The standard deviation divides by the number of pixels, as in the paper.

    References
    ----------
    Xue et al., "Gradient Magnitude Similarity Deviation", IEEE TIP 23 (2014), arXiv 1308.3052.
    """

    def gradient(image):
        even = image[:, : image.shape[1] // 2 * 2, : image.shape[2] // 2 * 2]
        half = downscale_local_mean(_grey(even), (2, 2))
        return np.hypot(*(ndimage.prewitt(half, axis, mode="constant") / 3 for axis in (0, 1)))

    x, y = gradient(original), gradient(image)
    return ((2 * x * y + GMSD_CONSTANT) / (x**2 + y**2 + GMSD_CONSTANT)).std()


def per_image(originals, images):
    """All measures in `PER_IMAGE` by name, (N,) each; arguments and errors are theirs."""
    return {name: measure(originals, images) for name, measure in PER_IMAGE.items()}


def kernel_distance(features, other_features):
    r"""Kernel distance of two sets of images by their features (KID); lower is nearer.

    The squared maximum mean discrepancy with the kernel :math:`k(x, y) = (x \cdot y / D + 1)^3`:

    .. math:: \frac{1}{N (N - 1)} \sum_{i \neq j} k(x_i, x_j)
              + \frac{1}{M (M - 1)} \sum_{i \neq j} k(y_i, y_j)
              - \frac{2}{N M} \sum_{i, j} k(x_i, y_j)

    Without bias for independent sets, so around 0 for two of one kind.  A set and its own
    reconstructions are not independent: theirs is a little lower, and that of equal sets below 0.
    Its size depends on the features: only distances by the same classifier compare, none with
    published ones (Inception).

    Parameters
    ----------
    features, other_features : numpy.ndarray, shape (N, D) and (M, D)
        Such as :func:`d2lvae.evaluation.classifier.features` gives; N and M at least 2.

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
            "features must be two arrays (N, D) and (M, D), N and M at least 2; "
            f"found {x.shape} and {y.shape}"
        )

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_of_others(x):  # without the pairs of a point with itself
        within = kernel(x, x)
        return (within.sum() - within.trace()) / (len(x) * (len(x) - 1))

    return float(mean_of_others(x) + mean_of_others(y) - 2 * kernel(x, y).mean())


def _to_uint8(images):
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def blurred(images, sigma=1.0):
    """Images through a Gaussian blur, in height and width.

    A control that every measure of sharpness must call softer (but for what lies off the edges,
    where the edges of thin strokes are blurred to).

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
    images = _checked(images).astype(np.float32)
    return _to_uint8(ndimage.gaussian_filter(images, (0, 0, sigma, sigma)))


def unsharp_masked(images, radius=1.0, amount=1.0):
    r"""Images sharpened by a filter, channel by channel.

    .. math:: y = x + \mathrm{amount} \cdot (x - \mathrm{blur}(x)), \text{ clipped to 0 to 255}

    A control that is sharper without having learnt anything.

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
    sharper = [unsharp_mask(x, radius, amount, channel_axis=0) for x in _checked(images)]
    return _to_uint8(255 * np.array(sharper)).reshape(images.shape)


def bootstrap_interval(values, num_resamples=10_000, level=0.95, seed=0):
    """An interval (low, high) for the mean of `values`, by resampling them (percentile bootstrap).

    `values` (N,) are a number an image; (S, N) are of S trainings (seeds) on the same N images:
    then trainings and images are both drawn anew, independently.  For a comparison give
    differences, image by image.  `level` is the share of the means that lie in the interval.  The
    same seed gives the same interval.  ValueError for another shape, no values, values that are not
    finite, or a level not between 0 and 1.

    With few trainings the interval is too narrow: their variance is underestimated by the factor
    (S - 1) / S, and with one it counts as none.

    References
    ----------
    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; for two directions:
    Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007), arXiv 0712.1111.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if np.ndim(values) not in (1, 2) or not table.size or not np.isfinite(table).all():
        raise ValueError(
            "values must be finite numbers, (N,) or (S, N); found "
            f"{table.size - np.isfinite(table).sum()} that are not finite "
            f"in the shape {np.shape(values)}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1; found {level}")
    rng = np.random.default_rng(seed)
    (num_seeds, num_images), means = table.shape, []
    for start in range(0, num_resamples, AT_ONCE):
        size = min(AT_ONCE, num_resamples - start)
        share = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size) / num_seeds
        chosen = rng.integers(num_images, size=(size, num_images))
        means.append(np.take_along_axis(share @ table, chosen, axis=1).mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
