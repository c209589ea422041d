"""Drains of a backlog: one line, five lines, captured singly, beside a held snapshot; WAL and dead rows of them."""
from itertools import product

from baselines import Pgq, SetBased, SkipLocked
from machine import Session, settle, turns
from shops import OrderMgmt

BARS = {"SKIP LOCKED, batch 1,000": 1.5, "SKIP LOCKED, batch 100": None, "set-based": 0.5, "PgQ": None}
ACCOUNTS = 1000
CHANCE = 1.01    # keys are drawn, so how many different ones a batch has is known no better
KINDS = ("uniform", "Zipf")    # of keys


class Snapshot:
    """A session that looked once, and has not ended its transaction since."""

    def __init__(self, database):
        self.session = Session(database)
        self.session.connection.autocommit = False
        self.session.connection.set_session(isolation_level="REPEATABLE READ")
        self.session.rows("SELECT 1")

    def release(self):
        self.session.close()


def drained(shop, make_backlog, held=False):
    """A drain of a fresh database, if wanted beside a snapshot from before the first order."""
    shop.fresh()
    snapshot = Snapshot(shop.database) if held else None
    make_backlog(shop)
    settle(shop.session)
    drain = shop.drain()
    if held:
        snapshot.release()
    return drain


def note(book, name, drain):
    book.note(f"{name}: orders/s", drain.rate)
    book.note(f"{name}: WAL bytes", drain.wal_bytes)
    book.note(f"{name}: CPU µs", drain.cpu_us)


# --- beside the baselines ------------------------------------------------------------------------


def drain_counted(book, shop, orders):
    """Our drain, and what it took in batches and dead rows."""
    def make_backlog(shop):
        shop.add_backlog(orders)
        shop.batches_before, shop.dead_before = shop.batch_count(), shop.dead_rows()

    drain = drained(shop, make_backlog)
    batch = orders / (shop.batch_count() - shop.batches_before)
    shop.stop_workers()
    dead = {table: (count - shop.dead_before.get(table, 0)) / orders for table, count in shop.dead_rows().items()}
    book.note("batch size", batch)
    book.note("netting", batch / (ACCOUNTS * (1 - (1 - 1 / ACCOUNTS) ** batch)))
    book.note("dead in orders", dead["orders"])
    book.note("dead in accounts and stock", dead["accounts"] + dead["stock"])
    book.note("dead elsewhere", round(dead["elsewhere"], 3))    # some row changes when tables take turns
    return drain


def measure_drain(book, rounds, orders):
    for shop in turns(rounds, (OrderMgmt(), SkipLocked(1000), SkipLocked(100), SetBased(), Pgq())):
        if shop.name == OrderMgmt.name:
            drain = drain_counted(book, shop, orders)
        else:
            drain = drained(shop, lambda s: s.add_backlog(orders))
        note(book, shop.name, drain)
        shop.drop()
    report_drain(book, orders)
    report_dead_rows(book)


def report_drain(book, orders):
    ours = f"{OrderMgmt.name}: orders/s"
    for name, bar in BARS.items():
        book.compare(f"Drain of {orders:,} orders, orders/s", ours, name, f"{name}: orders/s", at_least=bar)
    book.figures["worst"] = [min(book.figures[ours]) / book.median(ours)]
    book.limit("Worst of these drains ÷ their median", "worst", at_least=0.8)
    for name in BARS:
        book.compare("CPU µs per order of it", f"{OrderMgmt.name}: CPU µs", name, f"{name}: CPU µs")
    book.limit("WAL bytes per order of it", f"{OrderMgmt.name}: WAL bytes", at_most=700)
    for name in BARS:
        book.show_theirs("WAL bytes per order of it", name, f"{name}: WAL bytes")
    book.show("Orders per batch of it", "batch size")


def report_dead_rows(book):
    netting = book.median("netting")
    book.limit("Dead rows per order of it: in `orders`", "dead in orders", at_most=2)
    book.limit(f"… in `accounts` and `stock`; a batch has {netting:.2f} orders per row that it changes",
               "dead in accounts and stock", at_most=4 / netting * CHANCE)
    book.limit("… in all other tables", "dead elsewhere", at_most=0)


# --- order_mgmt with other orders ----------------------------------------------------------------


def measure_lines(book, rounds, orders):
    kinds = ("one line", {}), ("five lines", {"lines": 5, "zipf": True, "refused": 10})
    for name, kind in turns(rounds, kinds):
        shop = OrderMgmt()
        note(book, name, drained(shop, lambda s, k=kind: s.add_backlog(orders, **k)))
        shop.drop()
    book.compare(f"Drain of {orders:,} orders of 5 lines, Zipf keys, one in ten refused, orders/s",
                 "five lines: orders/s", "orders of one line", "one line: orders/s", at_least=0.6)
    book.show("WAL bytes per order of it", "five lines: WAL bytes")


def measure_single(book, rounds, orders):
    """Captured order by order, so that the log has a row per order and not one per hundred."""
    for _ in range(min(rounds, 2)):
        shop = OrderMgmt()
        note(book, "captured singly", drained(shop, lambda s: s.add_single(orders)))
        shop.drop()
    book.show("Drain of orders captured one by one, orders/s", "captured singly: orders/s")
    book.show("WAL bytes per order of it", "captured singly: WAL bytes")


# --- beside a held snapshot ----------------------------------------------------------------------


def measure_snapshot(book, rounds, orders):
    for kind, held in turns(rounds, tuple(product(KINDS, (False, True)))):
        shop = OrderMgmt()
        drain = drained(shop, lambda s, k=kind: s.add_backlog(orders, zipf=k == "Zipf"), held)
        name = f"{kind}, {'held' if held else 'free'}"
        note(book, name, drain)
        book.note(f"{name}: last to first tenth", drain.last_to_first)
        shop.drop()
    what = f"Drain of {orders:,} orders beside a held snapshot"
    for kind in KINDS:
        book.compare(f"{what}, {kind} keys, orders/s", f"{kind}, held: orders/s",
                     "without snapshot", f"{kind}, free: orders/s", at_least=0.9)
        book.limit("Rate of its last tenth ÷ rate of its first", f"{kind}, held: last to first tenth", at_least=0.9)
        book.compare("CPU µs per order of it", f"{kind}, held: CPU µs", "without snapshot", f"{kind}, free: CPU µs")
    for shop in (SkipLocked(1000), Pgq()):
        measure_peer_beside_snapshot(book, shop, orders, what)


def measure_peer_beside_snapshot(book, shop, orders, what):
    """Once: it shows what a held snapshot does to queues of rows."""
    book.note(f"{shop.name}, held: orders/s", drained(shop, lambda s: s.add_backlog(orders), held=True).rate)
    book.show_theirs(f"{what}, uniform keys, orders/s", shop.name, f"{shop.name}, held: orders/s")
    shop.drop()
