"""Line drawings on a 20 x 20 grid, drawn with the colour of the text around them."""

from __future__ import annotations

_LINE = 'fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"'


def _line(*paths: str) -> str:
    return f"<g {_LINE}>" + "".join(f'<path d="{path}"/>' for path in paths) + "</g>"


# The first six are states. Each has a silhouette of its own, so that a state never hangs on colour alone.
ICONS = {
    "good": '<circle cx="10" cy="10" r="8" fill="currentColor"/><path d="M6.2 10.3l2.6 2.6 5-5.4" fill="none" '
    'stroke="var(--gs-surface)" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/>',
    "note": _line("M10 2.5a7.5 7.5 0 1 1 0 15a7.5 7.5 0 0 1 0-15z", "M10 9v4.5", "M10 6.2v.1"),
    "attention": '<path d="M10 2.2l8.3 14.8H1.7z" fill="currentColor" stroke="currentColor" stroke-width="1.4" '
    'stroke-linejoin="round"/><path d="M10 7.4v4.4M10 14.3v.1" stroke="var(--gs-surface)" stroke-width="1.9" '
    'stroke-linecap="round"/>',
    "bad": '<path d="M6.4 2h7.2L18 6.4v7.2L13.6 18H6.4L2 13.6V6.4z" fill="currentColor"/><path d="M7.2 7.2l5.6 5.6'
    'M12.8 7.2l-5.6 5.6" stroke="var(--gs-surface)" stroke-width="1.9" stroke-linecap="round"/>',
    "running": '<circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" '
    'stroke-opacity=".28" stroke-width="2.6"/>'
    '<path class="gs-turn" d="M10 3a7 7 0 0 1 7 7" fill="none" stroke="currentColor" stroke-width="2.6" '
    'stroke-linecap="round"/>',
    "waiting": '<circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" stroke-width="1.7" '
    'stroke-dasharray="2.6 2.6"/>',
    "doctor": _line("M3 10.5h3l2-5 3.4 9 2.1-6 1.1 2H17"),
    "model": _line("M10 2.6l6.6 3.7v7.4L10 17.4l-6.6-3.7V6.3z", "M3.6 6.4L10 10l6.4-3.6", "M10 10v7.2"),
    "finetune": _line("M3 15.5c3.5 0 3-9 6.2-9s2.2 5.5 4.4 5.5c1.4 0 2-1.6 3.4-1.6", "M3 3v14h14"),
    "chat": _line(
        "M3 5.5A2 2 0 0 1 5 3.5h10a2 2 0 0 1 2 2V12a2 2 0 0 1-2 2H9.2L5.4 17v-3H5a2 2 0 0 1-2-2z", "M7 8h6", "M7 10.7h4"
    ),
    "terminal": _line("M2.8 4h14.4v12H2.8z", "M6 8l2.4 2L6 12", "M10.4 12.4h3.4"),
    "chip": _line("M6 6h8v8H6z", "M8 2.8V6M12 2.8V6M8 14v3.2M12 14v3.2M2.8 8H6M2.8 12H6M14 8h3.2M14 12h3.2"),
    "folder": _line("M2.6 5.2h5l1.8 2h8v8.4H2.6z"),
    "file": _line("M5 2.8h6.4L15 6.4v10.8H5z", "M11.2 2.8v3.8H15"),
    "tool": _line("M12.4 3.2a4 4 0 0 0-4.6 5.5l-5 5a1.7 1.7 0 0 0 2.4 2.4l5-5a4 4 0 0 0 5.5-4.6L13.2 9 11 6.8z"),
    "pin": _line("M7 2.8h6l-1 5 2.6 3H5.4l2.6-3z", "M10 10.8v6.4"),
    "sun": _line(
        "M10 6.6a3.4 3.4 0 1 1 0 6.8a3.4 3.4 0 0 1 0-6.8z",
        "M10 2v1.6M10 16.4V18M2 10h1.6M16.4 10H18",
        "M4.3 4.3l1.2 1.2M14.5 14.5l1.2 1.2M15.7 4.3l-1.2 1.2M5.5 14.5l-1.2 1.2",
    ),
    "moon": _line("M16.6 12A7 7 0 0 1 8 3.4a7 7 0 1 0 8.6 8.6z"),
    "disk": _line(
        "M3 6.2C3 4.7 6.1 3.5 10 3.5s7 1.2 7 2.7-3.1 2.7-7 2.7-7-1.2-7-2.7z",
        "M3 6.2v7.6c0 1.5 3.1 2.7 7 2.7s7-1.2 7-2.7V6.2",
        "M3 10c0 1.5 3.1 2.7 7 2.7s7-1.2 7-2.7",
    ),
}

# The mark of the studio: a loss that falls and comes to rest.
LOGO = (
    '<svg class="gs-logo" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">'
    '<rect width="32" height="32" rx="9" '
    'fill="var(--gs-accent)"/><path d="M6 10c5 0 5 11 10 11s4-6 10-6" fill="none" stroke="var(--gs-on-accent)" '
    'stroke-width="2.6" stroke-linecap="round"/><circle cx="26" cy="15" r="2.6" fill="var(--gs-on-accent)"/></svg>'
)
