"""The timeline as one page: a picture with a lane for each session, and the same calls as a table.

Rules:

1. Every text from the log was chosen by a stranger: it goes through :func:`_safe` and nowhere but into text or a quoted
   attribute.
2. The page loads and runs nothing: no script, no address but places on the page itself, and a policy that says so.
3. Nothing is said by colour alone, and all of it can be reached with the keyboard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from zt_agents._internal.display import visible
from zt_agents.audit.calls import Call, CallState, text
from zt_agents.cli.timeline import LOOKS, Story, data, duration, took, who, why

_LANE, _TOP, _LEFT, _RIGHT = 46, 34, 24, 170
"""Pixels: height of a lane, and the margins of the picture."""
_STEP, _FURTHER, _FURTHEST = 20.0, 9.0, 150.0
_TICK_LETTER = 7.0
_LONGEST = 300
"""Characters of a text that are shown; the log has all of it."""

_SHAPES = {
    CallState.ALLOWED: '<circle r="6"/>',
    CallState.APPROVED: '<path d="M0-8L8 0L0 8L-8 0Z"/>',
    CallState.FAILED: '<path d="M-6-6H6V6H-6Z"/>',
    CallState.STOPPED: '<path d="M-8-3.5H8V3.5H-8Z"/>',
    CallState.OPEN: '<circle class="hollow" r="5.5"/>',
    CallState.WAITING: '<path class="hollow" d="M0-8L8 0L0 8L-8 0Z"/>',
    CallState.REFUSED: '<path d="M-8-6H8L0 8Z"/>',
    CallState.DENIED: '<path class="stroke" d="M-6-6L6 6M6-6L-6 6"/>',
    CallState.UNCLEAR: '<path class="hollow" d="M-6-6H6V6H-6Z"/>',
}
_MEANINGS = {
    CallState.ALLOWED: "allowed, and it ran",
    CallState.APPROVED: "approved by a human, and it ran",
    CallState.FAILED: "it ran and failed",
    CallState.STOPPED: "it began and did not finish",
    CallState.OPEN: "allowed; how it ended is not on record",
    CallState.WAITING: "a human was asked; no answer is on record",
    CallState.REFUSED: "a human was asked, and it was denied",
    CallState.DENIED: "denied; it did not run",
    CallState.UNCLEAR: "no readable decision is on record",
}

_STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1b1f24;--faint:#59636e;--line:#d1d9e0;--band:#f6f8fa;
--allowed:#1a7f37;--approved:#0969da;--failed:#bc4c00;--stopped:#bc4c00;--open:#1b7c83;--waiting:#9a6700;
--refused:#a0319c;--denied:#cf222e;--unclear:#cf222e}
@media (prefers-color-scheme:dark){:root{--page:#0d1117;--ink:#e6edf3;--faint:#9198a1;--line:#3d444d;--band:#151b23;
--allowed:#3fb950;--approved:#58a6ff;--failed:#f0883e;--stopped:#f0883e;--open:#39c5cf;--waiting:#d29922;
--refused:#d67ad2;--denied:#ff7b72;--unclear:#ff7b72}}
body{background:var(--page);color:var(--ink);font:15px/1.45 system-ui,sans-serif;margin:2rem auto;padding:0 1.5rem;
max-width:1500px}
h1{font-size:1.5rem;margin:0 0 .3rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.2rem 0}
.faint,caption{color:var(--faint)}.picture{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}svg .faint{fill:var(--faint)}
.band{fill:var(--band)}.tick{stroke:var(--line)}.mark{fill:currentColor;stroke:currentColor;outline:none}
.hollow{fill:var(--page);stroke-width:2}.stroke{stroke-width:3.5;stroke-linecap:round}
a.mark:hover path,a.mark:focus path,a.mark:hover circle,a.mark:focus circle{stroke:var(--ink);stroke-width:3}
a.mark text{visibility:hidden;stroke:var(--page);stroke-width:4px;paint-order:stroke}
a.mark:hover text,a.mark:focus text{visibility:visible}
ul.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;list-style:none;padding:0;margin:.8rem 0}
.legend svg,td svg{width:18px;height:18px;vertical-align:-4px}
table{border-collapse:collapse;width:100%}caption{text-align:left;padding:.3rem 0}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
td.tool{min-width:9rem}
td.word{white-space:nowrap}tr:target{background:var(--band);outline:2px solid var(--ink)}
tr:focus-visible,a:focus-visible,.picture:focus-visible{outline:2px solid var(--approved)}
@media (max-width:50rem){body{margin:1rem auto;padding:0 .8rem}thead{position:absolute;clip-path:inset(50%)}
table,caption,tbody,tr,td{display:block}tr{border-bottom:1px solid var(--line);padding:.4rem 0}
td{border:0;padding:.1rem 0}td.word,td.tool{display:inline-block;min-width:0;margin-right:.8rem}}
""" + "".join(f".{state}{{color:var(--{state})}}" for state in CallState)

_COLUMNS = ("time", "what came of it", "tool", "on which data", "took", "decided how, approved by whom", "trace")


