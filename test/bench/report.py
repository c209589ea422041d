"""What was measured, as rows beside the bars: on the screen, and in docs/performance.md between two marks."""
import os
import platform
import statistics
import time
from collections import defaultdict
from pathlib import Path

from machine import HERE, Session

DOCUMENT = HERE.parents[1] / "docs" / "performance.md"


def shown(value):
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def spread(values):
    """Median, and smallest to largest where there are several."""
    middle = shown(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({shown(min(values))} … {shown(max(values))})"


class Book:
    """Figures by name, a value a round, and the rows that compare them."""

    def __init__(self):
        self.figures, self.table = defaultdict(list), []

    def note(self, name, value):
        self.figures[name].append(value)
        print(f"  {name}: {shown(value)}", flush=True)

    def median(self, name):
        return statistics.median(self.figures[name])

    def ratios(self, ours, theirs):
        """Round by round, so that what slows the machine for a while slows both sides of a ratio."""
        return [a / b for a, b in zip(self.figures[ours], self.figures[theirs])]

    def row(self, what, ours, against="", theirs="", ratio="", bar="", met=None):
        """What was measured, our figure, whose the other figure is."""
        verdict = "" if met is None else "met" if met else "**not met**"
        self.table.append((what, ours, against, theirs, ratio, bar, verdict))
        print("= " + " | ".join(self.table[-1]), flush=True)

    def compare(self, what, ours, against, theirs, at_least=None, at_most=None):
        """A row of two figures and their ratio; without a bar it is there to be read."""
        ratios = self.ratios(ours, theirs)
        self.row(what, spread(self.figures[ours]), against, spread(self.figures[theirs]), spread(ratios),
                 *judge(statistics.median(ratios), at_least, at_most, " ×"))

    def limit(self, what, ours, at_least=None, at_most=None):
        """A row of one figure that has a bar of its own."""
        self.row(what, spread(self.figures[ours]), "", "", "", *judge(self.median(ours), at_least, at_most))

    def show(self, what, figure):
        self.row(what, spread(self.figures[figure]))

    def show_theirs(self, what, against, figure):
        self.row(what, "", against, spread(self.figures[figure]))

    def markdown(self):
        head = ("What", "order_mgmt", "Compared with", "which has", "Ratio", "Bar", "")
        lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *self.table)]
        return "\n".join(lines) + "\n"


def judge(value, at_least, at_most, unit=""):
    """The bar, and whether the value reaches it."""
    if at_least is not None:
        return f"≥ {shown(at_least)}{unit}", value >= at_least
    if at_most is not None:
        return f"≤ {shown(at_most)}{unit}", value <= at_most
    return "", None


def conditions(rounds):
    with Session("postgres") as session:
        version = session.value("SHOW server_version")
    return (f"Run of {time.strftime('%Y-%m-%d')}: PostgreSQL {version}, Linux {platform.release()}, "
            f"{os.cpu_count()} cores, {rounds} rounds.\n")


def write_document(section, text, path=DOCUMENT):
    begin, end = f"<!-- {section}: begin -->\n", f"<!-- {section}: end -->"
    before, rest = Path(path).read_text().split(begin)
    Path(path).write_text(before + begin + text + rest[rest.index(end):])
