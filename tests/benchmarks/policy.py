"""Cost of a decision and of loading, by number of rules: ``python -m tests.benchmarks policy``.

Every pair of an agent and a tool has one rule with a condition of its own, so that only the number of rules
differs. Decisions are measured twice: on the ten pairs of one agent, as a session asks about them, and on
another pair each time, so that nothing about a pair is left in the processor's caches (the worst case, and
a measure of the machine's memory as much as of the engine). Policies of all sizes take turns within each
round: a machine that slows down for a while slows all of them down. Loading is measured in a process of its
own, because memory is.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.tables import Table
from zt_agents.decisions import ToolCall
from zt_agents.identity.principals import User
from zt_agents.policy import Policy, parse_policy

SIZES = {10: (1, 10), 1_000: (20, 50), 10_000: (100, 100), 100_000: (100, 1_000)}
"""Number of rules: how many agents by how many tools."""
ROUNDS = 60
CALLS = 500
PARAMETERS = {
    "type": "object",
    "properties": {"amount": {"type": "integer"}, "to": {"type": "string"}},
    "required": ["amount", "to"],
}


def policy_text(agents: int, tools: int, *, conditions: bool = True) -> str:
    lines = ["version: 1", "trust_domain: acme.example", "environment: production", "agents:"]
    for agent in range(agents):
        lines += [
            f"  agent-{agent}:",
            f"    id: spiffe://acme.example/agent/{agent}",
            '    version: "1"',
            "    owner: dana@acme.example",
            "    purpose: To be measured",
        ]
    lines += ["tools:"]
    for tool in range(tools):
        lines += [f"  tool-{tool}:", "    tier: low", "    effects: [read]"]
    lines += ["rules:"]
    for agent in range(agents):
        for tool in range(tools):
            number = agent * tools + tool
            lines += [
                f"  - id: rule-{number}",
                f"    agents: [agent-{agent}]",
                f"    tools: [tool-{tool}]",
                "    outcome: allow",
            ]
            if conditions:
                lines += [f"    when: args.amount <= {number + 1000} && user.id != 'user-{number}'"]
    return "\n".join(lines) + "\n"


def load(agents: int, tools: int, *, conditions: bool = True) -> Policy:
    text = policy_text(agents, tools, conditions=conditions)
    parameters = {f"tool-{tool}": PARAMETERS for tool in range(tools)}
    return parse_policy(text, name="benchmark.yaml", parameters=parameters)


def calls(policy: Policy, start: int, *, scattered: bool) -> list[ToolCall]:
    agents, tools = list(policy.agents.values()), list(policy.tools.values())
    user = User("alice")
    step = 7919  # a prime: neighbours in time are no neighbours in memory
    pairs = [
        divmod((start + number) * step % (len(agents) * len(tools)), len(tools))
        if scattered
        else (0, number % 10)
        for number in range(CALLS)
    ]
    return [
        ToolCall(
            tool=tools[tool].name,
            spec=tools[tool],
            arguments={"amount": 5, "to": "DE02"},
            agent=agents[agent],
            user=user,
        )
        for agent, tool in pairs
    ]


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure; *folder* is not used."""
    sizes = list(SIZES)[: 3 if quick else 4]
    return [
        loading(sizes[2:]),
        *(decisions(sizes, 6 if quick else ROUNDS, conditions=each) for each in (False, True)),
    ]


def decisions(sizes: Sequence[int], rounds: int, *, conditions: bool) -> Table:
    policies = {rules: load(*SIZES[rules], conditions=conditions) for rules in sizes}
    what = "one condition" if conditions else "no condition"
    table = Table(
        f"A decision, {what} per rule", ("rules", "pairs asked about", "p50 us", f"x {min(sizes)} rules")
    )
    for scattered in (False, True):
        seconds: dict[int, list[float]] = {rules: [] for rules in sizes}
        for round_ in range(rounds):
            for rules, policy in policies.items():
                asked = calls(policy, round_ * CALLS, scattered=scattered)
                decide = policy.engine.decide
                started = time.perf_counter()
                for call in asked:
                    decide(call)
                seconds[rules].append((time.perf_counter() - started) / CALLS)
        pairs = "another each time" if scattered else "those of one agent"
        smallest = statistics.median(seconds[min(sizes)])
        for rules in sizes:
            median = statistics.median(seconds[rules])
            table.add(f"{rules:,}", pairs, median * 1e6, median / smallest)
    return table


def loading(sizes: Sequence[int]) -> Table:
    columns = ("rules", "MB of YAML", "seconds", "MB kept", "MB at peak", "bytes kept per rule")
    table = Table("Loading, one condition per rule (each different)", columns)
    for rules in sizes:
        command = [sys.executable, "-m", "tests.benchmarks.policy", str(rules)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        kept = found["kept"]
        table.add(
            f"{rules:,}",
            found["megabytes_of_text"],
            found["seconds"],
            kept,
            found["peak"],
            kept * 2**20 / rules,
        )
    return table


def load_once(rules: int) -> None:
    """Print what loading costs; memory is counted over what the process had before."""
    agents, tools = SIZES[rules]
    text = policy_text(agents, tools)
    parameters = {f"tool-{tool}": PARAMETERS for tool in range(tools)}
    load(*SIZES[10])
    before = _resident()
    started = time.perf_counter()
    policy = parse_policy(text, name="benchmark.yaml", parameters=parameters)
    seconds = time.perf_counter() - started
    kept = _resident() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    assert len(policy.engine.rules) == rules
    print(
        json.dumps({"seconds": seconds, "kept": kept, "peak": peak, "megabytes_of_text": len(text) / 2**20})
    )


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    load_once(int(sys.argv[1]))
