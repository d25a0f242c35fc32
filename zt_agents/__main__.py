"""``python -m zt_agents``: the ``zt-agents`` command of this very interpreter."""

from zt_agents.cli import main

if __name__ == "__main__":
    main()
