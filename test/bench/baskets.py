#!/usr/bin/python3
"""Next baskets on real histories: each algorithm by the same evaluation, and what predictions cost.

  quality   each customer's last order is held back, and predicted by a model trained on those before; customers are
            dealt into five folds for the spread. What training has to choose it chooses without those orders
  earlier   the same as it would have been before: the last orders are taken away, and those before them predicted
  choices   what each group of features of the blend is worth to those who choose, without any order held back
  updates   what update_model() reads and takes beside train_model()
  costs     time and memory of training and of predictions

test/bench/predict starts the server. Each part writes a table of its own to docs/next-basket.md; ONLY=costs,updates
runs some of them.
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
from typing import Callable, NamedTuple

from machine import HERE, WORK, Session, drop_database, family_time, make_database
from report import conditions, write_document

DATA = HERE.parents[2] / "shared" / "data"
DOCUMENT = HERE.parents[1] / "docs" / "next-basket.md"
ALGORITHMS = [
    ("global_frequency", {"algorithm": "global_frequency"}),
    ("personal_frequency", {"algorithm": "personal_frequency"}),
    ("gp_topfreq", {"algorithm": "gp_topfreq"}),
    ("personal_popularity_ties", {"algorithm": "personal_popularity_ties"}),
    ("up_cf, as published", {"algorithm": "up_cf", "tune": False}),
    ("up_cf, tuned", {"algorithm": "up_cf"}),
    ("tifu_knn, as published", {"algorithm": "tifu_knn", "tune": False}),
    ("tifu_knn, tuned", {"algorithm": "tifu_knn"}),
    ("tifu_knn_code, as published", {"algorithm": "tifu_knn_code", "tune": False}),
    ("tifu_knn_code, tuned", {"algorithm": "tifu_knn_code"}),
    ("**blend**", {"algorithm": "blend"}),
]
EARLIER = ("gp_topfreq", "personal_popularity_ties", "tifu_knn, tuned", "tifu_knn_code, tuned", "**blend**")
GROUPS = ("often", "faded", "age", "regular", "vector", "near", "rebuy", "popular", "length")
MEASURES = ("recall@10", "ndcg@10", "ndcg_min@10", "recall@20", "ndcg@20", "ndcg_min@20")
RETAIL_COLUMNS = {"columns": {"order_ref": "InvoiceNo", "customer_id": "CustomerID", "product_id": "StockCode",
                              "quantity": "Quantity", "unit_price": "UnitPrice", "created_at": "InvoiceDate"}}


# --- histories -----------------------------------------------------------------------------------


def unpack_tafeng(path):
    """The set has no dates: a customer's baskets are a day apart, the last ones on 31 August 2026."""
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


def measure(database, label, options):
    """Seconds of the training, and all that the evaluation says."""
    name = re.sub(r"\W+", "_", label).strip("_")
    watch, _ = train(database, name, options)
    found = evaluate(database, name)
    with Session(database) as session:
        session.rows("SELECT order_mgmt.drop_model(%s)", name)
    return watch.seconds, found


def evaluate_all(database, cases, common):
    """Label and what the evaluation says, which trains by itself: the version only gives the orders."""
    train(database, "any", {"tune": False, **common})
    with Session(database) as session:
        for label, options in cases:
            session.rows("SELECT order_mgmt.set_model_options('any', %s)", json.dumps({**options, **common}))
            yield label, evaluate(database, "any")
        session.rows("SELECT order_mgmt.drop_model('any')")


def summary(results):
    ours = results["**blend**"]
    others = {label: found for label, found in results.items() if label != "**blend**"}
    return (f"{ours['customers']:,.0f} customers, five folds, mean ± standard deviation of the folds. The blend against the best of "
            "the others, fold by fold on the same customers: " + "; ".join(beside(ours, others, m) for m in MEASURES) + ".")


