"""Orders under way: latency at a steady rate, throughput at full speed, a consumer that is far behind."""
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from baselines import SkipLocked
from machine import PINNED, Pgbench, Session, Stopwatch, settle, turns, wait_until
from shops import OrderMgmt

RATE, PROBES = 500, 40    # orders a second, and how many of them are watched
POLL_MS = 1
WARM_UP = 3               # seconds


def percentile(values, percent):
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class Probe:
    """Captures orders at times drawn beforehand, while a second session looks until it sees each shipped.

    An order's time begins when its call was due, so a call that waits for the one before it counts in full.
    """

    def __init__(self, shop, per_second):
        self.caller, self.watcher = (Session(shop.database, PINNED) for _ in range(2))
        self.caller.rows(shop.capture)
        self.watcher.rows(shop.look)
        self.per_second = per_second

    def watch(self, seconds):
        """Milliseconds of each order."""
        captured = SimpleQueue()
        with ThreadPoolExecutor(1) as beside:
            times = beside.submit(self.see_shipped, captured)
            self.capture_for(seconds, captured)
            return times.result()

    def capture_for(self, seconds, captured):
        chance, due, end = random.Random(7), time.monotonic(), time.monotonic() + seconds
        while (due := due + chance.expovariate(self.per_second)) < end:
            time.sleep(max(due - time.monotonic(), 0))
            values = chance.randint(1, 1000), chance.randint(1, 1000), chance.randint(1, 9)
            captured.put((due, self.caller.rows("EXECUTE capture (%s, %s, %s)", *values)[0]))
        captured.put(None)

    def see_shipped(self, captured):
        times = []
        for due, order in iter(captured.get, None):
            while not self.watcher.value("EXECUTE look (%s, %s)", *order):
                time.sleep(0.00005)
            times.append((time.monotonic() - due) * 1000)
        return times

    def close(self):
        self.caller.close()
        self.watcher.close()


def with_history(shop, orders):
    """A shop that has shipped that many orders already."""
    shop.fresh()
    if shop.name == OrderMgmt.name:
        ship_backlog(shop, orders)
    else:
        shop.session.rows("SELECT add_orders(%s, now() - interval '1 hour', 'shipped')", orders)
    settle(shop.session)
    return shop


def ship_backlog(shop, orders):
    shop.add_backlog(orders)
    shop.start()
    shop.wait_for_all()


def start_workers(shop):
    """Those of order_mgmt wait on their latches all the time."""
    return [] if shop.name == OrderMgmt.name else shop.start(POLL_MS)


def stop_workers(shop, workers):
    """They may finish first, so that the next round finds nothing to do."""
    shop.wait_for_all(workers)
    for worker in workers:
        worker.stop()


# --- latency -------------------------------------------------------------------------------------


def steady(shop, seconds):
    """Times seen, and what server and workers used meanwhile, in % of a core."""
    workers = start_workers(shop)
    clients = Pgbench(shop.database, shop.capture_script, clients=4, rate=RATE - PROBES)
    probe = Probe(shop, PROBES)
    probe.watch(WARM_UP)
    watch = Stopwatch(shop.session, workers)
    times = probe.watch(seconds)
    watch.stop()
    probe.close()
    clients.stop()
    stop_workers(shop, workers)
    return times, 100 * watch.cpu / watch.seconds


def measure_latency(book, rounds, seconds, history):
    shops = [with_history(OrderMgmt(), history), with_history(SkipLocked(100), history)]
    for shop in turns(rounds, shops):
        times, cpu = steady(shop, seconds)
        book.note(f"{shop.name}: p50 ms", percentile(times, 50))
        book.note(f"{shop.name}: p99 ms", percentile(times, 99))
        book.note(f"{shop.name}: CPU %", cpu)
    report_latency(book, history, *(shop.name for shop in shops))
    for shop in shops:
        shop.drop()


