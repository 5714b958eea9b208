"""``python -m d2lvae.distributed``: the launcher."""

import sys

from .launcher import main

if __name__ == "__main__":
    sys.exit(main())
