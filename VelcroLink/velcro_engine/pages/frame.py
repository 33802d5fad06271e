"""The frame that all of VelcroLink's HTML pages share: head, notice, footer. Loads nothing."""

from __future__ import annotations

import html

NOTICE = "For research and teaching. Not for clinical use."
CSS = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;max-width:76rem;margin:0 auto;padding:1rem 1.25rem}
h1{font-size:1.5rem;margin:.4em 0}h2{font-size:1.2rem;margin:0 0 .4em}
.link{display:grid;grid-template-columns:minmax(18rem,30rem) 1fr;gap:1.5rem;margin:2rem 0}
@media(max-width:52rem){.link{grid-template-columns:1fr}}
figure{margin:0}figure svg{width:100%;height:auto;display:block;background:#000;border-radius:6px}
figcaption,.minor{opacity:.75;font-size:.88em}
details{margin:.35em 0}summary{cursor:pointer}summary meter{width:7em;vertical-align:middle}
.abstained{border-left:4px solid #d18b00;padding:.3em .8em;margin:.5em 0}
footer{border-top:1px solid rgba(128,128,128,.45);margin-top:2.5rem;padding-top:.8rem}
"""


def framed_page(title: str, body: str, footer: str, css: str = "") -> str:
    """The whole page as text. body, footer: HTML, escaped by the caller; css: after the common one.

    The page holds no script, and its policy forbids loading anything.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{html.escape(title)}</title>
<style>{CSS}{css}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p class="minor">{NOTICE}</p>
{body}
<footer class="minor">VelcroLink; {footer}</footer>
</body>
</html>
"""
