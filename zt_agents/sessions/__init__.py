"""One verified agent on one task for one user: how a session is opened, handed on, and ended."""
