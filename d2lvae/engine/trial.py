"""A trial on shapes alone: nets and losses that do not fit are named before any work."""

import math

import mxnet as mx

from ..storage.errors import RunError

N = 5  # images; a loss that averages over them gives one number, or one a channel


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
    of_vae, of_disc = (f"{type(net).__name__}'s" for net in (vae, disc))
    for place, part in enumerate(("means", "log-variances")):
        encode = lambda place=place: list(vae.encode(images))[place]
        _expect(f"{of_vae} encoder, {part}", encode, (N, vae.num_latents), exactly=True)
    draw = lambda: vae.reparameterize(latents, latents, latents)
    _expect(f"{of_vae} reparameterize", draw, (N, vae.num_latents), exactly=True)
    _expect(f"{of_vae} decoder", lambda: vae.decode(latents), (N, *image_shape), exactly=True)
    if pixel_loss is not None:
        _expect(pixel_loss.__name__, lambda: pixel_loss(logits, images), (N, ...))
    if disc is not None:
        _expect(f"{of_disc} logits", lambda: disc(images), (N,))
    if compares:
        _expect(f"{of_disc} features", lambda: disc.features(images), (N, ...))


def _expect(what, compute, expected, exactly=False):
    """RunError unless what is computed has a shape; or as many numbers, if that will do."""
    words = f"{what}: expected the shape {_shown(expected)} for {N} images; found"
    try:
        result = compute()
        if not isinstance(result, mx.sym.Symbol):
            raise TypeError(f"{type(result).__name__} instead of one array")
        [found] = result.infer_shape_partial()[1]
    except (mx.base.NotImplementedForSymbol, AttributeError, TypeError, AssertionError) as error:
        raise RunError(
            f"{words} what cannot be compiled ({error}): use methods that NDArrays and Symbols "
            "share, see docs/own_experiments.md"
        ) from error
    except mx.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RunError(f"{words} that it cannot be computed ({reason})") from None
    if not found or 0 in found:
        return  # layers with open widths; a pass settles them
    same = ... in expected or math.prod(found) == math.prod(expected)
    if found[0] != N or not same or exactly and found != expected:
        raise RunError(f"{words} {_shown(found)}")


def _shown(shape):
    return " x ".join("..." if size is ... else str(size) for size in shape)
