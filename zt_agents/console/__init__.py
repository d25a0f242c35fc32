"""The web inbox of approvals: what waits for a human, shown so that they can decide, and their answer.

Its pages are rendered here; the browser gets a style sheet, htmx and two small scripts, all from here. FastAPI, Jinja2
and uvicorn come with the extra ``console`` and are loaded by ``zt-agents console`` alone.
"""
