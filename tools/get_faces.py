#!/usr/bin/env python3
"""Fetch one of the two public sets of anime faces from Kaggle and link it as data/anime.

    .venv/bin/pip install --constraint constraints.txt 'kagglehub==0.2.9'
    .venv/bin/python tools/get_faces.py [soumikrakshit/anime-faces | splcher/animefacedataset]

The first, the default, is the set of the original project: 21,551 faces of 64 x 64.  The second has
63,632 of many sizes.  kagglehub keeps the files in its own cache and may ask for a Kaggle account;
see its documentation.
"""

import sys

from d2lvae.sources import image_folder
from d2lvae.storage import paths

SETS = ("soumikrakshit/anime-faces", "splcher/animefacedataset")


def main(name=SETS[0]):
    if name not in SETS:
        sys.exit(f"expected {' or '.join(SETS)}; found {name}")
    target = paths.data_root() / "anime"
    if target.exists() or target.is_symlink():
        sys.exit(f"{target} is there already: move it away first")
    try:
        import kagglehub
    except ImportError:
        sys.exit(
            "kagglehub is not installed. Install it:\n"
            "    .venv/bin/pip install --constraint constraints.txt 'kagglehub==0.2.9'"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(kagglehub.dataset_download(name))
    files, unreadable = image_folder.find_images(target)
    paths.say(f"{target}: {len(files):,} images")


if __name__ == "__main__":
    main(*sys.argv[1:2])
