"""Five years of months beside three months: capture, drain, get_order(), list_orders() and the upkeep of it all."""
import time

from machine import Pgbench, run_file, settle, turns
from reads import PAGE, time_get_order, time_pages
from shops import OrderMgmt

FEW, MANY = 3, 60    # months
PAGES = 2000         # a second or two of them
HISTORY_TRANSACTIONS = 5 / 1000    # that history.sql says to have written an order


def pass_transactions(count):
    """The history's transactions must be older than the shop's own, or its consumers would have them before them."""
    Pgbench("postgres", "SELECT txid_current();\n", times=int(count)).finish()


def aged_shop(months, orders):
    shop = OrderMgmt(f"years_{months}").fresh()
    run_file(shop.database, "history.sql")
    shop.session.rows("SELECT bench.add_months(%s)", months)
    shop.session.rows("SELECT bench.add_history(%s, %s)", months, orders)
    shop.session.rows("SELECT bench.sample_orders()")
    shop.session.rows(f"PREPARE page (uuid) AS SELECT * FROM order_mgmt.list_orders(after => $1, page_size => {PAGE})")
    settle(shop.session)
    return shop


def time_maintenance(shop):
    start = time.perf_counter()
    shop.session.rows("SELECT * FROM order_mgmt.run_maintenance()")
    return (time.perf_counter() - start) * 1000


def measure_shop(book, months, shop, seconds, backlog):
    shop.pause()
    book.note(f"{months}: captures/s", Pgbench(shop.database, shop.capture_script, seconds=seconds).finish().rate())
    shop.add_backlog(backlog)
    settle(shop.session)
    book.note(f"{months}: drained/s", shop.drain().rate)
    book.note(f"{months}: maintenance ms", time_maintenance(shop))


def measure_reads(book, shops, seconds):
    """What takes less than a millisecond is measured in short turns: the machine is not as fast a minute later."""
    for months, shop in turns(2, shops):
        book.note(f"{months}: get_order() ms", time_get_order(shop, seconds))
    for (months, _), milliseconds in zip(shops, time_pages([(shop.session, None) for _, shop in shops], PAGES)):
        book.note(f"{months}: list_orders() ms", milliseconds)


def measure_years(book, rounds, seconds, orders, backlog):
    pass_transactions(orders * HISTORY_TRANSACTIONS + 1000)
    shops = tuple((months, aged_shop(months, orders)) for months in (FEW, MANY))
    for months, shop in turns(rounds, shops):
        measure_shop(book, months, shop, seconds, backlog)
    for _ in range(rounds):
        measure_reads(book, shops, seconds)
    for _, shop in shops:
        shop.drop()
    compare(book, orders)


def compare(book, orders):
    few = f"{FEW} months"
    for what, figure in (("`capture_order()`, 1 connection, orders/s", "captures/s"), ("drain, orders/s", "drained/s")):
        book.compare(f"{orders:,} orders in {MANY} months: {what}", f"{MANY}: {figure}", few, f"{FEW}: {figure}", at_least=0.95)
    for what, figure in (("`get_order()`, ms", "get_order() ms"), ("first page of `list_orders()`, ms", "list_orders() ms")):
        book.compare(f"{orders:,} orders in {MANY} months: {what}", f"{MANY}: {figure}", few, f"{FEW}: {figure}", at_most=1 / 0.95)
    book.show(f"`run_maintenance()` over {MANY} months, with nothing due, ms", f"{MANY}: maintenance ms")
