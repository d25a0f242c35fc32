"""Who runs this process."""

from __future__ import annotations

import getpass
import os
import sys


def login() -> str:
    """Return the name of the user this process runs as; the environment has no say in it where that can be helped."""
    if sys.platform == "win32":
        return getpass.getuser()
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user that has no name
        return str(os.getuid())
