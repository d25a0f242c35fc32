"""The issuer over HTTP: its keys for whoever verifies tokens, and tokens for agents that hand a task on.

It is served by ``zt-agents issuer serve`` (extra ``issuer``), beside the folder of keys that the guards sign with.
"""
