"""The console shows a request whole, and none of the tokens that its call has, nor those of whoever looks at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.tools import tool
from reception import Reception
from world import World

from zt_agents import AccessDeniedError
from zt_agents.approvals import Answer, ApprovalRequest

MakeWorld = Callable[..., World]


class _Asked:
    """A channel that puts each question where the console finds it."""

    def __init__(self, reception: Reception) -> None:
        self.reception, self.asked = reception, list[ApprovalRequest]()

    def ask(self, request: ApprovalRequest) -> Answer | None:
        self.asked.append(request)
        self.reception.clock.now = request.call.time
        self.reception.store.put(request)
        return None

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        return self.ask(request)


async def test_no_page_shows_a_token(reception: Reception, make_world: MakeWorld) -> None:
    @tool
    def approve(note: str) -> str:
        """Do something grave."""
        return "done"

    channel = _Asked(reception)
    world = make_world(approve, tier="high", channel=channel)
    secrets: list[str] = []
    with world.session(intent="something grave") as session:
        secrets.append(session.token)
        config: Any = {"configurable": {"zt_session": session}}
        with pytest.raises(AccessDeniedError):
            approve.invoke({"note": "canary-4711"}, config)
    (asked,) = channel.asked
    key = reception.approver("dana@acme.example")
    shown = {}
    async with reception.browser() as browser:
        token = key.login(browser.origin, now=reception.clock())
        secrets.append(token)
        assert (await browser.post("/login", token=token)).is_success
        secrets.append(browser.number)
        one = f"/requests/{asked.id}"
        for path in ("/", "/?show=all", "/list?show=all", one, f"{one}/standing", f"{one}/arguments", "/account"):
            answer = await browser.get(path)
            assert answer.status_code == 200, path
            shown[path] = answer.text + repr(dict(answer.headers))
    assert "canary-4711" in shown[one]
    assert "canary-4711" in shown[f"{one}/arguments"]
    for path, text in shown.items():
        for secret in secrets:
            parts = secret.split(".")[1:] or [secret]
            assert all(part not in text for part in parts if part), path
        assert "Hidden(" not in text, path
