"""Reading: one order among sixty months and in one month, far and near pages, and what an idle database does."""
import statistics
import time

from contenders import OrderMgmt
from machine import Pgbench, Session, wal_position, run_file, settle, wait_until

PAGE = 50
PAGES = 10000
IDLE_SECONDS = 60
EXTRA = 5000    # orders beyond page 10,000


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
    script = "\\set n random(1, 5000)\nSELECT order_id FROM bench.sample WHERE n = :n \\gset\nSELECT order_mgmt.get_order(:order_id);\n"
    return Pgbench(shop.database, script, seconds=seconds, report=True).finish().number(r"^\s+([\d.]+)\s+\d+\s+SELECT order_mgmt.get_order")


def time_pages(shop, starts, calls=100):
    """Milliseconds of the page after each of the orders; they take turns, too."""
    times = [[] for _ in starts]
    for _ in range(calls):
        for order_id, of_page in zip(starts, times):
            start = time.perf_counter()
            shop.session.rows("EXECUTE page (%s)", order_id)
            of_page.append((time.perf_counter() - start) * 1000)
    return [statistics.median(of_page) for of_page in times]


def measure_reads(book, rounds, seconds, orders):
    one, sixty = old_shop(1, orders + EXTRA), old_shop(60, orders + EXTRA)
    sixty.session.rows(f"PREPARE page (uuid) AS SELECT * FROM order_mgmt.list_orders(after => $1, page_size => {PAGE})")
    last = sixty.session.value("SELECT order_id FROM order_mgmt.orders ORDER BY created_at DESC, order_id DESC OFFSET %s LIMIT 1",
                               PAGE * (orders // PAGE - 1) - 1)
    for _ in range(rounds):
        for shop, name in ((one, "1 partition"), (sixty, "60 partitions")):
            book.note(f"get_order, {name}: ms", time_get_order(shop, seconds))
        for name, milliseconds in zip(("first", "far"), time_pages(sixty, (None, last))):
            book.note(f"list_orders, {name} page: ms", milliseconds)
    book.compare(f"get_order(), {orders:,} orders in 60 monthly partitions, ms", "get_order, 60 partitions: ms", "1 partition",
                 "get_order, 1 partition: ms", at_most=1.2)
    book.compare(f"list_orders(), page {orders // PAGE:,} of {PAGE}, ms", "list_orders, far page: ms", "page 1",
                 "list_orders, first page: ms", at_most=1.1)
    for shop in (one, sixty):
        shop.drop()


# --- idle ----------------------------------------------------------------------------------------


def server_setting(session, name, value):
    session.rows(f"ALTER SYSTEM SET {name} = {value}")
    session.rows("SELECT pg_reload_conf()")


def stands_still(session, seconds):
    before = wal_position(session)
    time.sleep(seconds)
    return wal_position(session) == before


def measure_idle(book):
    """PostgreSQL's own timers write as well, so autovacuum rests, and WAL must have stood still before."""
    shop = OrderMgmt().fresh()
    shop.add_backlog(100)
    shop.start()
    shop.wait_for_all()
    shop.close()
    with Session("postgres") as session:
        server_setting(session, "autovacuum", "off")
        session.rows("CHECKPOINT")
        wait_until(lambda: stands_still(session, 16), 120, "PostgreSQL to have nothing to write")
        look = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
        transactions, wal = session.value(look, shop.database), wal_position(session)
        time.sleep(IDLE_SECONDS)
        book.note("idle: transactions", session.value(look, shop.database) - transactions)
        book.note("idle: WAL bytes", wal_position(session) - wal)
        server_setting(session, "autovacuum", "on")
    book.limit(f"Transactions of an idle database in {IDLE_SECONDS} s", "idle: transactions", at_most=0)
    book.limit("WAL bytes meanwhile", "idle: WAL bytes", at_most=0)
    shop.drop()
