"""Where things are kept. Each module implements a protocol that the package using it owns."""
