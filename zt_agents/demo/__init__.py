"""The demonstration: a helpdesk agent, one poisoned ticket, and what becomes of every call (``zt-agents demo``)."""
