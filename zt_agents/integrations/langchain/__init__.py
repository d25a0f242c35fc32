"""LangChain: seal tools in place, add a callback to an executor, or add a middleware to an agent.

``middleware`` needs the extra ``zt-agents[langchain]`` and is imported on its own.
"""

from zt_agents.integrations.langchain.callback import ZeroTrustCallback
from zt_agents.integrations.langchain.injection import injected

__all__ = ["ZeroTrustCallback", "injected"]
