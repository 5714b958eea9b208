"""``python -m d2lvae.distributed``: the launcher."""

import sys

from .launcher import main

sys.exit(main())
