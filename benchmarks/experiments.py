"""The eight experiments of the README at the seed's sizes, for whoever measures them."""

DIGITS, FACES, BATCH = (1, 28, 28), (3, 64, 64), 64
DENSE_DIGITS = dict(kind="dense", num_latents=5, num_layers=3, num_hiddens=400)
DENSE_FACES = dict(kind="dense", num_latents=512, num_layers=5, num_hiddens=1024)
EXPERIMENTS = {
    "mnist_densevae_bce": dict(shape=DIGITS, vae=DENSE_DIGITS),
    "mnist_densevae_l2": dict(shape=DIGITS, vae=DENSE_DIGITS, pixel_loss="l2"),
    "mnist_densevae_logreg": dict(
        shape=DIGITS, vae=DENSE_DIGITS, disc=dict(kind="logreg", num_layers=1, num_hiddens=200)
    ),
    "anime_densevae_bce": dict(shape=FACES, vae=DENSE_FACES),
    "anime_densevae_logreg": dict(
        shape=FACES, vae=DENSE_FACES, disc=dict(kind="logreg", num_layers=1, num_hiddens=1024)
    ),
    "anime_convvae_bce": dict(
        shape=FACES, vae=dict(kind="conv", num_latents=512, base_channels=32)
    ),
    "anime_convvae_convdisc": dict(
        shape=FACES,
        vae=dict(kind="conv", num_latents=256, base_channels=16),
        disc=dict(kind="conv", base_channels=16),
    ),
    "anime_convvae_resnet": dict(
        shape=FACES,
        vae=dict(kind="conv", num_latents=256, base_channels=16),
        disc=dict(kind="resnet"),
    ),
}


def has_convolutions(name):
    return EXPERIMENTS[name]["vae"]["kind"] == "conv"


def disc_weight(name):
    return 1.0 if EXPERIMENTS[name]["shape"] == DIGITS else 10.0


def gluon_nets(name):
    """(VAE, discriminator or None) of this project."""
    import d2lvae

    experiment = EXPERIMENTS[name]
    vae, disc = dict(experiment["vae"]), dict(experiment.get("disc", ()))
    kinds = {"dense": d2lvae.DenseVAE, "conv": d2lvae.ConvVAE}
    disc_kinds = {
        "logreg": d2lvae.DenseLogReg,
        "conv": d2lvae.ConvDisc,
        "resnet": d2lvae.ResNetDisc,
    }
    return (
        kinds[vae.pop("kind")](image_shape=experiment["shape"], **vae),
        disc_kinds[disc.pop("kind")](image_shape=experiment["shape"], **disc) if disc else None,
    )


def config(name, **changes):
    """The learner's settings."""
    return dict(
        lr=1e-3,
        pixel_loss=EXPERIMENTS[name].get("pixel_loss", "bce"),
        pixel_weight=1.0,
        kl_weight=1.0,
        disc_weight=disc_weight(name),
        batch_size=BATCH,
        seed=0,
        **changes,
    )
