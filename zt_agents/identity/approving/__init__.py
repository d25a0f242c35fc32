"""Approvers: who they are, what they sign, and what else they show."""
