"""What takes long: ten times the orders, and half an hour beside a held snapshot with the memory of the worker."""
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from drains import Snapshot, drained
from load import WARM_UP, Probe, percentile
from machine import Pgbench, turns
from shops import OrderMgmt

RATE, PROBES = 300, 20    # orders a second, and how many of them are watched
LOOK_SECONDS = 10


def measure_linear(book, rounds, few, many):
    for orders in turns(rounds, (few, many)):
        shop = OrderMgmt()
        book.note(f"{orders:,}: orders/s", drained(shop, lambda s, n=orders: s.add_backlog(n)).rate)
        shop.drop()
    book.compare(f"Drain of {many:,} orders, orders/s", f"{many:,}: orders/s",
                 f"drain of {few:,}", f"{few:,}: orders/s", at_least=0.9)


def worker_memory(shop):
    """Kilobytes that the database's workers have for themselves."""
    workers = shop.session.rows("SELECT pid FROM pg_stat_activity"
                                " WHERE backend_type = 'order_mgmt worker' AND datname = current_database()")
    status = (Path(f"/proc/{pid}/status").read_text() for pid, in workers)
    return sum(int(re.search(r"RssAnon:\s+(\d+)", text).group(1)) for text in status)


def watch_both(probes, minutes, after_each):
    """Times seen in each database; both are watched at the same moments."""
    times = {name: [] for name in probes}
    with ThreadPoolExecutor(len(probes)) as pool:
        list(pool.map(lambda probe: probe.watch(WARM_UP), probes.values()))
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            seen = pool.map(lambda probe: probe.watch(LOOK_SECONDS), probes.values())
            for name, some in zip(probes, seen):
                times[name] += some
            after_each()
    return times


def measure_long_snapshot(book, minutes):
    """Two databases at the same rate in the same minutes; in one of them somebody holds a snapshot."""
    shops = {name: OrderMgmt(name).fresh() for name in ("held", "control")}
    snapshot = Snapshot("held")
    clients = [Pgbench(shop.database, shop.capture_script, clients=4, rate=RATE - PROBES, seconds=60 * minutes + 600)
               for shop in shops.values()]
    probes = {name: Probe(shop, PROBES) for name, shop in shops.items()}
    times = watch_both(probes, minutes, lambda: book.figures["memory, kB"].append(worker_memory(shops["held"])))
    for client in clients:
        client.stop()
    snapshot.release()
    for name, shop in shops.items():
        book.note(f"{name}: p50 ms", percentile(times[name], 50))
        book.note(f"{name}: p99 ms", percentile(times[name], 99))
        probes[name].close()
        shop.drop()
    report_long_snapshot(book, minutes)


def report_long_snapshot(book, minutes):
    for part, bar in (("p50", None), ("p99", 1.3)):
        book.compare(f"{part} of {minutes} minutes at {RATE} orders/s beside a held snapshot, ms", f"held: {part} ms",
                     "another database without, at the same time", f"control: {part} ms", at_most=bar)
    memory = book.figures["memory, kB"]
    tenth = max(len(memory) // 10, 1)
    first, last = statistics.mean(memory[tenth:2 * tenth] or memory), statistics.mean(memory[-tenth:])
    book.figures["growth"] = [last / first]
    book.show("Memory of the worker meanwhile, kB", "memory, kB")
    book.limit("… in the last tenth of the time ÷ in the second", "growth", at_most=1.1)
