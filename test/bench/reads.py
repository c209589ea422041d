"""Reading one order among sixty months and in one month, near and far pages; and what an idle database does."""
import statistics
import time

from load import ship_backlog
from machine import Pgbench, Session, run_file, settle, turns, wait_until, wal_position
from shops import OrderMgmt

PAGE = 50
EXTRA = 1000            # orders beyond the last page that is looked at
IDLE_SECONDS = 60
GET_ORDER = r"""
\set n random(1, 5000)
SELECT order_id FROM bench.sample WHERE n = :n \gset
SELECT order_mgmt.get_order(:order_id);
"""


def old_shop(months, orders):
    shop = OrderMgmt(f"months_{months}").fresh()
    shop.stop_workers()
    run_file(shop.database, "history.sql")
    shop.session.rows("SELECT bench.add_months(%s)", months)
    shop.session.rows("SELECT bench.add_history(%s, %s)", months, orders)
    shop.session.rows("SELECT bench.sample_orders()")
    settle(shop.session)
    return shop


def time_get_order(shop, seconds):
    """Milliseconds of the call alone, as pgbench reports them."""
    run = Pgbench(shop.database, GET_ORDER, seconds=seconds, report=True).finish()
    return run.number(r"^\s+([\d.]+)\s+\d+\s+SELECT order_mgmt.get_order")


def time_pages(places, calls=100):
    """Milliseconds of the page after an order, for each pair of session and order; they take turns, too."""
    times = [[] for _ in places]
    for _ in range(calls):
        for (session, order_id), of_place in zip(places, times):
            start = time.perf_counter()
            session.rows("EXECUTE page (%s)", order_id)
            of_place.append((time.perf_counter() - start) * 1000)
    return [statistics.median(of_place) for of_place in times]


def measure_reads(book, rounds, seconds, orders):
    one, sixty = old_shop(1, orders + EXTRA), old_shop(60, orders + EXTRA)
    sixty.session.rows("PREPARE page (uuid) AS SELECT * FROM order_mgmt.list_orders("
                       f"after => $1, page_size => {PAGE})")
    before_far_page = sixty.session.value("SELECT order_id FROM order_mgmt.orders"
                                          " ORDER BY created_at DESC, order_id DESC OFFSET %s LIMIT 1",
                                          orders - PAGE - 1)
    for name, shop in turns(rounds, (("one partition", one), ("sixty partitions", sixty))):
        book.note(f"{name}: ms", time_get_order(shop, seconds))
    for _ in range(rounds):
        places = [(sixty.session, None), (sixty.session, before_far_page)]
        for name, milliseconds in zip(("first", "far"), time_pages(places)):
            book.note(f"{name} page: ms", milliseconds)
    book.compare(f"`get_order()`, {orders:,} orders in 60 monthly partitions, ms", "sixty partitions: ms",
                 "1 partition", "one partition: ms", at_most=1.2)
    book.compare(f"`list_orders()`, page {orders // PAGE:,} of {PAGE}, ms", "far page: ms", "page 1", "first page: ms",
                 at_most=1.1)
    for shop in (one, sixty):
        shop.drop()


# --- idle ----------------------------------------------------------------------------------------


def set_autovacuum(session, value):
    session.rows(f"ALTER SYSTEM SET autovacuum = {value}")
    session.rows("SELECT pg_reload_conf()")


def stands_still(session, seconds):
    before = wal_position(session)
    time.sleep(seconds)
    return wal_position(session) == before


def measure_idle(book):
    """PostgreSQL's own timers write as well, so autovacuum is off, and WAL must have stood still before."""
    shop = OrderMgmt().fresh()
    ship_backlog(shop, 100)
    shop.close()
    with Session("postgres") as session:
        set_autovacuum(session, "off")
        session.rows("CHECKPOINT")
        wait_until(lambda: stands_still(session, 16), 120, "PostgreSQL to have nothing to write")
        look = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
        transactions, wal = session.value(look, shop.database), wal_position(session)
        time.sleep(IDLE_SECONDS)
        book.note("idle: transactions", session.value(look, shop.database) - transactions)
        book.note("idle: WAL bytes", wal_position(session) - wal)
        set_autovacuum(session, "on")
    book.limit(f"Transactions of an idle database in {IDLE_SECONDS} s", "idle: transactions", at_most=0)
    book.limit("WAL bytes meanwhile", "idle: WAL bytes", at_most=0)
    shop.drop()
