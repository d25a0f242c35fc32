"""Credentials of one call, and how the systems behind tools check them."""
