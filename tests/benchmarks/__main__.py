"""All benchmarks: ``python -m tests.benchmarks [SUBJECT ...] [--quick] [--json] [--records N] [--folder FOLDER]``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks import (
    approvals,
    audit,
    calls,
    exporters,
    machine,
    memory,
    pauses,
    peers,
    policy,
    query,
    revocations,
    tokens,
)

SUBJECTS = {
    "calls": calls.tables,
    "exporters": exporters.tables,
    "peers": peers.tables,
    "policy": policy.tables,
    "approvals": approvals.tables,
    "audit": audit.tables,
    "memory": memory.tables,
    "pauses": pauses.tables,
    "query": query.tables,
    "revocations": revocations.tables,
    "tokens": tokens.tables,
}


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"any of: {', '.join(SUBJECTS)}")
    parser.add_argument(
        "--quick", action="store_true", help="few calls: to see that everything runs, not to quote"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="which disk; a RAM disk has no figures worth quoting"
    )
    parser.add_argument("--records", type=int, help="for query: how long the log is, such as 1000000")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.subjects) - SUBJECTS.keys())
    if unknown:
        parser.error(f"unknown subject {unknown[0]!r}")
    subjects: dict[str, Any] = {**SUBJECTS, "query": partial(query.tables, records=arguments.records)}
    console = Console(width=max(Console().width, 120))
    found = []
    if not arguments.json:
        console.print(machine.describe(), highlight=False)
        console.print()
    for name, measure in subjects.items():
        if arguments.subjects and name not in arguments.subjects:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            for table in measure(Path(folder), quick=arguments.quick):
                found.append(table.as_json())
                if not arguments.json:
                    table.show(console)
    if arguments.json:
        json.dump({"machine": machine.describe().splitlines(), "tables": found}, sys.stdout, indent=2)
    else:
        console.print(f"load average at the end: {machine.load()}")


if __name__ == "__main__":
    main()
