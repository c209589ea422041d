"""What takes long: ten times the orders, and half an hour beside a held snapshot with the memory of the workers."""
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from contenders import OrderMgmt
from drains import drained
from load import WARM_UP, Probe, percentile
from machine import Pgbench, Session

RATE, PROBES = 300, 20


def measure_linear(book, rounds, few, many):
    for _ in range(rounds):
        for orders in (few, many):
            book.note(f"drain of {orders:,}: orders/s", drained(shop := OrderMgmt(), lambda s: s.add_backlog(orders)).rate)
            shop.drop()
    book.compare(f"Drain of {many:,} orders, orders/s", f"drain of {many:,}: orders/s", f"drain of {few:,}", f"drain of {few:,}: orders/s",
                 at_least=0.9)


def worker_memory(shop):
    """Kilobytes that the database's workers have for themselves."""
    pids = shop.session.rows("SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = current_database()")
    return sum(int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) for pid, in pids)


def measure_long_snapshot(book, minutes):
    """Two databases at the same rate in the same minutes; in one of them somebody holds a snapshot."""
    shops = {"held": OrderMgmt("held").fresh(), "control": OrderMgmt("control").fresh()}
    snapshot = Session("held")
    snapshot.connection.autocommit = False
    snapshot.connection.set_session(isolation_level="REPEATABLE READ")
    snapshot.rows("SELECT 1")
    clients = [Pgbench(shop.database, shop.capture_script, clients=4, rate=RATE - PROBES, seconds=7200) for shop in shops.values()]
    probes = {name: Probe(shop) for name, shop in shops.items()}
    times = {name: [] for name in shops}
    pool = ThreadPoolExecutor(len(shops))
    list(pool.map(lambda name: probes[name].watch(WARM_UP), shops))
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        for name, some in zip(shops, pool.map(lambda name: probes[name].watch(10), shops)):
            times[name] += some
        book.figures["memory, kB"].append(worker_memory(shops["held"]))
    for client in clients:
        client.stop()
    for name, shop in shops.items():
        book.note(f"{name}: p99 ms", percentile(times[name], 0.99))
    report_long_snapshot(book, minutes)
    snapshot.close()
    for name, shop in shops.items():
        probes[name].close()
        shop.drop()


def report_long_snapshot(book, minutes):
    book.compare(f"p99 of {minutes} minutes at {RATE} orders/s beside a held snapshot, ms", "held: p99 ms",
                 "a database without it, at the same time", "control: p99 ms", at_most=1.3)
    memory = book.figures["memory, kB"]
    tenth = max(len(memory) // 10, 1)
    book.figures["growth"] = [(sum(memory[-tenth:]) / tenth) / (sum(memory[tenth:2 * tenth] or memory) / tenth)]
    book.show("Memory of the worker, kB", "memory, kB")
    book.limit("Memory in the last tenth of the time ÷ in the second", "growth", at_most=1.1)
