"""``python -m d2lvae.distributed``: the launcher."""

from .launcher import main

raise SystemExit(main())
