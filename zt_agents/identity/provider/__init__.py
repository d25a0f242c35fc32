"""The identity provider: who it says that people are, and what agents are to it."""
