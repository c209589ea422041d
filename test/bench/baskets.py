#!/usr/bin/python3
"""Next baskets on real histories: each algorithm by the same evaluation, and what predictions cost.

Each customer's last order is held back, and predicted by a model trained on those before; customers are dealt into five
folds for the spread. What training has to choose it chooses by the last orders before those that are held back.
test/bench/predict starts the server; the tables are written to docs/next-basket.md.
"""
import datetime
import gzip
import json
import os
import re
import shutil
import statistics
import sys
import threading
import time
from pathlib import Path

from machine import HERE, WORK, Session, drop_database, family_time, make_database
from report import conditions, write_document

DATA = HERE.parents[2] / "shared" / "data"
DOCUMENT = HERE.parents[1] / "docs" / "next-basket.md"
ALGORITHMS = [
    ("global_frequency", {"algorithm": "global_frequency"}),
    ("personal_frequency", {"algorithm": "personal_frequency"}),
    ("personal_popularity_ties", {"algorithm": "personal_popularity_ties"}),
    ("up_cf, as published", {"algorithm": "up_cf", "tune": False}),
    ("up_cf, tuned", {"algorithm": "up_cf"}),
    ("tifu_knn, as published", {"algorithm": "tifu_knn", "tune": False}),
    ("tifu_knn, tuned", {"algorithm": "tifu_knn"}),
    ("**blend**", {"algorithm": "blend"}),
]
MEASURES = ("recall@10", "ndcg@10", "ndcg_min@10", "recall@20", "ndcg@20", "ndcg_min@20")
RETAIL_COLUMNS = {"columns": {"order_ref": "InvoiceNo", "customer_id": "CustomerID", "product_id": "StockCode",
                              "quantity": "Quantity", "unit_price": "UnitPrice", "created_at": "InvoiceDate"}}


# --- histories -----------------------------------------------------------------------------------


def unpack_tafeng(path):
    """The set has no dates: a customer's baskets are a day apart, the last ones on the same day."""
    last = datetime.datetime(2026, 9, 1, tzinfo=datetime.timezone.utc)
    with gzip.open(DATA / "tafeng" / "tafeng_history.json.gz") as packed:
        history = json.load(packed)
    with open(path, "w") as file:
        file.write("order_ref,customer_id,product_id,quantity,unit_price,created_at\n")
        for customer, baskets in history.items():
            baskets = baskets[1:-1]
            for n, basket in enumerate(baskets):
                at = (last - datetime.timedelta(days=len(baskets) - n)).isoformat()
                file.writelines(f"{customer}-{n},{customer},{product},1,1,{at}\n" for product in basket)


def unpack_retail(path):
    with gzip.open(DATA / "online-retail" / "online_retail.csv.gz") as packed, open(path, "wb") as file:
        shutil.copyfileobj(packed, file)


def make_shop(database, unpack, options):
    WORK.mkdir(parents=True, exist_ok=True)
    WORK.chmod(0o755)
    path = WORK / f"{database}.csv"
    unpack(path)
    path.chmod(0o644)
    make_database(database)
    with Session(database) as session:
        session.rows("CREATE EXTENSION order_mgmt")
        session.rows("SELECT order_mgmt.setup()")
        load = session.value("SELECT order_mgmt.load_orders_csv(%s, 'history', %s)", str(path), json.dumps(options))
        status, error = session.rows("SELECT status, error FROM order_mgmt.wait_for_load(%s, '10 min')", load)[0]
        if status != "done":
            sys.exit(f"the history was not loaded: {error}")
        session.rows("VACUUM ANALYZE")
    path.unlink()


# --- what it costs ---------------------------------------------------------------------------------


class Watch(threading.Thread):
    """The most memory that a session has had for itself, beside what it shares with others."""

    def __init__(self, session):
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = session.value("SELECT pg_backend_pid()"), 0, threading.Event()

    def run(self):
        while not self.over.wait(0.01):
            status = Path(f"/proc/{self.pid}/status").read_text()
            self.peak = max(self.peak, int(re.search(r"RssAnon:\s+(\d+)", status).group(1)))

    def __enter__(self):
        self.start()
        self.begin, self.cpu = time.monotonic(), family_time(self.pid)
        return self

    def __exit__(self, *_):
        self.seconds, self.cpu = time.monotonic() - self.begin, family_time(self.pid) - self.cpu
        self.over.set()
        self.join()


def train(database, name, options):
    with Session(database) as session:
        session.rows("SELECT order_mgmt.create_model(%s, 'next_basket', %s)", name, json.dumps(options))
        with Watch(session) as watch:
            session.rows("SELECT * FROM order_mgmt.train_model(%s)", name)
        size = session.value("SELECT bytes FROM order_mgmt.models WHERE name = %s", name)
    return watch, size


def evaluate(database, name):
    with Session(database) as session:
        return dict(session.rows("SELECT * FROM order_mgmt.evaluate_model(%s, %s)", name,
                                 json.dumps({"k": [10, 20], "folds": 5, "each_fold": True})))


def beside(ours, others, measure):
    """By how much we are ahead of the best of the others, in how many folds."""
    best = max(others, key=lambda label: others[label][measure])
    ahead = [ours[f"{measure}_fold_{n}"] - others[best][f"{measure}_fold_{n}"] for n in range(1, 6)]
    return (f"{measure} {statistics.mean(ahead):+.4f} ± {statistics.stdev(ahead):.4f} ({best}; ahead in "
            f"{sum(difference > 0 for difference in ahead)} of 5)")


