"""Archiving a month and bringing it back, beside COPY through zstd; and pg_partman over the same tables."""
import time

from machine import WORK, Session, drop_database, make_database, run_file, settle
from shops import OrderMgmt
from years import HISTORY_TRANSACTIONS, pass_transactions

TABLES = ("event_log", "orders", "order_lines")
MONTHS = 3      # the history's; the first of them is archived
LEAVES = """SELECT c.oid::regclass::text, pg_table_size(c.oid), pg_total_relation_size(c.oid)
              FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname = 'order_mgmt' AND c.relkind = 'r' AND c.relname = ANY (%s)"""
KEYS = {"event_log": "lxid, event_id, at", "orders": "created_at, order_id", "order_lines": "created_at, order_id, line_no"}


def timed(session, sql, *values):
    start = time.perf_counter()
    rows = session.rows(sql, *values)
    return time.perf_counter() - start, rows


def set_directory(path):
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    with Session("postgres") as session:
        session.rows(f"ALTER SYSTEM SET order_mgmt.archive_directory = '{path}'")
        session.rows("SELECT pg_reload_conf()")


def shop_with_history(orders):
    pass_transactions(orders * HISTORY_TRANSACTIONS + 1000)
    shop = OrderMgmt("archived").fresh()
    run_file(shop.database, "history.sql")
    shop.session.rows("SELECT bench.add_months(%s)", MONTHS)
    shop.session.rows("SELECT bench.add_history(%s, %s)", MONTHS, orders)
    settle(shop.session)
    return shop


# --- one month -----------------------------------------------------------------------------------


def copy_out(session, leaves, folder):
    """What one would do by hand: the same rows in the same order, one file per table."""
    return sum(timed(session, f"COPY (SELECT * FROM order_mgmt.{leaf} ORDER BY {KEYS[table]}) TO PROGRAM"
                              f" 'zstd -q -f -o {folder}/{leaf}.csv.zst' CSV HEADER")[0]
               for table, leaf in zip(TABLES, leaves))


def copy_in(session, leaves, folder):
    """Into tables of the same shape, with their indexes made at the end."""
    seconds = 0
    for table, leaf in zip(TABLES, leaves):
        session.rows(f"CREATE TABLE by_hand (LIKE order_mgmt.{table} INCLUDING ALL EXCLUDING INDEXES)")
        seconds += timed(session, f"COPY by_hand FROM PROGRAM 'zstd -dcq {folder}/{leaf}.csv.zst' CSV HEADER")[0]
        for definition, in session.rows("SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass",
                                        f"order_mgmt.{leaf}"):
            # CREATE [UNIQUE] INDEX name ON …: without its name, on the other table
            head, _, columns = definition.partition(" USING ")
            unique = "UNIQUE " if "UNIQUE" in head else ""
            seconds += timed(session, f"CREATE {unique}INDEX ON by_hand USING {columns}")[0]
        session.rows("DROP TABLE by_hand")
    return seconds


def measure_archive(book, rounds, orders):
    folder = WORK / "archive"
    set_directory(folder)
    shop = shop_with_history(orders)
    session = shop.session
    month = session.value("SELECT bench.first_month(%s)::date", MONTHS)
    leaves = [f"{table}_{month:%Y_%m}" for table in TABLES]
    rows = sum(session.value(f"SELECT count(*) FROM order_mgmt.{leaf}") for leaf in leaves)
    hot = sum(total for _, _, total in session.rows(LEAVES, leaves))
    for _ in range(rounds):
        book.note("COPY out: rows/s", rows / copy_out(session, leaves, folder))
        seconds, files = timed(session, "SELECT bytes FROM order_mgmt.archive_month(%s)", month)
        book.note("archive: rows/s", rows / seconds)
        book.note("archive: hot to cold", hot / sum(size for size, in files))
        seconds, _ = timed(session, "SELECT * FROM order_mgmt.restore_month(%s)", month)
        book.note("restore: rows/s", rows / seconds)
        book.note("COPY in: rows/s", rows / copy_in(session, leaves, folder))
    book.compare(f"`archive_month()` of {rows:,} rows, rows/s", "archive: rows/s", "COPY … TO PROGRAM 'zstd', in the same order",
                 "COPY out: rows/s", at_least=0.8)
    book.compare("`restore_month()` of them, rows/s", "restore: rows/s", "COPY … FROM PROGRAM 'zstd', then indexes",
                 "COPY in: rows/s")
    book.limit("Bytes of the month's partitions with indexes ÷ bytes of its files", "archive: hot to cold", at_least=8)
    shop.drop()


