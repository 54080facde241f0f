"""The report as one self-contained HTML page."""

import html
from dataclasses import dataclass, field
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--bg:#fbfaf7;--card:#fff;--text:#1d2329;--quiet:#5c6670;--line:#dfddd6;--accent:#0072b2;
--on:#009e73;--off:#9aa1a8;--mid:#56b4e9;--warn:#b24a00;--ok:#00734f}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2126;--text:#e6e8ea;--quiet:#9aa5af;--line:#323a42;--accent:#6cbcf0;
--on:#2cc295;--off:#646d76;--mid:#56b4e9;--warn:#ff9d5c;--ok:#3ddc9f}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1000px;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem;letter-spacing:-.01em}
h2{font-size:1.25rem;margin:0 0 .6rem}
p{margin:.4rem 0 .8rem;max-width:70ch}
.lead{font-size:1.05rem;color:var(--quiet);margin-bottom:1.4rem}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.3rem 1.5rem;margin:1.1rem 0;break-inside:avoid-page}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.8rem;margin:1.2rem 0}
.fact{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.8rem 1rem}
.fact b{display:block;font-size:1.45rem;line-height:1.2;font-variant-numeric:tabular-nums}
.fact span{color:var(--quiet);font-size:.86rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.93rem}
th,td{text-align:right;padding:.36rem .55rem;border-bottom:1px solid var(--line);vertical-align:middle}
th:first-child,td:first-child{text-align:left}
.listing th:nth-child(2),.listing td:nth-child(2){text-align:left}
th{color:var(--quiet);font-weight:600;font-size:.82rem}
tr:last-child td{border-bottom:0}
.scroll{overflow-x:auto}
svg text{fill:var(--text);font:13px system-ui,sans-serif}
svg .quiet{fill:var(--quiet)}
svg .axis{stroke:var(--quiet);stroke-width:1}
svg .grid{stroke:var(--line);stroke-width:1}
svg .mark{stroke:var(--warn);stroke-width:1.5;stroke-dasharray:4 3}
.ink1{fill:var(--accent)}.c-on{fill:var(--on)}.c-off{fill:var(--off)}.c-mid{fill:var(--mid)}.c-dead{fill:var(--warn)}
svg.bar{width:100%;min-width:130px;height:12px;display:block;border-radius:4px;background:var(--line)}
svg.chart{width:100%;max-width:760px;height:auto;display:block;margin:0 auto}
svg.plane{width:100%;max-width:640px;height:auto;display:block;margin:0 auto}
svg.plane path{stroke:#fff;stroke-opacity:.75;stroke-linejoin:round}
svg.plane .marks circle{fill:#fff;stroke:#000;stroke-width:2}
svg.plane .marks text{fill:#000;stroke:#fff;stroke-width:4px;paint-order:stroke;font-weight:700;font-size:15px}
.legend{display:flex;flex-wrap:wrap;gap:.35rem 1rem;margin:.6rem 0;font-size:.88rem;color:var(--quiet);justify-content:center}
.legend i{display:inline-block;width:.85em;height:.85em;border-radius:3px;margin-right:.4em;vertical-align:-.08em}
img.pixels{image-rendering:pixelated;border-radius:6px;border:1px solid var(--line);background:#888;display:block}
.flip{display:grid;grid-template-columns:auto auto auto 1fr;gap:.9rem 1rem;align-items:center;padding:.7rem 0;border-bottom:1px solid var(--line);break-inside:avoid}
.flip:last-of-type{border-bottom:0}
.flip figure{margin:0;text-align:center}
.flip figcaption{font-size:.78rem;color:var(--quiet);margin-top:.2rem}
.row{display:flex;gap:1.2rem;justify-content:center;margin:.8rem 0 .2rem}
.row figure{margin:0;text-align:center;font-size:.85rem;color:var(--quiet)}
.flip .words b{font-size:1.1rem}
.tag{display:inline-block;border-radius:99px;padding:.05rem .6rem;font-size:.8rem;font-weight:600;border:1px solid currentColor}
.tag.ok{color:var(--ok)}.tag.warn{color:var(--warn)}
pre,code{font:.88rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{overflow-x:auto;background:var(--bg);border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem;margin:.5rem 0}
details summary{cursor:pointer;color:var(--accent)}
.skipped li{margin:.3rem 0}
.quiet{color:var(--quiet)}
footer{color:var(--quiet);font-size:.85rem;margin-top:2rem}
@media (max-width:620px){.flip{grid-template-columns:repeat(3,auto)}.flip .words{grid-column:1/-1}section{padding:1rem}}
@media print{body{background:#fff;font-size:11pt}main{max-width:none;padding:0}section,.fact{border-color:#bbb}details>*{display:block}}
"""


@dataclass
class Section:
    """One part of the report: a heading and its HTML, or a reason why it is not there."""

    name: str
    title: str
    body: str = ""
    reason: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    data: Any = None

    @property
    def applies(self) -> bool:
        return not self.reason


def escape(text: Any) -> str:
    return html.escape(str(text))


def table(head: list[str], rows: list[list[str]], kind: str = "") -> str:
    """Cells are HTML already; `kind` is a class of the style."""
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def legend(items: list[tuple[str, str]]) -> str:
    """`(color or CSS variable, label)` pairs."""
    return (
        '<div class="legend">'
        + "".join(f'<span><i style="background:{c}"></i>{escape(label)}</span>' for c, label in items)
        + "</div>"
    )


def page(title: str, lead: str, sections: list[Section], footer: str) -> str:
    """The whole page; sections that do not apply are listed at the end with their reasons."""
    facts = [fact for s in sections if s.applies for fact in s.facts]
    cards = "".join(f'<div class="fact"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for k, v in facts)
    shown = "".join(
        f'<section id="{s.name}"><h2>{escape(s.title)}</h2>{s.body}</section>' for s in sections if s.applies
    )
    missing: dict[str, list[str]] = {}
    for s in sections:
        if not s.applies:
            missing.setdefault(s.reason, []).append(s.title)
    skipped = "".join(f"<li><b>{escape('; '.join(t))}</b>: {escape(reason)}</li>" for reason, t in missing.items())
    rest = (
        f'<section class="skipped" id="skipped"><h2>What does not apply here, and why</h2><ul>{skipped}</ul></section>'
        if missing
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f'<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f'<div class="facts">{cards}</div>{shown}{rest}<footer>{escape(footer)}</footer></main></body></html>\n'
    )
