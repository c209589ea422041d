"""Capture: one order a call over 1, 4 and 16 connections, and a thousand a call beside COPY."""
import io
import time
from itertools import product

from backlogs import batches
from baselines import SkipLocked
from machine import Pgbench, Stopwatch, settle, turns
from shops import OrderMgmt

BARS = {1: 1.0, 4: 1.05, 16: 1.1}    # by number of connections
COPIED = ("orders", "order_lines", "event_log")


def quiet_shop(name=None):
    """order_mgmt with nobody who handles what is captured, as the baseline's tables have nobody."""
    shop = OrderMgmt(name).fresh()
    shop.stop_workers()
    return shop


CONTENDERS = {
    "order_mgmt": (quiet_shop, OrderMgmt.keyed_script),
    "one statement": (lambda: SkipLocked().fresh(), SkipLocked.capture_script),
    "order_mgmt without key": (quiet_shop, OrderMgmt.capture_script),
    "plain": (lambda: SkipLocked().fresh(), SkipLocked.plain_script),
}


def capture_for(book, name, clients, seconds):
    make, script = CONTENDERS[name]
    shop = make()
    settle(shop.session)
    run = Pgbench(shop.database, script, clients=clients, seconds=seconds).finish()
    book.note(f"{name}, {clients}: orders/s", run.rate())
    shop.drop()


def count_costs(book, name, orders, clients=16):
    """WAL by number of orders and not by time: the full images of pages are shared by all of them."""
    make, script = CONTENDERS[name]
    shop = make()
    settle(shop.session)
    watch = Stopwatch(shop.session)
    Pgbench(shop.database, script, clients=clients, times=orders // clients).finish()
    watch.stop()
    book.note(f"capture, {name}: WAL bytes", watch.wal / orders)
    book.note(f"capture, {name}: CPU µs", watch.cpu / orders * 1e6)
    shop.drop()


def measure_capture(book, rounds, seconds, orders):
    pairs = tuple(product(BARS, ("order_mgmt", "one statement")))
    for clients, name in turns(rounds, (*pairs, (1, "order_mgmt without key"), (1, "plain"))):
        capture_for(book, name, clients, seconds)
    for name in turns(rounds, ("order_mgmt", "order_mgmt without key", "one statement")):
        count_costs(book, name, orders)
    report_capture(book)


def report_capture(book):
    peer, key, no_key = "multi-CTE statement", "order_mgmt", "order_mgmt without key"
    for clients, bar in BARS.items():
        book.compare(f"`capture_order()` with a key, {clients} connection{'s' * (clients > 1)}, orders/s",
                     f"{key}, {clients}: orders/s", peer, f"one statement, {clients}: orders/s", at_least=bar)
    what = "`capture_order()` without a key, 1 connection, orders/s"
    book.compare(what, f"{no_key}, 1: orders/s", peer, "one statement, 1: orders/s")
    book.compare(what, f"{no_key}, 1: orders/s", "four plain INSERTs", "plain, 1: orders/s")
    for name, keys, bar in ((no_key, "without a key", 0.8), (key, "with a key", None)):
        book.compare(f"WAL bytes of a capture {keys}", f"capture, {name}: WAL bytes", peer, "capture, one statement: WAL bytes",
                     at_most=bar)
        book.compare(f"CPU µs of a capture {keys}", f"capture, {name}: CPU µs", peer, "capture, one statement: CPU µs")


# --- many orders a call --------------------------------------------------------------------------


def timed(work, *arguments):
    start = time.monotonic()
    work(*arguments)
    return time.monotonic() - start


def capture_many(book, name, orders, keyed):
    """The orders stand ready as JSON before the clock starts. Leaves the shop, with what was captured."""
    calls = list(batches(orders, keyed=keyed))
    shop = quiet_shop()
    settle(shop.session)
    statement = "SELECT count(*) FROM order_mgmt.capture_orders(%s)"
    seconds = sum(timed(shop.session.rows, statement, call) for call in calls)
    book.note(f"{name}: orders/s", orders / seconds)
    return shop


def rows_of(session, table):
    file = io.StringIO()
    session.copy(f"COPY (SELECT * FROM order_mgmt.{table}"
                 f"{' WHERE order_ids IS NOT NULL' if table == 'event_log' else ''}) TO STDOUT", file)
    file.seek(0)
    return file


def copy_rows(book, source, orders):
    """What capture_orders() wrote goes into the same tables of another database, a COPY and a transaction each."""
    data = {table: rows_of(source.session, table) for table in COPIED}
    shop = quiet_shop("copied")
    settle(shop.session)
    seconds = sum(timed(shop.session.copy, f"COPY order_mgmt.{table} FROM STDIN", file) for table, file in data.items())
    book.note("COPY: orders/s", orders / seconds)
    shop.drop()


def measure_capture_orders(book, rounds, orders):
    for _ in range(rounds):
        source = capture_many(book, "without keys", orders, keyed=False)
        copy_rows(book, source, orders)
        source.drop()
        capture_many(book, "with keys", orders, keyed=True).drop()
    for keys, bar in (("without keys", 0.6), ("with keys", None)):
        book.compare(f"`capture_orders()`, 1,000 a call, {keys}, orders/s", f"{keys}: orders/s",
                     "COPY into the same tables", "COPY: orders/s", at_least=bar)