def compare(shop):
    """The table of all algorithms; whether the blend is the best by every measure."""
    lines = [f"| {shop.title} | Recall@10 | NDCG@10 | NDCG@10 min | Recall@20 | NDCG@20 | NDCG@20 min | Training, s |",
             "| --- " * 8 + "|"]
    results = {}
    for label, options in ALGORITHMS:
        seconds, found = measure(shop.database, label, options)
        results[label] = found
        cells = [f"{found[m]:.4f} ± {found[m + '_sd']:.4f}" for m in MEASURES]
        lines.append(f"| {label} | {' | '.join(cells)} | {seconds:.1f} |")
        print(lines[-1], flush=True)
    ours = results["**blend**"]
    best = all(ours[m] > found[m] for label, found in results.items() if found is not ours for m in MEASURES)
    return lines + ["", summary(results), ""], best


def earlier(shop):
    """Nobody looked at the orders that are predicted here while the blend was made."""
    lines, best = [], True
    for until in shop.untils:
        results = {}
        lines += [f"| {shop.title}, orders before {until} | Recall@10 | NDCG@10 | Recall@20 | NDCG@20 |", "| --- " * 5 + "|"]
        cases = [(label, options) for label, options in ALGORITHMS if label in EARLIER]
        for label, found in evaluate_all(shop.database, cases, {"until": f"{until}T00:00:00Z"}):
            results[label] = found
            cells = [f"{found[m]:.4f} ± {found[m + '_sd']:.4f}" for m in MEASURES if "min" not in m]
            lines.append(f"| {label} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        ours = results["**blend**"]
        best = best and all(ours[m] > found[m] for found in results.values() if found is not ours for m in MEASURES)
        lines += ["", summary(results), ""]
    return lines, best


def choices(shop):
    """By those who choose and those who measure, of the orders before those that are held back."""
    lines = [f"| {shop.title} | loss of those who choose | Recall@10 of those who measure | NDCG@10 | left out |", "| --- " * 5 + "|"]
    cases = [("all, as it is", {}), ("the first weights", {"tune": False})]
    cases += [(f"without `{group}`", {"without": [group]}) for group in GROUPS]
    for label, found in evaluate_all(shop.database, cases, {}):
        left_out = [group for group in GROUPS if found.get(f"chosen_{group}") == 0 and f"`{group}`" not in label]
        loss = f"{found['validation_loss']:.4f}" if "validation_loss" in found else ""
        lines.append(f"| {label} | {loss} | {found['validation_recall@10']:.4f} | {found['validation_ndcg@10']:.4f} | "
                     f"{', '.join(left_out)} |")
        print(lines[-1], flush=True)
    return lines + [""], True


# --- updates ---------------------------------------------------------------------------------------

ROWS = """SELECT coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_xact_user_tables
    WHERE schemaname = 'order_mgmt' AND relname ~ '^order(s|_lines)'"""
CAPTURE = """SELECT count(order_mgmt.capture_order(c.customer_id, c.lines)) FROM (
    SELECT o.customer_id, jsonb_agg(jsonb_build_object('product_id', l.product_id, 'quantity', 1, 'unit_price', 1)) AS lines
    FROM (SELECT DISTINCT ON (customer_id) customer_id, order_id, created_at FROM order_mgmt.orders ORDER BY customer_id, created_at) AS o
    JOIN order_mgmt.order_lines AS l USING (created_at, order_id) GROUP BY 1 ORDER BY md5(o.customer_id) LIMIT %s) AS c"""


def make_version(database, function, name):
    """A statement in a transaction of its own: rows and blocks that it reads, seconds, processor seconds."""
    with Session(database) as session, Watch(session) as watch:
        session.rows("BEGIN")
        plan = session.value(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT order_mgmt.{function}(%s)", name)[0]["Plan"]
        rows = session.value(ROWS)
        session.rows("COMMIT")
    return rows, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], watch.seconds, watch.cpu


def updates(shop, new_orders=1000):
    """From a version with all of the history, a thousand orders later."""
    lines = [f"| {shop.title}, {new_orders:,} orders later | rows read | blocks read | s | processor s |", "| --- " * 5 + "|"]
    with Session(shop.database) as session:
        session.rows(f"ALTER DATABASE {shop.database} SET order_mgmt.workers = off")
        for name, options in (("kept", {}), ("fixed", {"tune": False}), ("fixed_anew", {"tune": False})):
            session.rows("SELECT order_mgmt.create_model(%s, 'next_basket', %s)", name, json.dumps(options))
            session.rows("SELECT * FROM order_mgmt.train_model(%s)", name)
        session.rows(CAPTURE, new_orders)
        session.rows("VACUUM ANALYZE")
    for label, function, name in (("`update_model()`", "update_model", "kept"), ("`train_model()`", "train_model", "kept"),
                                  ("`update_model()`, tune off", "update_model", "fixed"),
                                  ("`train_model()`, tune off", "train_model", "fixed_anew")):
        rows, blocks, seconds, cpu = make_version(shop.database, function, name)
        lines.append(f"| {label} | {rows:,} | {blocks:,} | {seconds:.2f} | {cpu:.2f} |")
        print(lines[-1], flush=True)
    with Session(shop.database) as session:
        different = session.value("SELECT count(*) FROM (TABLE a EXCEPT TABLE b) AS d".replace(
            "TABLE a", "SELECT * FROM order_mgmt.predict_next_orders(NULL, 10, 'fixed')").replace(
            "TABLE b", "SELECT * FROM order_mgmt.predict_next_orders(NULL, 10, 'fixed_anew')"))
        for name in ("kept", "fixed", "fixed_anew"):
            session.rows("SELECT order_mgmt.drop_model(%s)", name)
    lines += ["", f"Of the predictions for all customers {different} differ between the update and the training with tune off.", ""]
    return lines, different == 0


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


def costs(shop):
    database, what, most_seconds = shop.database, shop.title, shop.seconds
    wanted = int(os.environ.get("PREDICTIONS", 1_000_000)) // (1 if database == "tafeng" else 10)
    watch, size = train(database, "blend", {})
    median, p99, cpu = latencies(database)
    met = watch.seconds <= most_seconds and p99 <= 2
    lines = ["| Cost of the blend | measured | bar |  |", "| --- | --- | --- | --- |",
             bar(f"{what}: training", f"{watch.seconds:.1f}", "s", f"≤ {most_seconds} s", watch.seconds <= most_seconds),
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
    return lines + [""], met and by_cpu >= 5000


class Shop(NamedTuple):
    database: str
    title: str
    unpack: Callable
    options: dict
    untils: tuple  # so that the orders before the last ones are predicted, and those before them
    seconds: int   # for a training


SHOPS = (Shop("tafeng", "Ta-Feng", unpack_tafeng, {}, ("2026-08-31", "2026-08-30"), 10),
         Shop("retail", "Online Retail", unpack_retail, RETAIL_COLUMNS, ("2011-11-01", "2011-09-01"), 60))

# Updates come last: they add orders.
PARTS = {"quality": compare, "earlier": earlier, "choices": choices, "costs": costs, "updates": updates}


def main():
    wanted = [name for name in PARTS if name in os.environ.get("ONLY", ",".join(PARTS)).split(",")]
    if not wanted:
        return 0
    texts, good = {}, True
    for name in wanted:
        texts[name] = [f"`ONLY={name} make bench-predict`. " + conditions(1).replace(
            ", 1 rounds", f", load average {os.getloadavg()[0]:.0f} at the beginning")]
    for shop in SHOPS:
        print(f"\n== {shop.title}", flush=True)
        make_shop(shop.database, shop.unpack, shop.options)
        for name in wanted:
            lines, met = PARTS[name](shop)
            texts[name] += lines
            good = good and met
        drop_database(shop.database)
    for name in wanted:
        write_document(f"bench-predict {name}", "\n".join(texts[name]), DOCUMENT)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
