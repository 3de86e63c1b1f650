"""How a page looks, by day, at night, on a phone and on paper."""

from __future__ import annotations

import re
from html import escape

from snnx.analysis.style import DARK

HALF = 400.0  # points: a picture narrower than this is one of half the width

_CSS = """
:root { color-scheme: light dark; --ink: #1c2430; --muted: #5c6776; --line: #dfe4ea;
  --paper: #fefefe; --panel: #f5f7f9; --accent: #0a6cad; --warn: #c4500b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --muted: #a3aebc;
  --line: #313b48; --paper: #171d25; --panel: #1f2731; --accent: #62b4f2; --warn: #ff9d61;
  FIGURES } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.75rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
p { margin: .4rem 0; } .muted { color: var(--muted); } .warn { color: var(--warn); }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr));
  gap: 1px; margin: 1.5rem 0 0; }
.numbers div { padding: .7rem .85rem; box-shadow: 0 0 0 1px var(--line); }
.numbers dt { color: var(--muted); font-size: .8rem; }
.numbers dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.numbers div:first-child dd { color: var(--accent); font-weight: 650; }
figure { margin: 1.75rem 0 2.25rem; } figure svg { width: 100%; height: auto; display: block; }
figure svg text { font-family: inherit !important; }
figure.half { max-width: 27rem; }
figcaption { font-size: .92rem; color: var(--muted); margin-top: .5rem; max-width: 44rem; }
figcaption b { color: var(--ink); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; } th { color: var(--muted); font-weight: 500; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody th { width: 9rem; }
tfoot td { font-weight: 600; border-bottom: 0; } td { overflow-wrap: anywhere; }
td.w { white-space: nowrap; } .key { vertical-align: middle; }
pre { background: var(--panel); padding: .8rem 1rem; overflow-x: auto; font-size: .85rem;
  line-height: 1.45; border-radius: 4px; } code { font-family: ui-monospace, monospace; }
summary { cursor: pointer; color: var(--accent); margin-top: .5rem; }
@media (max-width: 34rem) { main { padding: 1.25rem .9rem 3rem; } h1 { font-size: 1.4rem; }
  .numbers { grid-template-columns: repeat(2, 1fr); }
  figure:not(.half) .scroll { overflow-x: auto; } figure:not(.half) svg { min-width: 34rem; } }
@media print { :root { --ink: #000; --muted: #444; --line: #bbb; --paper: #fff; --panel: #fff;
  --accent: #000; --warn: #000; PRINTED }
  main { max-width: none; padding: 0; } h2 { break-after: avoid; }
  figure, tr, .numbers { break-inside: avoid; } pre { white-space: pre-wrap; }
  figure:not(.half) svg { min-width: 0; } }
"""


def style_sheet() -> str:
    """Return the CSS of the page, with the pictures' colours as variables."""
    night = " ".join(f"--c{colour[1:]}: {dark};" for colour, dark in DARK.items())
    day = " ".join(f"--c{colour[1:]}: {colour};" for colour in DARK)
    return _CSS.replace("FIGURES", night).replace("PRINTED", day)


def document(title: str, body: str) -> str:
    """Return a whole page of that title; `body` is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - snnx</title>\n<style>{style_sheet()}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def figure(name: str, svg: str, title: str, caption: str) -> str:
    """Return a picture with its caption, which is HTML, below it."""
    width = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    kind = ' class="half"' if width and float(width[1]) < HALF else ""
    return (
        f'<figure{kind}><div class="scroll">{inline_svg(svg, name, title)}</div>'
        f"<figcaption><b>{title}.</b> {caption}</figcaption></figure>"
    )


def inline_svg(text: str, name: str, title: str) -> str:
    """Return an SVG that matplotlib wrote as an element of a page.

    Its ids get the picture's `name`, so that two pictures on one page share none; its colours
    become variables that change at night; declarations and links to vocabularies are left out.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for colour in DARK:
        text = text.replace(colour, f"var(--c{colour[1:]}, {colour})")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
