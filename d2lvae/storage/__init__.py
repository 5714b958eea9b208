"""Files and folders: written whole or not at all, and found wherever a notebook starts."""
