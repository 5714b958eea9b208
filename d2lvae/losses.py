"""The losses: one number an image, in nats, summed over channels and pixels.

Every function takes NDArrays or Symbols, so that the same lines run eagerly in a notebook cell
and inside a hybridized block.  Sums, not means, over the pixels: a mean would weaken the pixel
loss 784 times (12,288 times for a face) against the KL, which changes the model that is trained.
Gluon's own losses average, which is why they are not used here.
"""

from .engine.operators import sigmoid, softplus, sum_per_image


def bce(logits, images):
    r"""Binary cross-entropy of images under the Bernoulli means ``sigmoid(logits)``.

    .. math:: -\sum_i \big[x_i \log p_i + (1 - x_i) \log(1 - p_i)\big]
              = \sum_i \big[\log(1 + e^{l_i}) - x_i l_i\big], \qquad p_i = \mathrm{sigmoid}(l_i)

    Computed from logits, so it keeps growing (and its gradient keeps pulling) where
    ``log(p + 1e-10)`` saturates.

    Parameters
    ----------
    logits, images : NDArray or Symbol, shape (N, C, H, W)
        What the decoder gives, and the images in [0, 1].

    Returns
    -------
    NDArray or Symbol, shape (N,), nats an image

    References
    ----------
    Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv 1312.6114, appendix C.1.
    """
    return sum_per_image(softplus(logits) - images * logits)


def l2(logits, images):
    r"""Sum of squared differences, :math:`\sum_i (\mathrm{sigmoid}(l_i) - x_i)^2`, without a 1/2.

    The original's "L2 loss as PBP loss", as it was recorded.  Parameters as of :func:`bce`.

    Returns
    -------
    NDArray or Symbol, shape (N,)
        Squared intensity an image; nats up to a constant under a Gaussian of variance 1/2.
    """
    return sum_per_image((sigmoid(logits) - images).square())


def kl_divergence(mean, log_var):
    r"""Kullback-Leibler divergence of the encoder's Gaussian from the standard normal prior.

    .. math:: -\frac12 \sum_j \big[1 + \log\sigma_j^2 - \mu_j^2 - \sigma_j^2\big]

    Parameters
    ----------
    mean, log_var : NDArray or Symbol, shape (N, L)
        What the encoder gives for each of L latents.

    Returns
    -------
    NDArray or Symbol, shape (N,), nats an image, at least 0

    References
    ----------
    Kingma and Welling, arXiv 1312.6114, appendix B.
    """
    return sum_per_image(mean.square() + log_var.exp() - log_var - 1) * 0.5


def adversarial(logits, is_real):
    r"""Binary cross-entropy of a discriminator's logits against one answer for all of them.

    With ``is_real=True``, :math:`-\log \mathrm{sigmoid}(l)`: what the discriminator pays on real
    images, and what a VAE pays for not being taken for real (the non-saturating loss).  With
    ``is_real=False``, :math:`-\log(1 - \mathrm{sigmoid}(l))`: what it pays on reconstructions.

    Parameters
    ----------
    logits : NDArray or Symbol, shape (N,)
        The discriminator's output; above 0 means "real".
    is_real : bool
        The answer that would cost nothing.

    Returns
    -------
    NDArray or Symbol, shape (N,), nats an image

    References
    ----------
    Goodfellow et al., "Generative Adversarial Nets", arXiv 1406.2661, section 3.
    """
    return softplus(-logits if is_real else logits)


def feature_distance(features, other_features):
    r"""Half the squared distance between what a discriminator's hidden layer makes of two images.

    .. math:: \frac12 \sum_j \big(D_j(x) - D_j(\hat x)\big)^2

    The learned similarity metric: up to a constant the negative log-likelihood of the image's
    features under a Gaussian of variance 1 around the reconstruction's.

    Parameters
    ----------
    features, other_features : NDArray or Symbol, shape (N, ...)
        From a discriminator's `features`.

    Returns
    -------
    NDArray or Symbol, shape (N,), nats an image

    References
    ----------
    Larsen, Sonderby, Larochelle and Winther, "Autoencoding beyond pixels using a learned
    similarity metric", arXiv 1512.09300, equations 6 and 7.
    """
    return sum_per_image((features - other_features).square()) * 0.5


PIXEL_LOSSES = {"bce": bce, "l2": l2}
