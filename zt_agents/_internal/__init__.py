"""Private to the package: no name in here is part of the public contract."""
