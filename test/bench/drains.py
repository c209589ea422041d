"""Drains of a backlog: one line, five lines, held snapshots, WAL bytes, dead rows."""
from contenders import OrderMgmt, Pgq, SetBased, SkipLocked
from machine import Session, settle

PEERS = ("SKIP LOCKED, batch 1,000", "SKIP LOCKED, batch 100", "set-based", "PgQ")
SNAPSHOT_KINDS = {"uniform": False, "Zipf": True}


def drained(shop, backlog, held=False):
    """A drain of a fresh database, beside a snapshot that was there before the first order."""
    shop.fresh()
    snapshot = Session(shop.database) if held else None
    if held:
        snapshot.connection.autocommit = False
        snapshot.connection.set_session(isolation_level="REPEATABLE READ")
        snapshot.rows("SELECT 1")
    backlog(shop)
    settle(shop.session)
    drain = shop.drain()
    if held:
        snapshot.close()
    return drain


def note_ours(book, shop, orders):
    """One line, uniform keys: the drain, and what else is counted in it."""
    drain = drained(shop, lambda s: count_before(s, orders))
    batches = shop.batch_count() - shop.batches_before
    shop.stop_workers()
    dead = shop.dead_rows()
    for where in ("orders", "accounts", "stock", "elsewhere"):
        made = dead.get(where, 0) - (shop.dead_before.get(where, 0) if where != "orders" else 0)
        book.note(f"dead rows, {where}", made / orders)
    batch = orders / max(batches, 1)
    touched = 1000 * (1 - (1 - 1 / 1000) ** batch)
    book.note("netting", batch / touched)
    book.note("batch size", batch)
    return drain


def count_before(shop, orders):
    shop.dead_before, shop.batches_before = shop.dead_rows(), shop.batch_count()
    shop.add_backlog(orders)


def note(book, name, drain, cost=True):
    book.note(f"{name}: orders/s", drain.rate)
    if cost:
        book.note(f"{name}: WAL bytes", drain.wal_bytes)
        book.note(f"{name}: CPU µs", drain.cpu_us)


def measure_drain(book, rounds, orders):
    for _ in range(rounds):
        for shop in (OrderMgmt(), SkipLocked(1000), SkipLocked(100), SetBased(), Pgq()):
            drain = note_ours(book, shop, orders) if shop.name == OrderMgmt.name else drained(shop, lambda s: s.add_backlog(orders))
            note(book, shop.name, drain)
            shop.drop()
    report_drain(book, orders)
    report_dead_rows(book)


def report_drain(book, orders):
    ours, bars = OrderMgmt.name, {"SKIP LOCKED, batch 1,000": 1.5, "set-based": 0.5}
    for name in PEERS:
        book.compare(f"Drain of {orders:,} orders, orders/s", f"{ours}: orders/s", name, f"{name}: orders/s", at_least=bars.get(name))
    rates = book.figures[f"{ours}: orders/s"]
    book.figures["worst"] = [min(rates) / book.median(f"{ours}: orders/s")]
    book.limit("Worst of these drains ÷ their median", "worst", at_least=0.8)
    for name in PEERS:
        book.compare("CPU µs per order of it", f"{ours}: CPU µs", name, f"{name}: CPU µs")
    book.limit("WAL bytes per order of it", f"{ours}: WAL bytes", at_most=700)
    for name in PEERS:
        book.show_theirs("WAL bytes per order of it", name, f"{name}: WAL bytes")
    book.show("Orders per batch of it", "batch size")


def report_dead_rows(book):
    book.limit("Dead rows per order of it: in orders", "dead rows, orders", at_most=2)
    book.figures["dead rows, netted"] = [
        a + s for a, s in zip(book.figures["dead rows, accounts"], book.figures["dead rows, stock"])]
    netting = book.median("netting")
    book.limit(f"… in accounts and stock, where a batch has {netting:.2f} orders per row it changes", "dead rows, netted", at_most=4 / netting)
    book.figures["dead rows, elsewhere, rounded"] = [round(n, 3) for n in book.figures["dead rows, elsewhere"]]
    book.limit("… in all other tables", "dead rows, elsewhere, rounded", at_most=0)


def measure_lines(book, rounds, orders):
    for _ in range(rounds):
        note(book, "one line", drained(shop := OrderMgmt(), lambda s: s.add_backlog(orders)), cost=False)
        note(book, "five lines", drained(shop, lambda s: s.add_backlog(orders, lines=5, zipf=True, refused=10)))
        shop.drop()
    book.compare(f"Drain of {orders:,} orders of 5 lines, Zipf keys, one in ten refused, orders/s",
                 "five lines: orders/s", "orders of one line", "one line: orders/s", at_least=0.6)
    book.show("WAL bytes per order of it", "five lines: WAL bytes")


def measure_snapshot(book, rounds, orders):
    for _ in range(rounds):
        for kind, zipf in SNAPSHOT_KINDS.items():
            for held in (False, True):
                drain = drained(shop := OrderMgmt(), lambda s: s.add_backlog(orders, zipf=zipf), held)
                name = f"{kind}, {'held' if held else 'free'}"
                book.note(f"{name}: orders/s", drain.rate)
                book.note(f"{name}: last to first tenth", drain.last_to_first)
                shop.drop()
    for kind in SNAPSHOT_KINDS:
        book.compare(f"Drain of {orders:,} orders beside a held snapshot, {kind} keys, orders/s", f"{kind}, held: orders/s",
                     "without snapshot", f"{kind}, free: orders/s", at_least=0.9)
        book.limit("Rate of its last tenth ÷ rate of its first", f"{kind}, held: last to first tenth", at_least=0.9)
    measure_snapshot_peers(book, orders)


def measure_snapshot_peers(book, orders):
    """Once: they are there to show what a held snapshot does to queues of rows."""
    for shop in (SkipLocked(1000), Pgq()):
        drain = drained(shop, lambda s: s.add_backlog(orders), held=True)
        book.note(f"{shop.name}, held: orders/s", drain.rate)
        book.show_theirs(f"Drain of {orders:,} orders beside a held snapshot, uniform keys, orders/s", shop.name, f"{shop.name}, held: orders/s")
        shop.drop()


def measure_single(book, rounds, orders):
    """A backlog captured order by order: the log has a row an order, not a row of 112."""
    for _ in range(min(rounds, 2)):
        note(book, "captured singly", drained(shop := OrderMgmt(), lambda s: s.add_single(orders)))
        shop.drop()
    book.show("Drain of orders captured one by one, orders/s", "captured singly: orders/s")
    book.show("WAL bytes per order of it", "captured singly: WAL bytes")
