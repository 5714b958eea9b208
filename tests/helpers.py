"""Calls with a plain dict of parameters, which tests change one by one."""

import d2lvae
from d2lvae import runs
from d2lvae.storage import records


def config_of(parameters):
    return d2lvae.Config.from_dict(parameters)


def fit(vae, images, parameters, discriminator=None):
    return runs.fit(vae, images, config_of(parameters), discriminator)


def settings_of(vae, images, parameters, discriminator=None):
    return records.settings_of(vae, images, config_of(parameters), discriminator)


def run_folder(vae, images, parameters, discriminator=None):
    return runs.run_folder(vae, images, config_of(parameters), discriminator)