# --- pg_partman ----------------------------------------------------------------------------------

SALES = """CREATE TABLE sales (at timestamptz NOT NULL, id bigint NOT NULL, customer text, amount numeric,
    PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
    CREATE INDEX ON sales (customer, at)"""
PAST = 57    # months of which a partition is made, and 3 that come


def fresh_sales(extension):
    make_database("months")
    session = Session("months")
    session.rows("CREATE SCHEMA partman")
    session.rows(f"CREATE EXTENSION {extension}" + (" SCHEMA partman" if extension == "pg_partman" else ""))
    session.rows(SALES)
    return session


def months_of(session):
    return session.value("SELECT count(*) FROM pg_inherits WHERE inhparent = 'sales'::regclass")


def measure_partman(book, rounds):
    for _ in range(rounds):
        session = fresh_sales("pg_partman")
        seconds, _ = timed(session, "SELECT partman.create_parent('public.sales', 'at', 'native', 'monthly', p_premake := 3,"
                                    " p_start_partition := (now() - %s * interval '1 month')::text)", PAST)
        book.note("pg_partman makes: ms a month", seconds * 1000 / months_of(session))
        seconds, _ = timed(session, "SELECT partman.run_maintenance('public.sales')")
        book.note("pg_partman, nothing due: ms", seconds * 1000)
        session.rows("UPDATE partman.part_config SET retention = '12 months', retention_keep_table = false")
        before = months_of(session)
        seconds, _ = timed(session, "SELECT partman.run_maintenance('public.sales')")
        book.note("pg_partman drops: ms a month", seconds * 1000 / (before - months_of(session)))
        session.close()
        measure_ours(book)
    drop_database("months")
    report_partman(book)


def measure_ours(book):
    session = fresh_sales("order_mgmt")
    session.rows("SELECT order_mgmt.setup()")
    session.rows("ALTER DATABASE months SET order_mgmt.workers = off")
    session.close()
    session = Session("months")
    session.rows("SET order_mgmt.clock = %s", session.value("SELECT (now() - %s * interval '1 month')::text", PAST))
    seconds, _ = timed(session, "SELECT order_mgmt.manage_table('sales', 'at', premake => %s)", PAST + 3)
    first, _ = timed(session, "SELECT count(*) FROM order_mgmt.run_maintenance()")
    book.note("ours makes: ms a month", (seconds + first) * 1000 / months_of(session))
    session.rows("RESET order_mgmt.clock")
    session.rows("SELECT order_mgmt.manage_table('sales', 'at', premake => 3)")
    session.rows("SELECT count(*) FROM order_mgmt.run_maintenance()")
    seconds, _ = timed(session, "SELECT count(*) FROM order_mgmt.run_maintenance()")
    book.note("ours, nothing due: ms", seconds * 1000)
    before = months_of(session)
    session.rows("SELECT order_mgmt.manage_table('sales', 'at', premake => 3, drop_after => '12 months')")
    seconds, _ = timed(session, "SELECT count(*) FROM order_mgmt.run_maintenance()")
    book.note("ours drops: ms a month", seconds * 1000 / (before - months_of(session)))
    session.close()


def report_partman(book):
    for what, figure in (("Making a month of a user's table, ms", "makes: ms a month"),
                         ("Maintenance of sixty months with nothing due, ms", ", nothing due: ms"),
                         ("Dropping a month past its retention, ms", "drops: ms a month")):
        join = "" if figure.startswith(",") else " "
        book.compare(what, f"ours{join}{figure}", "pg_partman", f"pg_partman{join}{figure}")
