"""Capture: one order a call over 1, 4 and 16 connections, and a thousand a call beside COPY."""
import io
import time

from contenders import OrderMgmt, SkipLocked, batches
from machine import Pgbench, wal_position, settle

BARS = {1: 1.0, 4: 1.05, 16: 1.1}
ONCE = ("plain", "order_mgmt without key")    # over one connection
COPIED = ("orders", "order_lines", "event_log")


def quiet_shop(name=None):
    """order_mgmt with nobody who handles what is captured, as the baseline's tables have nobody."""
    shop = OrderMgmt(name).fresh()
    shop.stop_workers()
    return shop


def capture_rate(shop, script, clients, seconds):
    settle(shop.session)
    start = wal_position(shop.session)
    bench = Pgbench(shop.database, script, clients=clients, seconds=seconds).finish()
    return bench.rate(), (wal_position(shop.session) - start) / bench.transactions()


def measure_capture(book, rounds, seconds):
    for _ in range(rounds):
        for clients in BARS:
            for name, make, script in (("order_mgmt", quiet_shop, OrderMgmt.keyed_script),
                                       ("one statement", SkipLocked().fresh, SkipLocked.capture_script),
                                       ("order_mgmt without key", quiet_shop, OrderMgmt.capture_script),
                                       ("plain", SkipLocked().fresh, SkipLocked.plain_script)):
                if name in ONCE and clients != 1:
                    continue
                shop = make()
                rate, wal_bytes = capture_rate(shop, script, clients, seconds)
                book.note(f"capture, {name}, {clients}: orders/s", rate)
                book.note(f"capture, {name}, {clients}: WAL bytes", wal_bytes)
                shop.drop()
    for clients, bar in BARS.items():
        book.compare(f"capture_order() with a key, {clients} connection{'s' * (clients > 1)}, orders/s",
                     f"capture, order_mgmt, {clients}: orders/s", "multi-CTE statement",
                     f"capture, one statement, {clients}: orders/s", at_least=bar)
    book.compare("capture_order() without a key, 1 connection, orders/s", "capture, order_mgmt without key, 1: orders/s",
                 "four plain INSERTs", "capture, plain, 1: orders/s")
    book.compare("WAL bytes of a capture without a key", "capture, order_mgmt without key, 1: WAL bytes",
                 "multi-CTE statement", "capture, one statement, 1: WAL bytes", at_most=0.8)
    book.compare("WAL bytes of a capture with a key", "capture, order_mgmt, 1: WAL bytes",
                 "multi-CTE statement", "capture, one statement, 1: WAL bytes")


def timed(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


def capture_many(book, orders, keyed):
    name = "with keys" if keyed else "without keys"
    shop = quiet_shop()
    calls = batches(orders, keyed=keyed)
    settle(shop.session)

    def capture():
        for call in calls:
            shop.session.rows("SELECT count(*) FROM order_mgmt.capture_orders(%s)", call)

    book.note(f"capture_orders, {name}: orders/s", orders / timed(capture))
    return shop


def copy_rows(book, source, orders):
    """What capture_orders() wrote into each table goes by COPY into the same tables of another database, a transaction each."""
    shop = quiet_shop("copied")
    data = {}
    for table in COPIED:
        data[table] = io.StringIO()
        rows = "l WHERE event_type = 'order_captured'" if table == "event_log" else "l"
        source.session.copy(f"COPY (SELECT l.* FROM order_mgmt.{table} AS {rows}) TO STDOUT", data[table])
        data[table].seek(0)
    settle(shop.session)
    seconds = sum(timed(lambda t=table: shop.session.copy(f"COPY order_mgmt.{t} FROM STDIN", data[t])) for table in COPIED)
    book.note("COPY: orders/s", orders / seconds)
    shop.drop()


def measure_capture_orders(book, rounds, orders):
    for _ in range(rounds):
        source = capture_many(book, orders, keyed=False)
        copy_rows(book, source, orders)
        source.drop()
        capture_many(book, orders, keyed=True).drop()
    for keys, bar in (("without keys", 0.6), ("with keys", None)):
        book.compare(f"capture_orders(), 1,000 a call, {keys}, orders/s", f"capture_orders, {keys}: orders/s",
                     "COPY into the same tables", "COPY: orders/s", at_least=bar)
