"""The same nets, losses and step in PyTorch, as its best users would write them.

One forward pass of the VAE a step, the discriminator's weights frozen in the VAE's part, fused Adam, denormals flushed, eager or compiled,
contiguous or channels_last; the discriminator's running statistics are let move in the VAE's part, which saves it a copy.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from experiments import EXPERIMENTS, disc_weight
from torch import nn


def mlp(width, hidden_widths, out):
    layers = []
    for hidden in hidden_widths:
        layers += [nn.Linear(width, hidden), nn.ReLU(inplace=True)]
        width = hidden
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, out))


class VAE(nn.Module):
    def __init__(self, encoder, decoder, shape):
        super().__init__()
        self.encoder, self.decoder, self.shape = encoder, decoder, shape

    def forward(self, images):
        mean, log_var = self.encoder(images).chunk(2, dim=1)
        latents = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        return self.decoder(latents).view(-1, *self.shape), mean, log_var


def dense_vae(shape, num_latents, num_layers, num_hiddens):
    pixels = int(np.prod(shape))
    return VAE(
        mlp(pixels, [num_hiddens] * num_layers, 2 * num_latents),
        mlp(num_latents, [num_hiddens] * num_layers, pixels),
        shape,
    )


def conv_vae(shape, num_latents, base_channels):
    widths = [base_channels * 2**i for i in range(4)]
    channels = [shape[0], *widths]
    encoder, decoder = (
        [],
        [
            nn.Unflatten(1, (num_latents, 1, 1)),
            nn.ConvTranspose2d(num_latents, widths[-1], 4, 1, 0, bias=False),
        ],
    )
    for narrow, wide in zip(channels, widths):
        encoder += [
            nn.Conv2d(narrow, wide, 4, 2, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
        ]
    for wide, narrow in zip(widths[::-1], channels[-2::-1]):
        decoder += [
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=narrow == shape[0]),
        ]
    return VAE(
        nn.Sequential(*encoder, nn.Flatten(), nn.Linear(16 * widths[-1], 2 * num_latents)),
        nn.Sequential(*decoder),
        shape,
    )


def conv_disc(shape, base_channels):
    layers, narrow = [], shape[0]
    for wide in (base_channels * 2**i for i in range(4)):
        layers.append(nn.Conv2d(narrow, wide, 4, 2, 1, bias=narrow == shape[0]))
        layers += ([nn.BatchNorm2d(wide)] if narrow != shape[0] else []) + [
            nn.LeakyReLU(0.2, inplace=True)
        ]
        narrow = wide
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * narrow, 1))


class Residual(nn.Module):
    def __init__(self, narrow, wide, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(narrow, wide, 3, stride, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 3, 1, 1, bias=False),
            nn.BatchNorm2d(wide),
        )
        self.shortcut = (
            nn.Identity()
            if narrow == wide
            else nn.Sequential(nn.Conv2d(narrow, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))
        )

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


def resnet18(shape):
    layers, narrow = (
        [
            nn.Conv2d(shape[0], 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        ],
        64,
    )
    for wide in (64, 128, 256, 512):
        layers += [Residual(narrow, wide, 1 if wide == narrow else 2), Residual(wide, wide, 1)]
        narrow = wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1))


def logreg(shape, num_layers, num_hiddens):
    return mlp(int(np.prod(shape)), [num_hiddens] * num_layers, 1)


NETS = {
    "vae": {"dense": dense_vae, "conv": conv_vae},
    "disc": {"logreg": logreg, "conv": conv_disc, "resnet": resnet18},
}


def build(name, part):
    experiment = EXPERIMENTS[name]
    if part not in experiment:
        return None
    arguments = dict(experiment[part])
    return NETS[part][arguments.pop("kind")](experiment["shape"], **arguments)


def steps(name, images, batch_size, compiled, channels_last):
    """Yields after every training step."""
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    vae, disc = (
        net.to(memory_format=layout) if net else None
        for net in (build(name, "vae"), build(name, "disc"))
    )
    optimizers = [
        torch.optim.Adam(net.parameters(), 1e-3, fused=True) if net else None for net in (vae, disc)
    ]
    weight, pixel_loss = disc_weight(name), EXPERIMENTS[name].get("pixel_loss", "bce")

    def objective(images):
        x = images.float().div(255).contiguous(memory_format=layout)
        logits, mean, log_var = vae(x)
        x_hat = torch.sigmoid(logits) if disc is not None or pixel_loss == "l2" else None
        pixel = (
            F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            if pixel_loss == "bce"
            else (x_hat - x).square().sum()
        )
        return x, x_hat, pixel + 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum()

    def judgement(x, x_hat):
        if EXPERIMENTS[name]["disc"]["kind"] == "logreg":  # no BatchNorm: one batch
            real, reconstructed = disc(torch.cat([x, x_hat])).chunk(2)
        else:
            real, reconstructed = disc(x), disc(x_hat)
        return F.softplus(-real).sum() + F.softplus(reconstructed).sum()

    def adversarial(x_hat):
        return weight * F.softplus(-disc(x_hat)).sum()

    if compiled:
        objective, judgement, adversarial = map(torch.compile, (objective, judgement, adversarial))

    def update(optimizer, loss):
        (loss / batch_size).backward()
        optimizer.step()
        optimizer.zero_grad()

    for epoch in itertools.count():
        order = np.random.default_rng(epoch).permutation(len(images))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            x, x_hat, loss = objective(torch.from_numpy(images[order[start : start + batch_size]]))
            if disc is not None:
                disc.requires_grad_(True)
                update(optimizers[1], judgement(x, x_hat.detach()))
                disc.requires_grad_(False)
                loss = loss + adversarial(x_hat)
            update(optimizers[0], loss)
            yield
