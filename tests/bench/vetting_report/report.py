"""Draws what vetting_report measured: python3 report.py FOLDER.

Reads FOLDER/*.json, writes FOLDER/report.md and the SVG plots that it shows.
"""
import json
import math
import sys
from pathlib import Path

COLORS = ["#1b6ca8", "#c8553d", "#2e8b57", "#8e6bbf", "#b8860b", "#4a4a4a", "#d1699e", "#3aa6a6", "#7a5230"]
DASHES = ["", "6 3", "2 3"]
WIDTH, HEIGHT, LEFT, BOTTOM, LEGEND = 700, 360, 56, 44, 210


def axes(title, x_label, y_label, x_range, y_range, x_ticks, y_ticks, x_scale):
    """Frame, grid and labels; returns the parts and the two scales."""
    def at_x(x):
        low, high = x_scale(x_range[0]), x_scale(x_range[1])
        return LEFT + (x_scale(x) - low) / (high - low) * (WIDTH - LEFT - LEGEND)

    def at_y(y):
        return HEIGHT - BOTTOM - (y - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - BOTTOM - 36)

    parts = [f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{title}</text>']
    for x in x_ticks:
        parts.append(f'<line x1="{at_x(x):.1f}" y1="{at_y(y_range[0]):.1f}" x2="{at_x(x):.1f}" '
                     f'y2="{at_y(y_range[1]):.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    for y in y_ticks:
        parts.append(f'<line x1="{at_x(x_range[0]):.1f}" y1="{at_y(y):.1f}" x2="{at_x(x_range[1]):.1f}" '
                     f'y2="{at_y(y):.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at_y(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - LEGEND) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{x_label}</text>')
    parts.append(f'<text transform="translate(14 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">{y_label}</text>')
    return parts, at_x, at_y


def save(path, parts):
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
                    f'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n'
                    + "\n".join(parts) + "\n</svg>\n")


def lines(path, title, x_label, y_label, series, x_range, y_range, x_ticks, y_ticks, rule=None, rule_label="",
          styles=None, x_scale=float):
    """`styles`: color and dash of each series by number; without it each has a color of its own."""
    parts, at_x, at_y = axes(title, x_label, y_label, x_range, y_range, x_ticks, y_ticks, x_scale)
    if rule is not None:
        parts.append(f'<line x1="{at_x(x_range[0]):.1f}" y1="{at_y(rule):.1f}" x2="{at_x(x_range[1]):.1f}" '
                     f'y2="{at_y(rule):.1f}" stroke="#777" stroke-dasharray="5 4"/>'
                     f'<text x="{at_x(x_range[1]) - 4:.1f}" y="{at_y(rule) - 4:.1f}" text-anchor="end" '
                     f'fill="#555">{rule_label}</text>')
    for n, (label, points) in enumerate(series.items()):
        color, dash = styles[n] if styles else (COLORS[n % len(COLORS)], DASHES[n // len(COLORS) % len(DASHES)])
        stroke = f'fill="none" stroke="{color}" stroke-width="1.8" stroke-dasharray="{dash or "none"}"'
        path_text = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path_text}" {stroke}/>')
        y = 48 + 16 * n
        parts.append(f'<line x1="{WIDTH - LEGEND + 12}" y1="{y}" x2="{WIDTH - LEGEND + 38}" y2="{y}" {stroke}/>'
                     f'<text x="{WIDTH - LEGEND + 44}" y="{y + 4}">{label}</text>')
    save(path, parts)


def wilson(count, total):
    """95 % interval of a share."""
    z, p = 1.96, count / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(middle - half, 0), min(middle + half, 1)


def null_section(folder, runs):
    out = ["## No true gain, adaptive authors", "",
           "A campaign is one author who has nothing to offer and submits again and again, adapting to the answers. "
           "It is broken when any submission is accepted. The promise is at most alpha = 5 % of campaigns.", "",
           "| attack | gate | campaigns | attempts each | broken | share (95 %) | largest gain told |", "|---|---|---|---|---|---|---|"]
    series = {"ledger": {}, "no ledger": {}}
    for run in runs:
        low, high = wilson(run["with_false_accept"], run["campaigns"])
        out.append(f'| {run["attack"]} | {run["rule"]} | {run["campaigns"]} | {run["attempts"]} | '
                   f'{run["with_false_accept"]} | {run["with_false_accept"] / run["campaigns"]:.3f} '
                   f'({low:.3f} to {high:.3f}) | {100 * run["largest_told_gain"]:.2f} % |')
        points, total = [(1, 0)], run["campaigns"]
        for n, first in enumerate(run["first_false_accepts"]):
            points += [(first, n / total), (first, (n + 1) / total)]
        points.append((run["attempts"], len(run["first_false_accepts"]) / total))
        series[run["rule"]][run["attack"]] = points
    attempts = max(run["attempts"] for run in runs)
    # With the ledger next to nothing happens: on the scale of the promise that can be seen.
    highest = max([0.1] + [y for points in series["ledger"].values() for _, y in points])
    lines(folder / "null-ledger.svg", "With the ledger: campaigns broken by the n-th attempt", "attempt",
          "share of campaigns", series["ledger"], (1, attempts), (0, highest), range(0, attempts + 1, attempts // 4)[1:],
          [highest * n / 4 for n in range(5)], 0.05, "promised: at most 5 %")
    decades = [10 ** n for n in range(8) if 10 ** n <= attempts]
    lines(folder / "null-no-ledger.svg", "Without it", "attempt", "share of campaigns", series["no ledger"],
          (1, attempts), (0, 1), decades, (0, 0.25, 0.5, 0.75, 1), 0.05, "5 %", x_scale=math.log)
    return out + ["", "![with the ledger](null-ledger.svg)", "", "![without it](null-no-ledger.svg)", ""]


def power_section(folder, runs):
    out = ["## True gains", "",
           "Share of claims that are shown, by true gain; items of 128 tokens whose change of loss spreads by 0.035 a "
           "token. The detectable effect has 80 % power.", "",
           "| items | claim | by organisation | level | detectable effect |", "|---|---|---|---|---|"]
    series = {}
    for run in runs:
        out.append(f'| {run["items"]} | {run["claim"]} | {run["organisation"]} | {run["level"]:.2g} | '
                   f'{100 * run["detectable"]:.2f} % |')
        series[f'{run["items"]} items, claim {run["claim"]}'] = [(100 * g, p) for g, p in run["power"]]
    at_one = [(run["items"], run["claim"], dict(map(tuple, run["power"]))) for run in runs if run["items"] == 1000]
    out += [""] + [f"At {items} items and claim {claim} a true gain of 1 % is shown in {100 * p[0.01]:.1f} % of cases."
                   for items, claim, p in at_one]
    sizes = sorted({run["items"] for run in runs})
    claims = sorted({run["claim"] for run in runs})
    styles = [(COLORS[sizes.index(run["items"])], DASHES[claims.index(run["claim"]) % len(DASHES)]) for run in runs]
    lines(folder / "power.svg", "Power of a claim", "true gain, %", "share shown", series, (0, 3), (0, 1),
          (0, 0.5, 1, 1.5, 2, 2.5, 3), (0, 0.25, 0.5, 0.75, 1), 0.8, "80 %", styles)
    return out + ["", "![power](power.svg)", ""]


def overfit_section(runs):
    out = ["## Told gain against fresh data", "",
           "An author with a true gain of 1 % pushes 200 variants and keeps the best figure it is told. What that is "
           "above the truth:", "", "| gate | campaigns | mean | worst | promise |", "|---|---|---|---|---|"]
    for run in runs:
        out.append(f'| {run["rule"]} | {run["campaigns"]} | {100 * run["mean_overfit"]:+.3f} % | '
                   f'{100 * run["worst_overfit"]:+.3f} % | {100 * run["promise"]:.3f} % |')
    return out + [""]


def roc(bad, honest):
    """Points of false and true alarm rates over all thresholds, and the area."""
    points, area = [(0.0, 0.0)], 0.0
    for limit in sorted(set(bad + honest), reverse=True):
        x = sum(s >= limit for s in honest) / len(honest)
        y = sum(s >= limit for s in bad) / len(bad)
        area += (x - points[-1][0]) * (y + points[-1][1]) / 2
        points.append((x, y))
    return points, area


def plants_section(folder, runs, non_finite):
    honest = next(run for run in runs if run["plant"] == "honest")
    screens = ("energy", "spectrum", "kinship", "collusion", "signs", "sparsity", "vocabulary")
    out = ["## Planted attacks", "",
           f'{honest["updates"]} updates a row; suites of 1,000 items; honest true gains of 1.5 to 4.5 % and losses of up '
           "to 0.3 % on a protected suite of margin 1 %; 60 accepted updates before. Rejected: by the gate or by the "
           "kinship screen, which blocks by default. Canary: had maintainers a suite with that trigger.", "",
           "| update | rejected | or to people | by gate | by canary | " + " | ".join(screens) + " | ROC area of screens |",
           "|---" * (6 + len(screens)) + "|"]
    series = {}
    for run in runs:
        points, area = roc(run["scores"], honest["scores"])
        cells = [f'{100 * run[key]:.1f} %' for key in ("rejected", "rejected_or_reviewed", "by_gate", "by_canary", *screens)]
        out.append(f'| {run["plant"]} | ' + " | ".join(cells) + f' | {"" if run is honest else f"{area:.3f}"} |')
        if run is not honest:
            series[f'{run["plant"]}, {area:.3f}'] = points
    if non_finite:
        cells = [f'{100 * non_finite["caught"]:.1f} %'] * 2 + [""] * (3 + len(screens))
        out += ["| one value NaN or infinite | " + " | ".join(cells) + " |", "",
                f'Non-finite: {non_finite["updates"]} updates as files, by the screen of files, which rejected '
                f'{100 * non_finite["honest_caught"]:.1f} % of as many whole ones.']
    lines(folder / "roc.svg", "Weight screens: largest score over its limit, and area", "honest updates flagged",
          "attacks flagged", series, (0, 1), (0, 1), (0, 0.02, 0.1, 0.25, 0.5, 0.75, 1), (0, 0.25, 0.5, 0.75, 1),
          x_scale=math.sqrt)
    return out + ["", "![ROC](roc.svg)", ""]


def main():
    folder = Path(sys.argv[1])
    read = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    text = ["# Vetting under attack", ""]
    null = [run for name, runs in read.items() if name.startswith("null-") for run in runs]
    if null:
        text += null_section(folder, null)
    if "power" in read:
        text += power_section(folder, read["power"])
    if "overfit" in read:
        text += overfit_section(read["overfit"])
    if "plants" in read:
        text += plants_section(folder, read["plants"], read.get("non-finite"))
    (folder / "report.md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
