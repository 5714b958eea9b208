"""Several workers that train one net together, around MXNet's parameter server."""
