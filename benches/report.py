"""Writes results: tables in Markdown, bar charts in SVG."""

import os
import re
from html import escape


def table(header, rows):
    """Returns a Markdown table, with the first column left-aligned and the others right-aligned."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_section(path, name, text):
    """Replaces the text between the section's comments, or adds the section to the end of the page."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    page = "# Benchmarks\n\n`make bench` writes this page.\n"
    if os.path.exists(path):
        with open(path) as file:
            page = file.read()
    found = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if found.search(page):
        page = found.sub(lambda _: section, page)
    else:
        page = f"{page.rstrip()}\n\n{section}\n"
    with open(path, "w") as file:
        file.write(page)


def bars(title, subtitle, groups, labels, highlight, baseline):
    """Returns horizontal bars as an SVG document. `groups` maps a heading to values in the order of `labels`; None is a
    missing value. A line marks the baseline, and bars whose label begins with `highlight` stand out."""
    left, width, bar, gap, heading = 300, 440, 16, 5, 34
    top = 86
    groups = {name: [(label, value) for label, value in zip(labels, values) if value is not None]
              for name, values in groups.items()}
    scale = width / max([baseline, *(value for values in groups.values() for _, value in values)])
    height = top + sum(heading + len(values) * (bar + gap) for values in groups.values()) + 24
    at = left + baseline * scale
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 80} {height}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="20" y="32" font-size="18" font-weight="600" fill="#1f2933">{escape(title)}</text>',
        f'<text x="20" y="54" fill="#52606d">{escape(subtitle)}</text>',
        f'<line x1="{at:.1f}" y1="{top - 10}" x2="{at:.1f}" y2="{height - 16}" stroke="#9aa5b1" stroke-dasharray="3 3"/>',
    ]
    y = top
    for name, values in groups.items():
        out.append(f'<text x="20" y="{y + 14}" font-weight="600" fill="#1f2933">{escape(name)}</text>')
        y += heading - 10
        for label, value in values:
            ours = label.startswith(highlight)
            color, weight = ("#0b6e4f", "600") if ours else ("#b8c2cc", "400")
            length = max(value * scale, 1)
            out.append(f'<text x="{left - 10}" y="{y + 13}" text-anchor="end" font-weight="{weight}" fill="#323f4b">'
                       f'{escape(label)}</text>')
            out.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar}" rx="2" fill="{color}"/>')
            out.append(f'<text x="{left + length + 6:.1f}" y="{y + 13}" font-weight="{weight}" fill="#323f4b" '
                       f'paint-order="stroke" stroke="#ffffff" stroke-width="4">{value:.2f}</text>')
            y += bar + gap
        y += 10
    out.append("</svg>")
    return "\n".join(out) + "\n"
