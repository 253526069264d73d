"""File descriptors that this process may have."""

from __future__ import annotations

import resource


def raise_limit(most: int) -> int:
    """Raise the soft limit as far as the hard one and ``most`` allow; returns the new limit.

    libzmq aborts the process when it has no descriptor for an application that connects.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
