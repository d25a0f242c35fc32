"""How often somebody may try: a bucket of tries each, which fills again with time.

Memory is bounded. Who was not heard of for longest is forgotten first, and by then their bucket is mostly full again.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict

from zt_agents._internal.clock import Clock


class Rates:
    """Counts tries by key. Safe to share between threads."""

    def __init__(self, *, burst: int, period: float, clock: Clock, most: int = 10_000) -> None:
        """Allow *burst* tries at once, and as many again in each *period* seconds; know *most* keys."""
        self._burst = float(burst)
        self._pace = burst / period
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is left, and as of when, by key."""
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Take one try of *key*. Returns 0, or the seconds to wait for one."""
        with self._lock:
            now = self._clock()
            left, then = self._buckets.pop(key, (self._burst, now))
            left = min(self._burst, left + max(0.0, now - then) * self._pace)
            allowed = left >= 1
            self._buckets[key] = (left - 1 if allowed else left, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
            return 0.0 if allowed else (1 - left) / self._pace


def network(address: str) -> str:
    """Return the part of a client's *address* that it cannot choose freely: of IPv6, the first 64 bits."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if ip.version == 4:
        return str(ip)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ipaddress.ip_network((ip, 64), strict=False))
