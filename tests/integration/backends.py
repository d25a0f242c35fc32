"""What the tests ask of a server that keeps traces, and the two that can be asked."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

LOOKS_ALIKE = 0.15
"""Seconds between two looks that have to see the same before it counts: spans of one trace may come in two batches."""


@dataclass(frozen=True)
class Span:
    """A span as a server tells it. Lists among its *tags* are lists, numbers are numbers."""

    name: str
    id: str
    parent: str
    trace: str
    tags: dict[str, Any]
    service: str
    """An empty string where the server does not keep it."""
    start: float
    """Seconds since the epoch."""
    end: float
    error: bool
    links: tuple[tuple[str, str], ...] = ()
    """(trace, id) of each span that this one follows without being its child; none where the server keeps none."""


class Backend(Protocol):
    """A real server that takes OTLP and can be asked what it holds."""

    name: str
    keeps_services: bool
    """Whether it tells which service a span came from."""
    keeps_links: bool
    """Whether it tells which other spans a span is linked to."""

    def export_to(self, story: str, *, grpc: bool = False) -> dict[str, str]:
        """Return the ``OTEL_*`` variables with which a program's spans go here, to be found under *story*."""
        ...

    def resource(self, story: str) -> dict[str, str]:
        """Return the attributes of a resource whose spans are found under *story*."""
        ...

    def spans(self, story: str, **tags: str) -> list[Span]:
        """Return, as of now, all spans of those traces of *story* in which one span has all *tags*."""
        ...

    def everything(self) -> str:
        """Return all that is stored, of all stories, as the server's own JSON."""
        ...


def wait_for(backend: Backend, story: str, *, seconds: float = 20, **tags: str) -> list[Span]:
    """Wait until there are such spans and their number has settled; return what there is after *seconds*."""
    end = time.monotonic() + seconds
    before: list[Span] = []
    while True:
        found = backend.spans(story, **tags)
        if (found and len(found) == len(before)) or time.monotonic() > end:
            return found
        before = found
        time.sleep(LOOKS_ALIKE)


class Jaeger:
    """Asks Jaeger's query API."""

    name = "jaeger"
    keeps_services = True
    keeps_links = True

    def __init__(self, *, http: int, grpc: int, query: int) -> None:
        self._http, self._grpc = f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}"
        self._query = f"http://127.0.0.1:{query}/api"

    def export_to(self, story: str, *, grpc: bool = False) -> dict[str, str]:
        return _variables(self._grpc if grpc else self._http, grpc) | {"OTEL_SERVICE_NAME": story}

    def resource(self, story: str) -> dict[str, str]:
        return {"service.name": story}

    def spans(self, story: str, **tags: str) -> list[Span]:
        asked = {"service": story, "limit": "1000", "lookback": "1h"}
        traces = self._get("traces", **asked, **({"tags": json.dumps(tags)} if tags else {}))
        return [_from_jaeger(raw, trace["processes"]) for trace in traces for raw in trace["spans"]]

    def everything(self) -> str:
        services = self._get("services") or []
        return json.dumps([self._get("traces", service=each, limit="1000", lookback="1h") for each in services])

    def ready(self) -> None:
        """Raise :class:`OSError` while it is not."""
        self._get("services")

    def _get(self, path: str, **parameters: str) -> Any:
        return _get(f"{self._query}/{path}?{urllib.parse.urlencode(parameters)}")["data"]


class Phoenix:
    """Asks Arize Phoenix. It files spans by project, keeps no other attribute of a resource and no links, and has
    no search by tags that holds within one trace: the tests filter for themselves."""

    name = "phoenix"
    keeps_services = False
    keeps_links = False

    def __init__(self, *, http: int, grpc: int) -> None:
        self._url, self._grpc = f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}"

    def export_to(self, story: str, *, grpc: bool = False) -> dict[str, str]:
        return _variables(self._grpc if grpc else self._url, grpc) | {
            "OTEL_SERVICE_NAME": story,
            "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={story}",
        }

    def resource(self, story: str) -> dict[str, str]:
        return {"service.name": story, "openinference.project.name": story}

    def spans(self, story: str, **tags: str) -> list[Span]:
        found = [_from_phoenix(raw) for raw in self._raw(story)]
        wanted = {span.trace for span in found if _has(span, tags)}
        return [span for span in found if span.trace in wanted]

    def everything(self) -> str:
        projects = _get(f"{self._url}/v1/projects?limit=100")["data"]
        return json.dumps([list(self._raw(project["name"])) for project in projects])

    def ready(self) -> None:
        """Raise :class:`OSError` while it is not."""
        _get(f"{self._url}/v1/projects?limit=1")

    def _raw(self, story: str) -> Iterable[dict[str, Any]]:
        url = f"{self._url}/v1/projects/{urllib.parse.quote(story, safe='')}/spans"
        cursor = ""
        while True:
            try:
                page = _get(f"{url}?limit=1000&cursor={cursor}" if cursor else f"{url}?limit=1000")
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:  # no span has come yet
                    return
                raise
            yield from page["data"]
            cursor = page["next_cursor"]
            if not cursor:
                return


def _variables(endpoint: str, grpc: bool) -> dict[str, str]:
    protocol = "grpc" if grpc else "http/protobuf"
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.load(reply)


def _has(span: Span, tags: dict[str, str]) -> bool:
    shown = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in span.tags.items()}
    return all(shown.get(name) == value for name, value in tags.items())


def _from_jaeger(raw: dict[str, Any], processes: dict[str, Any]) -> Span:
    parents = [each["spanID"] for each in raw["references"] if each["refType"] == "CHILD_OF"]
    links = [(each["traceID"], each["spanID"]) for each in raw["references"] if each["refType"] == "FOLLOWS_FROM"]
    tags = {each["key"]: _value(each["value"]) for each in raw["tags"]}
    start = raw["startTime"] / 1e6
    return Span(
        name=raw["operationName"],
        id=raw["spanID"],
        parent=parents[0] if parents else "",
        trace=raw["traceID"],
        tags=tags,
        service=processes[raw["processID"]]["serviceName"],
        start=start,
        end=start + raw["duration"] / 1e6,
        error=tags.get("error") is True,
        links=tuple(links),
    )


def _value(told: Any) -> Any:
    """Return a list that Jaeger tells as JSON text as a list."""
    if isinstance(told, str) and told.startswith("[") and told.endswith("]"):
        return json.loads(told)
    return told


def _from_phoenix(raw: dict[str, Any]) -> Span:
    return Span(
        name=raw["name"],
        id=raw["context"]["span_id"],
        parent=raw["parent_id"] or "",
        trace=raw["context"]["trace_id"],
        tags=raw["attributes"],
        service="",
        start=datetime.fromisoformat(raw["start_time"]).timestamp(),
        end=datetime.fromisoformat(raw["end_time"]).timestamp(),
        error=raw["status_code"] == "ERROR",
    )
