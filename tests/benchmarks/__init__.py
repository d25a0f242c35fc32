"""Benchmarks: run ``python -m tests.benchmarks``. No test among them: a timed test is a coin thrown.

Ratios are what counts. Each is taken within one process, from calls that take turns, so that whatever else the machine
does falls on both sides alike.
"""
