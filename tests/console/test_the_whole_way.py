"""The demonstration in one process, the console in another, a person with a passkey in a browser."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_console_in_a_browser import CHROMIUM, sync_api

from zt_agents.identity import ApproverKey

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on the path, nor at ZT_AGENTS_CHROMIUM")
COMMAND = (sys.executable, "-c", "from zt_agents.cli import main; main()")


@pytest.fixture
def started() -> Iterator[Any]:
    """Start commands; end those that still run."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_password_reset_waits_is_approved_with_a_passkey_and_the_agent_goes_on(tmp_path: Path, started: Any) -> None:
    folder, port = tmp_path / "demo", free_port()
    store, signing, dana = (folder / name for name in ("zt-agents-approvals.db", "signing.pem", "dana.approver"))
    demo = started("demo", "--inbox", "--dir", folder)
    while not dana.exists():
        assert demo.poll() is None
        time.sleep(0.02)
    origin, key = f"http://localhost:{port}", ("--signing-key", signing, "--trust-domain", "acme.example")
    console = started("console", "--store", store, *key, "--port", str(port), "--log", folder / "audit.db")
    assert origin in console.stdout.readline()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(15_000)
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
        options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        page.goto(f"{origin}/login#{ApproverKey.from_file(dana).login(origin, now=time.time())}")
        page.wait_for_url(f"{origin}/")
        page.goto(f"{origin}/account")
        page.locator("#add-passkey").click()
        page.get_by_text("Passkey, added").wait_for()
        for tool in ("reset_password", "send_mail"):
            page.goto(f"{origin}/")
            page.locator("a.request", has_text=tool).click()
            page.wait_for_url(f"{origin}/requests/*")
            page.wait_for_load_state()
            page.keyboard.press("a")
            page.get_by_text("Your passkey signs the answer.").wait_for()
            page.keyboard.press("Enter")
            page.locator(".end.approved").wait_for()
        browser.close()
    told, _ = demo.communicate(timeout=30)
    assert demo.returncode == 0, told
    log = subprocess.run([*COMMAND, "audit", "show", "--log", folder / "audit.db"], capture_output=True, text=True)
    assert log.stdout.count("passkey") == 2, log.stdout
