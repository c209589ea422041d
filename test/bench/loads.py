"""Loading a CSV file, beside COPY of the same rows in shape, and beside what one writes with COPY and SQL."""
import random
import re
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from baselines import Baseline
from machine import WORK, settle, turns, wait_until
from shops import PATIENCE, OrderMgmt

TABLES = ("orders", "order_lines", "event_log")
HEADER = "order_ref,customer_id,product_id,quantity,unit_price,created_at\n"
LOOK = "SELECT status, rows_loaded, rows_rejected, error FROM order_mgmt.loads WHERE load_id = %s"
LOADERS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt loader'"


class Staged(Baseline):
    """COPY into text columns, checks in SQL, INSERT … SELECT."""
    name, files = "staged", ("staged.sql",)


def make_file(name, orders, lines=1, shuffled=False):
    """Orders of the last ten months; one in a thousand has an impossible quantity."""
    chance, first = random.Random(orders), datetime.now(timezone.utc) - timedelta(days=280)
    rows = []
    for n in range(orders):
        at = (first + n * timedelta(days=279) / orders).strftime("%Y-%m-%d %H:%M:%S+00")
        customer = chance.randint(1, 1000)
        for line in range(lines):
            quantity = "many" if n % 1000 == 999 and line == 0 else chance.randint(1, 9)
            rows.append(f"ORD-{n:09},{customer},{chance.randint(1, 1000)},{quantity},{chance.randint(100, 9999) / 100},{at}\n")
    if shuffled:
        chance.shuffle(rows)
    WORK.mkdir(exist_ok=True)
    WORK.chmod(0o777)
    path = WORK / name
    path.write_text(HEADER + "".join(rows))
    path.chmod(0o644)
    return path, len(rows)


class Watched:
    """A load that is running, and the most memory that its process has had for itself."""

    def __init__(self, shop, path, mode):
        self.session, self.peak = shop.session, 0
        self.id = shop.session.value("SELECT order_mgmt.load_orders_csv(%s, %s)", str(path), mode)
        self.database = shop.database

    def has_ended(self):
        for pid, in self.session.rows(LOADERS):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            self.peak = max(self.peak, int(re.search(r"RssAnon:\s+(\d+)", status).group(1)))
        status, self.loaded, self.rejected, error = self.session.rows(LOOK, self.id)[0]
        if status == "failed":
            raise RuntimeError(error)
        return status == "done"

    def wait(self):
        wait_until(self.has_ended, PATIENCE, "a load", pause=0.02)
        return self


def fresh_shop(name=None):
    shop = OrderMgmt(name).fresh()
    wait_until(lambda: shop.session.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker'"
                                          " AND datname = %s", shop.database) > 0, 20, "a worker")
    return shop


def load_history(book, name, path, rows, keep=False):
    shop = fresh_shop()
    settle(shop.session)
    start = time.monotonic()
    load = Watched(shop, path, "history").wait()
    book.note(f"{name}: rows/s", rows / (time.monotonic() - start))
    book.note(f"{name}: memory, MB", load.peak / 1024)
    assert load.loaded + load.rejected == rows and load.rejected > 0, "not all rows are accounted for"
    if keep:
        for table in TABLES:
            (WORK / table).unlink(missing_ok=True)
            shop.session.rows(f"COPY (SELECT * FROM order_mgmt.{table}) TO '{WORK / table}'")
    shop.drop()


def copy_in_shape(book, rows):
    """What the load has written, by COPY into the same tables with the same indexes and constraints."""
    months, _ = make_file("months.csv", 1000)
    shop = fresh_shop("copied")
    Watched(shop, months, "history").wait()
    shop.session.rows("TRUNCATE " + ", ".join(f"order_mgmt.{table}" for table in TABLES))
    settle(shop.session)
    start = time.monotonic()
    for table in TABLES:
        shop.session.rows(f"COPY order_mgmt.{table} FROM '{WORK / table}'")
    book.note("COPY: rows/s", rows / (time.monotonic() - start))
    shop.drop()


def load_staged(book, path, rows):
    shop = Staged().fresh()
    settle(shop.session)
    start = time.monotonic()
    shop.session.rows(f"COPY stage (order_ref, customer_id, product_id, quantity, unit_price, created_at) FROM '{path}'"
                      " (FORMAT csv, HEADER)")
    shop.session.rows("ANALYZE stage")
    shop.session.rows("SELECT load_stage()")
    book.note("staged: rows/s", rows / (time.monotonic() - start))
    shop.drop()


def load_captured(book, path, rows):
    shop = fresh_shop()
    settle(shop.session)
    start = time.monotonic()
    Watched(shop, path, "capture").wait()
    wait_until(lambda: shop.session.value("SELECT count(*) FROM order_mgmt.orders WHERE status = 'captured'") == 0,
               PATIENCE, "the orders of a load")
    book.note("captured: rows/s", rows / (time.monotonic() - start))
    shop.drop()


def measure_loads(book, rounds, orders):
    path, rows = make_file("orders.csv", orders)
    mixed, mixed_rows = make_file("mixed.csv", orders // 3, lines=3, shuffled=True)
    load_history(book, "for COPY", path, rows, keep=True)
    steps = (lambda: load_history(book, "history", path, rows), lambda: copy_in_shape(book, rows),
             lambda: load_staged(book, path, rows))
    for step in turns(rounds, steps):
        step()
    load_history(book, "mixed", mixed, mixed_rows)
    load_captured(book, path, rows)
    report_loads(book, orders)


def report_loads(book, orders):
    what = f"`load_orders_csv()`, history, {orders:,} orders of one line, rows/s"
    book.compare(what, "history: rows/s", "COPY into the same tables, in shape", "COPY: rows/s", at_least=0.7)
    book.compare(what, "history: rows/s", "COPY into text, SQL checks, INSERT … SELECT", "staged: rows/s", at_least=2.5)
    book.show("Three rows an order, in any order, rows/s", "mixed: rows/s")
    book.show("In mode capture, until the last order is shipped, rows/s", "captured: rows/s")
    book.figures["memory"] = book.figures["history: memory, MB"] + book.figures["mixed: memory, MB"]
    book.limit("Memory of the loader, MB", "memory", at_most=64)
