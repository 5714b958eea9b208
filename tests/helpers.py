"""Calls with a plain dict of parameters, which tests change one by one; notebooks to be run."""

import pathlib

import d2lvae
import nbformat
from d2lvae import runs
from d2lvae.storage import records

# What a program that a page's cell starts finds in its environment.
IN_JUPYTER = {"JPY_SESSION_NAME": "notebooks/some.ipynb", "VSCODE_PID": "1"}


def config_of(parameters):
    return d2lvae.Config.from_dict(parameters)


def fit(vae, images, parameters, discriminator=None):
    return runs.fit(vae, images, config_of(parameters), discriminator)


def settings_of(vae, images, parameters, discriminator=None):
    return records.settings_of(vae, images, config_of(parameters), discriminator)


def run_folder(vae, images, parameters, discriminator=None):
    return runs.run_folder(vae, images, config_of(parameters), discriminator)


def to_the_training(stem):
    """A notebook of the project without the cells behind its training."""
    path = pathlib.Path(__file__).resolve().parent.parent / "notebooks" / f"{stem}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if "d2lvae.fit(" in cell.source)
    notebook.cells = notebook.cells[: last + 1]
    return notebook
