"""What all contenders have in common, and order_mgmt itself; the others are in baselines.py.

Each has a database of its own, made by fresh(). A drain begins with a backlog that nobody has touched, and the orders'
own stamps (updated_at, set by the transaction that ships them) tell when each was shipped.
"""
import re

from backlogs import NEVER_THERE, POOR, batches
from machine import Pgbench, Session, Stopwatch, drop_database, make_database, wait_until

PATIENCE = 900    # seconds, for whatever orders are waited for

# What a client of pgbench draws for an order, and the order's lines from it.
DRAW = r"""
\set customer random(1, 1000)
\set product random(1, 1000)
\set quantity random(1, 9)
\set key random(1, 9000000000000000000)
"""
LINES = """format('[{"product_id": "%s", "quantity": %s, "unit_price": "9.95"}]',
                  :product::text, :quantity::text)::jsonb"""


class Drain:
    """How a backlog went: what an order took, and how fast the last tenth was beside the first."""

    def __init__(self, watch, stamps):
        orders = len(stamps)
        self.rate = orders / stamps[-1]
        self.wal_bytes, self.cpu_us = watch.wal / orders, watch.cpu / orders * 1e6
        tenth = orders // 10
        first, last = stamps[tenth - 1], stamps[-1] - stamps[-1 - tenth]
        self.last_to_first = first / max(last, 1e-6)


class Shop:
    name = None          # of the contender
    orders = "orders"    # its table
    ended = "('shipped', 'rejected')"

    def __init__(self, name=None):
        self.database = re.sub(r"\W+", "_", name or self.name).lower()
        self.session = None

    def fresh(self):
        self.close()
        make_database(self.database)
        self.fill()
        self.session = Session(self.database)
        return self

    def close(self):
        if self.session is not None:
            self.session.close()
            self.session = None

    def drop(self):
        self.close()
        drop_database(self.database)

    def open_orders(self):
        return self.session.value(f"SELECT count(*) FROM {self.orders} WHERE status NOT IN {self.ended}")

    def newest(self):
        return self.session.rows(f"SELECT order_id, created_at FROM {self.orders}"
                                 " ORDER BY created_at DESC, order_id DESC LIMIT 1")[0]

    def wait_for_all(self, programs=(), newest=None):
        """Looks only at the newest order until that has ended, so that watching costs next to nothing."""
        newest = newest or self.newest()
        look = f"SELECT status IN {self.ended} FROM {self.orders} WHERE order_id = %s AND created_at = %s"
        what = f"the orders of {self.database}"
        wait_until(lambda: self.session.value(look, *newest), PATIENCE, what, programs)
        wait_until(lambda: self.open_orders() == 0, PATIENCE, what, programs, pause=0.5)

    def drain(self):
        """Ships the backlog; the caller has made it and settled the database."""
        newest, begin = self.newest(), self.session.value("SELECT clock_timestamp()")
        watch = Stopwatch(self.session)
        programs = watch.programs = self.start()
        self.wait_for_all(programs, newest)
        watch.stop()
        for program in programs:
            program.stop()
        return Drain(watch, self.stamps(begin))

    def stamps(self, begin):
        """Seconds after which the orders ended, the first one first."""
        return [row[0] for row in self.session.rows(
            f"SELECT extract(epoch FROM updated_at - %s)::float8 FROM {self.orders} WHERE updated_at >= %s ORDER BY 1",
            begin, begin)]

    def p99(self, since):
        """Milliseconds from an order's own stamp to that of its shipment."""
        return self.session.value(
            "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY 1000 * extract(epoch FROM updated_at - created_at))"
            f" FROM {self.orders} WHERE created_at >= %s AND status = 'shipped'", since)


class OrderMgmt(Shop):
    name = "order_mgmt"
    orders = "order_mgmt.orders"
    capture_script = f"{DRAW}SELECT order_mgmt.capture_order(:customer::text, {LINES});\n"
    keyed_script = f"{DRAW}SELECT order_mgmt.capture_order(:customer::text, {LINES}, :key::text);\n"

    # What a probe of latency sends: what comes back is looked for.
    capture = """PREPARE capture (integer, integer, integer) AS
        SELECT order_mgmt.capture_order($1::text, jsonb_build_array(jsonb_build_object(
            'product_id', $2::text, 'quantity', $3, 'unit_price', '9.95'))), now()"""
    look = "PREPARE look (uuid, timestamptz) AS SELECT order_mgmt.get_order_status($1) = 'shipped'"

    def fill(self):
        with Session(self.database) as session:
            session.rows("CREATE EXTENSION order_mgmt")
            session.rows("SELECT order_mgmt.setup()")
            session.rows("SELECT count(*) FROM generate_series(1, 1000) AS n,"
                         " order_mgmt.set_account(n::text, balance => 1e12),"
                         " order_mgmt.set_stock(n::text, 1000000000000)")
            session.rows("SELECT order_mgmt.set_account(%s, balance => 0), order_mgmt.set_stock(%s, 0)",
                         POOR, NEVER_THERE)

    def pause(self):
        self.session.rows("SELECT count(order_mgmt.pause_consumer(name)) FROM order_mgmt.consumers"
                          " WHERE kind = 'built-in'")

    def start(self):
        self.session.rows("SELECT count(order_mgmt.resume_consumer(name)) FROM order_mgmt.consumers"
                          " WHERE kind = 'built-in'")
        return []

    def add_backlog(self, orders, **kind):
        self.pause()
        for batch in batches(orders, **kind):
            self.session.rows("SELECT count(*) FROM order_mgmt.capture_orders(%s)", batch)

    def add_single(self, orders):
        """The same, captured one by one over four connections."""
        self.pause()
        clients = Pgbench(self.database, self.capture_script, clients=4)
        wait_until(lambda: self.session.value("SELECT count(*) FROM order_mgmt.orders") >= orders,
                   PATIENCE, "captures", [clients], pause=0.3)
        clients.stop()

    def stop_workers(self):
        """They report what they have counted when they end."""
        workers = ("SELECT count(*) FROM pg_stat_activity"
                   " WHERE backend_type LIKE 'order_mgmt%%' AND datname = %s")
        with Session("postgres") as session:
            session.rows(f"ALTER DATABASE {self.database} SET order_mgmt.workers = off")
            wait_until(lambda: session.value(workers, self.database) == 0, 20, "workers to end")

    def dead_rows(self):
        """Row versions made dead so far, by table; not those by which we pause and resume."""
        return dict(self.session.rows("""
            SELECT CASE WHEN relname LIKE 'orders\\_%' THEN 'orders'
                        WHEN relname IN ('accounts', 'stock') THEN relname
                        ELSE 'elsewhere' END,
                   sum(n_tup_upd + n_tup_del)::float8
              FROM pg_stat_user_tables
             WHERE schemaname = 'order_mgmt' AND relname <> 'consumers' GROUP BY 1"""))

    def batch_count(self):
        """Batches of the shipper so far."""
        return self.session.value("""
            SELECT coalesce(max(seq), 0)
              FROM (TABLE order_mgmt.cursor_log_0 UNION ALL TABLE order_mgmt.cursor_log_1) AS c
             WHERE consumer = 'shipper'""")
