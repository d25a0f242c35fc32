"""Certificates of agents, and where they come from."""
