"""What is allowed: the policy file, its conditions, and the decision."""

from __future__ import annotations

from zt_agents.policy.engine import PolicyEngine, Rule
from zt_agents.policy.explain import Explanation, explain
from zt_agents.policy.loader import Policy, load_policy, parse_policy

__all__ = ["Explanation", "Policy", "PolicyEngine", "Rule", "explain", "load_policy", "parse_policy"]
