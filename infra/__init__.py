"""Where the platform runs: the release of its code, and its two places."""