def page(story: Story) -> str:
    """Return the whole page."""
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">'
        f"<title>{_safe(story.about)}</title><style>{_STYLE}</style></head>\n<body><main>"
    )
    parts = [head, f"<h1>{_safe(story.about)}</h1>", f"<p>{_safe(story.window)}</p>", f"<p>{_safe(story.count)}</p>"]
    if story.calls:
        parts += [_picture(story), _legend(story), *_tables(story)]
    parts.append(
        f'<p class="faint">From a log whose head is {_safe(story.head)}, unproven: '
        "<code>zt-agents audit verify</code> proves it.</p></main></body></html>\n"
    )
    return "\n".join(parts)


def _safe(value: str) -> str:
    """Return *value* as it may stand in HTML text or in a quoted attribute."""
    return escape(visible(value, limit=_LONGEST), quote=True)


def _picture(story: Story) -> str:
    lanes = {name: row for row, name in enumerate(dict.fromkeys(map(who, story.calls)))}
    places = _places(story)
    width = max(places[-1] + _RIGHT, 900.0)
    height = _TOP + _LANE * len(lanes) + 8
    marks = [
        _mark(story, number, call, x, _TOP + _LANE * lanes[who(call)] + 30, width)
        for number, (call, x) in enumerate(zip(story.calls, places, strict=True), 1)
    ]
    bands = [
        f'<rect class="band" x="0" y="{_TOP + _LANE * row}" width="{width:.0f}" height="{_LANE - 4}" rx="4"/>'
        f'<text x="8" y="{_TOP + _LANE * row + 13}">{_safe(name)}</text>'
        for name, row in lanes.items()
    ]
    return (
        f'<div class="picture" tabindex="0" role="group" aria-label="Picture of the calls, a lane for each session">'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}">{"".join(bands)}{"".join(_ticks(story, places, height))}{"".join(marks)}'
        '</svg></div><p class="faint">Calls stand in order; the room between two grows with the logarithm of the time '
        "between them. Each mark leads to its row below.</p>"
    )


def _places(story: Story) -> list[float]:
    """Return where each call stands: bursts stay readable beside nights and weekends."""
    places, x, before = [], float(_LEFT), None
    for call in story.calls:
        if before is not None:
            gap = max(0.0, (call.start or before) - before)
            x += _STEP + min(_FURTHEST, _FURTHER * math.log2(1 + gap))
        before = call.start or before or 0.0
        places.append(x)
    return places


def _ticks(story: Story, places: list[float], height: int) -> Iterator[str]:
    free, today = -math.inf, ""
    for call, x in zip(story.calls, places, strict=True):
        moment = story.when(call.start)
        if moment is None or x < free:
            continue
        day = story.day(call)
        label = f"{moment:%H:%M:%S}" if day == today else f"{moment:%a} {moment.day} {moment:%b %H:%M:%S}"
        free, today = x + _TICK_LETTER * (len(label) + 3), day
        yield (
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{height}"/>'
            f'<text class="faint" x="{x:.1f}" y="{_TOP - 14}">{label}</text>'
        )


def _mark(story: Story, number: int, call: Call, x: float, y: float, width: float) -> str:
    said = call.said
    shown = " ".join(filter(None, (text(said, "tool"), text(said, "resource"))))
    title = f"{story.moment(call.start)}: {shown} was {call.state}. {why(call)} {took(call)}"
    brief = visible(f"{shown}: {call.state}", limit=60)
    anchor, offset = ("end", -12) if x > width / 2 else ("start", 12)
    return (
        f'<a class="mark {call.state}" href="#call-{number}" aria-label="{_safe(title)}" '
        f'transform="translate({x:.1f} {y})"><title>{_safe(title)}</title>{_SHAPES[call.state]}'
        f'<text x="{offset}" y="4" text-anchor="{anchor}">{_safe(brief)}</text></a>'
    )


def _symbol(state: CallState) -> str:
    return f'<svg class="mark {state}" viewBox="-9 -9 18 18" aria-hidden="true">{_SHAPES[state]}</svg>'


def _legend(story: Story) -> str:
    present = {call.state for call in story.calls}
    items = [
        f"<li>{_symbol(state)} <strong>{state}</strong>: {_MEANINGS[state]}</li>" for state in LOOKS if state in present
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _tables(story: Story) -> Iterator[str]:
    numbers = {id(call): number for number, call in enumerate(story.calls, 1)}
    today = ""
    heading = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    for day, name, calls in story.chapters():
        if day != today:
            today = day
            yield f"<h2>{_safe(day)}</h2>"
        rows = "".join(_row(story, numbers[id(call)], call) for call in calls)
        yield f"<table><caption>{_safe(name)}</caption><thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table>"


def _row(story: Story, number: int, call: Call) -> str:
    said = call.said
    moment = story.when(call.start)
    waited = f", waited {duration(call.waited)}" if call.waited is not None else ""
    cells = [
        f'<td class="word">{f"{moment:%H:%M:%S}" if moment else "unknown"}</td>',
        f'<td class="word">{_symbol(call.state)} {call.state}</td>',
        f"<td class=\"tool\"><strong>{_safe(text(said, 'tool'))}</strong> {_safe(text(said, 'tier'))}</td>",
        f"<td>{_safe(data(call))}</td>",
        f"<td>{_safe(took(call) + waited)}</td>",
        f"<td>{_safe(why(call))}</td>",
        f'<td class="faint">{_safe(text(said, "trace_id"))}</td>',
    ]
    return f'<tr id="call-{number}" tabindex="-1">{"".join(cells)}</tr>'