def report_latency(book, history, ours, theirs):
    what, peer = f"Latency at {RATE} orders/s with {history:,} orders of history, ms", "SKIP LOCKED polling every 1 ms"
    for part, bar, ratio in (("p50", 1.5, None), ("p99", 4, 0.7)):
        book.limit(f"{what}: {part}", f"{ours}: {part} ms", at_most=bar)
        book.compare(f"{what}: {part}", f"{ours}: {part} ms", peer, f"{theirs}: {part} ms", at_most=ratio)
    book.compare("CPU of server and workers meanwhile, % of a core", f"{ours}: CPU %", peer, f"{theirs}: CPU %",
                 at_most=1)


# --- throughput ----------------------------------------------------------------------------------


def full_speed(shop, seconds):
    """Orders per second from the first capture to the last shipment, and the p99 of their own stamps."""
    workers = start_workers(shop)
    begin = shop.session.value("SELECT clock_timestamp()")
    Pgbench(shop.database, shop.capture_script, clients=4, seconds=seconds).finish()
    stop_workers(shop, workers)
    stamps = shop.stamps(begin)
    return len(stamps) / stamps[-1], shop.p99(begin)


def measure_throughput(book, rounds, seconds, history):
    shops = [with_history(OrderMgmt(), history), with_history(SkipLocked(100), history)]
    for shop in turns(rounds, shops):
        rate, p99 = full_speed(shop, seconds)
        book.note(f"{shop.name}: captured and shipped/s", rate)
        book.note(f"{shop.name}: p99 ms at full speed", p99)
    ours, theirs = (shop.name for shop in shops)
    book.compare("Captured and shipped per second, 4 connections at full speed", f"{ours}: captured and shipped/s",
                 theirs, f"{theirs}: captured and shipped/s", at_least=1.2)
    book.limit("p99 meanwhile, ms", f"{ours}: p99 ms at full speed", at_most=20)
    book.show_theirs("p99 meanwhile, ms", theirs, f"{theirs}: p99 ms at full speed")
    for shop in shops:
        shop.drop()


# --- a paused consumer ---------------------------------------------------------------------------


def with_sleeper(shop, orders):
    """A shop with a paused subscription that has missed every event of that many orders."""
    shop.fresh()
    shop.session.rows("CREATE FUNCTION public.ignore(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT'")
    shop.session.rows("SELECT order_mgmt.subscribe('sleeper', 'public.ignore')")
    shop.session.rows("SELECT order_mgmt.pause_consumer('sleeper')")
    ship_backlog(shop, orders)
    settle(shop.session)
    return shop


def look_at_queues(session):
    start = time.monotonic()
    session.rows("SELECT * FROM order_mgmt.queues")
    return (time.monotonic() - start) * 1000


def measure_paused(book, rounds, seconds, events):
    control = with_history(OrderMgmt("control"), events // 5)    # an order has five events
    behind = with_sleeper(OrderMgmt("behind"), events // 5)
    for shop in turns(rounds, (control, behind)):
        book.note(f"{shop.database}: captured and shipped/s", full_speed(shop, seconds)[0])
        book.note("queues, ms", look_at_queues(behind.session))
    book.compare(f"Captured and shipped per second while a paused consumer is {events:,} events behind",
                 "behind: captured and shipped/s", "no such consumer", "control: captured and shipped/s", at_least=0.95)
    book.limit("`SELECT * FROM order_mgmt.queues` then, ms", "queues, ms", at_most=10)
    catch_up(book, behind)
    for shop in (control, behind):
        shop.drop()


def catch_up(book, shop):
    """Resumed, the subscription goes through all it has missed; its handler does nothing."""
    pending = "SELECT pending FROM order_mgmt.queues WHERE consumer = 'sleeper'"
    missed, start = shop.session.value(pending), time.monotonic()
    shop.session.rows("SELECT order_mgmt.resume_consumer('sleeper')")
    wait_until(lambda: shop.session.value(pending) == 0, 900, "the subscription to catch up", pause=1)
    book.note("catching up: events/s", missed / (time.monotonic() - start))
    book.show("Events per second when it catches up, with a handler that does nothing", "catching up: events/s")
