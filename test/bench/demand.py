#!/usr/bin/python3
"""Forecasts of demand on the history of a real wholesaler (../shared/data/online-retail): how good, how fast.

  demand.py [WEEKS [TOP]]      8 weeks, 200 products

Rolling origin: each of the last weeks is forecast by models that have seen only what was before it. The products are
those that sold most units before the first of these weeks. The same is done with the history as it was before these weeks:
by those figures methods and objectives may be chosen, by the others they are judged. Tables are written to
docs/demand.md. PGHOST and PGPORT name the server, BENCH_DIR a directory that it can read.
"""
import csv
import datetime
import gzip
import json
import os
import sys
import time

from machine import HERE, WORK, Session, drop_database, make_database
from report import conditions, write_document

DOCUMENT = HERE.parents[1] / "docs" / "demand.md"
LAST_DAY = datetime.date(2011, 12, 9)
DATA = HERE.parents[2] / "shared" / "data" / "online-retail" / "online_retail.csv.gz"
DATABASE = "bench_demand"
MAPPING = {"columns": {"order_ref": "InvoiceNo", "customer_id": "CustomerID", "product_id": "StockCode",
                       "quantity": "Quantity", "unit_price": "UnitPrice", "created_at": "InvoiceDate"}}
MODELS = {"demand": ("`demand`", {}), "unbiased": ("`demand`, objective unbiased", {"objective": "unbiased"})}

# The same days a year ago: known for the last week only, because the history is one of 53 weeks.
YEAR_AGO = """
WITH line AS (SELECT l.product_id, l.quantity, (SELECT max(created_at AT TIME ZONE 'UTC')::date FROM order_mgmt.orders)
                  - (l.created_at AT TIME ZONE 'UTC')::date AS ago FROM order_mgmt.order_lines AS l),
    product AS (SELECT product_id FROM line WHERE ago >= 7 GROUP BY 1 ORDER BY sum(quantity) DESC, product_id LIMIT %s),
    week AS (SELECT coalesce(sum(quantity) FILTER (WHERE ago < 7), 0) AS came,
                 coalesce(sum(quantity) FILTER (WHERE ago BETWEEN 364 AND 370), 0) AS before
             FROM product JOIN line USING (product_id) GROUP BY product_id)
SELECT sum(abs(came - before)) / sum(came) FROM week"""


def load_history(last_day):
    """The file as history, up to that day; it is unpacked where the server can read it."""
    plain = WORK / "online_retail.csv"
    WORK.mkdir(parents=True, exist_ok=True)
    WORK.chmod(0o755)
    with gzip.open(DATA, "rt", encoding="utf-8", errors="surrogateescape", newline="") as packed, \
            open(plain, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(packed)
        kept = csv.DictWriter(file, rows.fieldnames)
        kept.writeheader()
        kept.writerows(row for row in rows if row["InvoiceDate"][:10] <= str(last_day))
    make_database(DATABASE)
    with Session(DATABASE) as session:
        session.rows("CREATE EXTENSION order_mgmt")
        session.rows("SELECT order_mgmt.setup()")
        load = session.value("SELECT order_mgmt.load_orders_csv(%s, 'history', %s)", str(plain), json.dumps(MAPPING))
        status = session.rows("SELECT status, error FROM order_mgmt.wait_for_load(%s, '10 min')", load)[0]
        if status[0] != "done":
            sys.exit(f"the history was not loaded: {status}")
        session.rows("VACUUM ANALYZE")
    plain.unlink()


def train(name, options):
    """In a session of its own: seconds, and the session's largest size in MB."""
    with Session(DATABASE) as session:
        session.rows("SELECT order_mgmt.create_model(%s, 'demand', %s)", name, json.dumps(options))
        begin = time.monotonic()
        session.rows("SELECT * FROM order_mgmt.train_model(%s)", name)
        seconds = time.monotonic() - begin
        with open(f"/proc/{session.value('SELECT pg_backend_pid()')}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return seconds, peak / 1024


def evaluate(name, weeks, top):
    with Session(DATABASE) as session:
        return dict(session.rows("SELECT * FROM order_mgmt.evaluate_model(%s, %s)", name,
                                 json.dumps({"weeks": weeks, "top": top})))


def make_row(label, measured, infix=""):
    week = ["", "_week_2", "_week_3", "_week_4"]
    cells = [f"{measured['wape' + infix + w]:.3f}" for w in week if "wape" + infix + w in measured]
    return f"| {label} | " + " | ".join(cells) + f" | {measured['bias' + infix]:+.1%} |"


def make_table(title, measured):
    ours = measured["demand"]
    ahead = sum(1 for key in ours if key == "wape" or key.startswith("wape_week"))
    return [f"| {title} | " + " | ".join(f"WAPE, week {n + 1}" for n in range(ahead)) + " | bias, week 1 |",
            "|---" * (ahead + 2) + "|",
            make_row("seasonal naive (the last week)", ours, "_seasonal_naive"),
            make_row("moving average of 4 weeks", ours, "_moving_average"),
            *(make_row(label, measured[name]) for name, (label, _) in MODELS.items()), ""]


def say_intervals(ours):
    spans = {1: "single days", 7: "weeks", 14: "two weeks", 28: "four weeks"}
    return "In the interval of 80 % came to lie: " + ", ".join(
        f"{ours[f'coverage_{days}_days']:.1%} of {span}" for days, span in spans.items() if f"coverage_{days}_days" in ours) + "."


def say_last_week(top):
    with Session(DATABASE) as session:
        before = session.value(YEAR_AGO, top)
    return f"The last week alone: `demand` {evaluate('demand', 1, top)['wape']:.3f}, the same week a year ago {before:.3f}."


def measure(last_day, weeks, top):
    load_history(last_day)
    cost = {name: train(name, options) for name, (_, options) in MODELS.items()}
    return cost["demand"], {name: evaluate(name, weeks, top) for name in MODELS}


def main(weeks=8, top=200):
    if "demand" not in os.environ.get("ONLY", "demand").split(","):
        return 0
    if not DATA.exists():
        sys.exit(f"{DATA} is not there")
    lines = ["`ONLY=demand make bench-predict`. " + conditions(1).replace(", 1 rounds", "")]
    before = LAST_DAY - datetime.timedelta(weeks=weeks)
    lines += make_table(f"{weeks} weeks to {before}", measure(before, weeks, top)[1])
    (seconds, megabytes), measured = measure(LAST_DAY, weeks, top)
    ours = measured["demand"]
    lines += make_table(f"{weeks} weeks to {LAST_DAY}", measured)
    lines += [say_intervals(ours), say_last_week(top),
              f"Trained in {seconds:.1f} s; the session grew to {megabytes:.0f} MB.\n"]
    drop_database(DATABASE)
    print("\n".join(lines))
    write_document("bench-predict demand", "\n".join(lines), DOCUMENT)
    return 0 if ours["wape"] < min(ours["wape_seasonal_naive"], ours["wape_moving_average"]) else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
