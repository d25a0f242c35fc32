"""Keys, the rings in which they follow each other, and one way to sign and to verify what they sign."""
