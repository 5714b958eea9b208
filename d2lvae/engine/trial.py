"""A trial on shapes alone: nets and losses that do not fit are named before any work."""

import math

import mxnet as mx

from ..storage.errors import RunError

N = 3  # images; a loss that averages over them gives one number


def check_shapes(vae, disc, pixel_loss, compares, image_shape):
    """Make sure that nets and a pixel loss fit images (C, H, W) and one another.

    They are traced with Symbols, so nothing is computed.  `disc` may be None, and `pixel_loss`,
    where it is one of the package's; `compares` is whether the discriminator's features are needed.
    RunError, with what gives which shape, and which was expected.
    """
    for net in filter(None, (vae, disc)):
        if net.image_shape != tuple(image_shape):
            raise RunError(
                f"this {type(net).__name__} takes images of {_shown(net.image_shape)}, but these "
                f"are of {_shown(image_shape)}: make it with image_shape=images.image_shape"
            )
    images, logits = (mx.sym.var(name, shape=(N, *image_shape)) for name in ("images", "logits"))
    latents = mx.sym.var("latents", shape=(N, vae.num_latents))
    encode = lambda: mx.sym.concat(*vae.encode(images), dim=1)
    of_vae, of_disc = (f"{type(net).__name__}'s" for net in (vae, disc))
    _expect(f"{of_vae} encoder, means and log-variances", encode, (N, 2 * vae.num_latents))
    _expect(f"{of_vae} decoder", lambda: vae.decode(latents), (N, *image_shape))
    if pixel_loss is not None:
        _expect(pixel_loss.__name__, lambda: pixel_loss(logits, images), (N, ...))
    if disc is not None:
        _expect(f"{of_disc} logits", lambda: disc(images), (N,))
    if compares:
        _expect(f"{of_disc} features", lambda: disc.features(images), (N, ...))


def _expect(what, compute, expected):
    """RunError unless what is computed has a shape; as many numbers in another one will do."""
    words = f"{what}: expected the shape {_shown(expected)} for {N} images; found"
    try:
        [found] = compute().infer_shape_partial()[1]
    except mx.base.NotImplementedForSymbol as error:
        raise RunError(
            f"{words} what cannot be compiled ({error}): use methods that NDArrays and Symbols "
            "share, see docs/own_experiments.md"
        ) from None
    except mx.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RunError(f"{words} that it cannot be computed ({reason})") from None
    if not found or 0 in found:
        return  # layers with open widths; a pass settles them
    if found[0] != N or ... not in expected and math.prod(found) != math.prod(expected):
        raise RunError(f"{words} {_shown(found)}")


def _shown(shape):
    return " x ".join("..." if size is ... else str(size) for size in shape)