def compare(database, title):
    """The table of all algorithms; whether the blend is the best by every measure."""
    lines = [f"| {title} | Recall@10 | NDCG@10 | NDCG@10 min | Recall@20 | NDCG@20 | NDCG@20 min | Training, s |",
             "| --- " * 8 + "|"]
    results = {}
    for label, options in ALGORITHMS:
        name = re.sub(r"\W+", "_", label).strip("_")
        watch, _ = train(database, name, options)
        found = results[label] = evaluate(database, name)
        cells = [f"{found[m]:.4f} ± {found[m + '_sd']:.4f}" for m in MEASURES]
        lines.append(f"| {label} | {' | '.join(cells)} | {watch.seconds:.1f} |")
        print(lines[-1], flush=True)
    ours = results.pop("**blend**")
    best = all(ours[m] > other[m] for other in results.values() for m in MEASURES)
    lines += ["", f"{ours['customers']:,.0f} customers, five folds, mean ± standard deviation of the folds. The blend against the best of the others, "
              "fold by fold on the same customers: " + "; ".join(beside(ours, results, m) for m in MEASURES) + ".", ""]
    return lines, best


# --- predictions -----------------------------------------------------------------------------------


def latencies(database, count=5000):
    """Of single predictions by a prepared statement, in ms, seen from the client."""
    with Session(database) as session:
        customers = [row[0] for row in session.rows(
            "SELECT customer_id FROM (SELECT DISTINCT customer_id FROM order_mgmt.orders) AS c"
            " ORDER BY md5(customer_id) LIMIT %s", count)]
        session.rows("PREPARE ask (text) AS SELECT * FROM order_mgmt.predict_next_order($1, 10, 'blend')")
        for customer in customers[:200]:
            session.rows("EXECUTE ask (%s)", customer)
        times, pid = [], session.value("SELECT pg_backend_pid()")
        cpu = family_time(pid)
        for customer in customers:
            begin = time.perf_counter()
            session.rows("EXECUTE ask (%s)", customer)
            times.append((time.perf_counter() - begin) * 1000)
        cpu = family_time(pid) - cpu
    times.sort()
    return statistics.median(times), times[int(len(times) * 0.99)], cpu / len(times) * 1000


def rate(database, wanted):
    """Customers per second, and per second of processor time, by one query over so many."""
    with Session(database) as session:
        session.rows("SELECT count(*) FROM order_mgmt.predict_next_order('nobody', 10, 'blend')")
        session.rows("CREATE TEMP TABLE asked AS SELECT customer_id FROM (SELECT DISTINCT customer_id"
                     " FROM order_mgmt.orders) AS c, generate_series(1, %s) LIMIT %s", wanted, wanted)
        with Watch(session) as watch:
            rows = session.value("SELECT count(*) FROM order_mgmt.predict_next_orders("
                                 "(SELECT array_agg(customer_id) FROM asked), 10, 'blend')")
    if rows != wanted * 10:
        sys.exit(f"{rows} products for {wanted} customers")
    return wanted / watch.seconds, wanted / watch.cpu


def bar(what, value, unit, limit, met):
    return f"| {what} | {value} {unit} | {limit} | {'met' if met else '**not met**'} |"


def costs(database, what, most_seconds, wanted):
    watch, size = train(database, "blend_again", {})
    median, p99, cpu = latencies(database)
    lines = [bar(f"{what}: training", f"{watch.seconds:.1f}", "s", f"≤ {most_seconds} s", watch.seconds <= most_seconds),
             f"| {what}: processor time of it | {watch.cpu:.1f} s |  |  |",
             bar(f"{what}: memory of the session that trains", f"{watch.peak / 1024:.0f}", "MB", "≤ 512 MB",
                 watch.peak <= 512 * 1024),
             f"| {what}: bytes of the model | {size:,} |  |  |",
             f"| {what}: `predict_next_order()`, median | {median:.2f} ms |  |  |",
             f"| {what}: processor time of it, mean | {cpu:.2f} ms |  |  |",
             bar(f"{what}: `predict_next_order()`, p99", f"{p99:.2f}", "ms", "≤ 2 ms", p99 <= 2)]
    by_clock, by_cpu = rate(database, wanted)
    lines += [f"| {what}: {wanted:,} predictions by one query | {by_clock:,.0f} /s |  |  |",
              bar(f"{what}: the same per second of processor time", f"{by_cpu:,.0f}", "/s", "≥ 5,000 /s", by_cpu >= 5000)]
    print("\n".join(lines), flush=True)
    return lines


def main():
    wanted = int(os.environ.get("PREDICTIONS", 1_000_000))
    text, good = [conditions(1).replace(", 1 rounds", f", load average {os.getloadavg()[0]:.0f} at the beginning")], True
    cost = ["| Cost of the blend | measured | bar |  |", "| --- | --- | --- | --- |"]
    for database, unpack, options, title, seconds in (
            ("tafeng", unpack_tafeng, {}, "Ta-Feng", 10), ("retail", unpack_retail, RETAIL_COLUMNS, "Online Retail", 60)):
        print(f"\n== {title}", flush=True)
        make_shop(database, unpack, options)
        lines, best = compare(database, title)
        good = good and best
        text += lines
        cost += costs(database, title, seconds, wanted if database == "tafeng" else wanted // 10)
        drop_database(database)
    text = "\n".join(text + cost) + "\n"
    write_document("bench-predict", text, DOCUMENT)
    print(f"\n{text}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
