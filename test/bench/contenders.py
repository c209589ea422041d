"""The shops that are compared: order_mgmt, and what one would use instead.

Each has a database of its own, made by fresh(). A drain begins with a backlog that nobody has touched, and its orders'
own stamps (updated_at, set by the transaction that ships them) tell when each was shipped.
"""
import json
import random
import re
import time

from machine import (PINNED, Pgbench, Session, Stopwatch, drop_database, make_database, run_file, settle, wait_until)

# What a capturing client draws.
DRAW = r"""
\set customer random(1, 1000)
\set product random(1, 1000)
\set quantity random(1, 9)
\set key random(1, 9000000000000000000)
"""
LINES = """format('[{"product_id": "%s", "quantity": %s, "unit_price": "9.95"}]', :product::text, :quantity::text)::jsonb"""
STAGES = ("check_balance", "check_stock", "join_verdicts", "ship")
CUSTOMERS = PRODUCTS = 1000
PATIENCE = 900    # seconds for a drain
POOR, NEVER_THERE = "poor", "never there"    # an account without credit, a product without stock


class Drain:
    """How a backlog went: what it cost an order, and the rates of its tenths."""

    def __init__(self, watch, stamps):
        orders = len(stamps)
        self.rate = orders / stamps[-1]
        self.wal_bytes, self.cpu_us = watch.wal / orders, watch.cpu / orders * 1e6
        tenth = orders // 10
        ends = [0.0] + [stamps[min(i * tenth, orders) - 1] for i in range(1, 11)]
        self.tenths = [tenth / max(end - start, 1e-6) for start, end in zip(ends, ends[1:])]
        self.last_to_first = self.tenths[-1] / self.tenths[0]


class Shop:
    name = None          # of the contender
    orders = "orders"
    ended = "('shipped', 'rejected')"
    latest = "SELECT order_id, created_at FROM {0} ORDER BY created_at DESC, order_id DESC LIMIT 1"

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

    def wait_for_all(self, programs=()):
        """Looks at the newest order only until that has ended, so that watching costs next to nothing."""
        newest, what = self.session.rows(self.latest.format(self.orders))[0], f"the orders of {self.database}"
        look = f"SELECT status IN {self.ended} FROM {self.orders} WHERE order_id = %s AND created_at = %s"
        wait_until(lambda: self.session.value(look, *newest), PATIENCE, what, programs)
        wait_until(lambda: self.open_orders() == 0, PATIENCE, what, programs, pause=0.5)

    def drain(self):
        """Ships the backlog; the caller has made it and settled the database."""
        begin = self.session.value("SELECT clock_timestamp()")
        watch = Stopwatch(self.session)
        programs = watch.programs = self.start()
        self.wait_for_all(programs)
        watch.stop()
        for program in programs:
            program.stop()
        return Drain(watch, self.stamps(begin))

    def stamps(self, begin):
        """Seconds after which the orders ended, the first one first."""
        return [row[0] for row in self.session.rows(
            f"SELECT extract(epoch FROM updated_at - %s)::float8 FROM {self.orders} WHERE updated_at >= %s ORDER BY 1", begin, begin)]

    def latencies(self, since):
        """Milliseconds from an order's own stamp to that of its shipment, at the 50th and the 99th percentile."""
        return self.session.rows(
            "SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY 1000 * extract(epoch FROM updated_at - created_at))"
            f" FROM {self.orders} WHERE created_at >= %s AND status = 'shipped'", since)[0][0]


class OrderMgmt(Shop):
    name = "order_mgmt"
    orders = "order_mgmt.orders"
    capture_script = f"{DRAW}SELECT order_mgmt.capture_order(:customer::text, {LINES});\n"
    keyed_script = f"{DRAW}SELECT order_mgmt.capture_order(:customer::text, {LINES}, :key::text);\n"
    # What the probe of latency sends: the order's id and time come back, and are looked for.
    capture = "PREPARE capture (integer, integer, integer) AS SELECT order_mgmt.capture_order($1::text," \
        " jsonb_build_array(jsonb_build_object('product_id', $2::text, 'quantity', $3, 'unit_price', '9.95'))) AS order_id, now()"
    look = "PREPARE look (uuid, timestamptz) AS SELECT order_mgmt.get_order_status($1) = 'shipped'"

    def fill(self):
        with Session(self.database) as session:
            session.rows("CREATE EXTENSION order_mgmt")
            session.rows("SELECT order_mgmt.setup()")
            session.rows("SELECT count(*) FROM generate_series(1, 1000) AS n, order_mgmt.set_account(n::text, balance => 1e12),"
                         " order_mgmt.set_stock(n::text, 1000000000000)")
            session.rows("SELECT order_mgmt.set_account(%s, balance => 0), order_mgmt.set_stock(%s, 0)", POOR, NEVER_THERE)

    def pause(self):
        self.session.rows("SELECT count(order_mgmt.pause_consumer(name)) FROM order_mgmt.consumers WHERE kind = 'built-in'")

    def start(self):
        self.session.rows("SELECT count(order_mgmt.resume_consumer(name)) FROM order_mgmt.consumers WHERE kind = 'built-in'")
        return []

    def add_backlog(self, orders, lines=1, zipf=False, refused=0):
        self.pause()
        for batch in batches(orders, lines, zipf, refused):
            self.session.rows("SELECT count(*) FROM order_mgmt.capture_orders(%s)", batch)

    def add_single(self, orders):
        """The same, captured one by one over four connections."""
        self.pause()
        bench = Pgbench(self.database, self.capture_script, clients=4)
        wait_until(lambda: self.session.value("SELECT count(*) FROM order_mgmt.orders") >= orders, PATIENCE, "captures", [bench], pause=0.3)
        bench.stop()

    def stop_workers(self):
        """They report what they counted when they end."""
        with Session("postgres") as session:
            session.rows(f"ALTER DATABASE {self.database} SET order_mgmt.workers = off")
            wait_until(lambda: session.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'order_mgmt%%' AND datname = %s",
                                             self.database) == 0, 20, "workers to end")

    def dead_rows(self):
        """Row versions made dead so far, by table; not those by which this program pauses and resumes."""
        return dict(self.session.rows(
            "SELECT CASE WHEN relname LIKE 'orders\\_%' THEN 'orders' WHEN relname IN ('accounts', 'stock') THEN relname ELSE 'elsewhere' END,"
            "       sum(n_tup_upd + n_tup_del)::float8"
            "  FROM pg_stat_user_tables WHERE schemaname = 'order_mgmt' AND relname <> 'consumers' GROUP BY 1"))

    def batch_count(self):
        """Batches of the shipper so far."""
        return self.session.value("SELECT max(seq) FROM (TABLE order_mgmt.cursor_log_0 UNION ALL TABLE order_mgmt.cursor_log_1) AS c"
                                  " WHERE consumer = 'shipper'") or 0


class Baseline(Shop):
    files = ()
    poll_ms = 5
    batch = 1000

    def fill(self):
        for name in ("tables.sql", *self.files):
            run_file(self.database, name)

    def start(self, poll_ms=None):
        return [Pgbench(self.database, f"SELECT {stage}({self.batch}) AS handled \\gset\n\\if :handled = 0\n\\sleep {poll_ms or self.poll_ms} ms\n\\endif\n",
                        options=PINNED) for stage in STAGES]

    def add_backlog(self, orders):
        self.session.rows("SELECT setseed(0.5)")
        self.session.rows("SELECT add_orders(%s)", orders)
        self.enqueue(orders)


class SkipLocked(Baseline):
    files = ("skiplocked.sql",)
    one_statement = """
WITH captured AS (
    INSERT INTO orders (customer_id, total) VALUES (:customer, :quantity * 9.95) RETURNING order_id, created_at, customer_id, total),
lines AS (
    INSERT INTO order_lines SELECT order_id, created_at, 1, :product, :quantity, 9.95 FROM captured),
to_pay AS (
    INSERT INTO balance_queue (order_id, created_at, customer_id, total) SELECT order_id, created_at, customer_id, total FROM captured)
INSERT INTO stock_queue (order_id, created_at, product_id, quantity) SELECT order_id, created_at, :product, :quantity FROM captured"""
    capture_script = f"{DRAW}{one_statement};\n"
    plain_script = DRAW + r"""
BEGIN;
INSERT INTO orders (customer_id, total) VALUES (:customer, :quantity * 9.95) RETURNING order_id, created_at \gset
INSERT INTO order_lines VALUES (:order_id, :created_at, 1, :product, :quantity, 9.95);
INSERT INTO balance_queue (order_id, created_at, customer_id, total) VALUES (:order_id, :created_at, :customer, :quantity * 9.95);
INSERT INTO stock_queue (order_id, created_at, product_id, quantity) VALUES (:order_id, :created_at, :product, :quantity);
COMMIT;
"""
    capture = "PREPARE capture (integer, integer, integer) AS" + one_statement.replace(":customer", "$1").replace(
        ":product", "$2").replace(":quantity", "$3") + " RETURNING order_id, created_at"
    look = "PREPARE look (uuid, timestamptz) AS SELECT status = 'shipped' FROM orders WHERE order_id = $1 AND created_at = $2"

    def __init__(self, batch=1000, name=None):
        self.name, self.batch = f"SKIP LOCKED, batch {batch:,}", batch
        super().__init__(name or f"skip_locked_{batch}")

    def enqueue(self, _):
        self.session.rows("SELECT enqueue_orders()")


class SetBased(Baseline):
    name = "set-based"
    files = ("skiplocked.sql", "setbased.sql")

    def enqueue(self, _):
        self.session.rows("SELECT enqueue_orders()")

    def start(self):
        self.session.rows("SELECT ship_everything()")
        self.ended_at = time.time()
        return []

    def stamps(self, begin):
        """Nobody sees an order shipped before the statement has ended."""
        return [self.ended_at - begin.timestamp()] * len(super().stamps(begin))


class Pgq(Baseline):
    name = "PgQ"
    files = ("pgq.sql",)
    events_per_tick = 500    # PgQ's own default

    def enqueue(self, orders):
        self.session.rows("SELECT number_orders()")
        for first in range(1, orders + 1, self.events_per_tick):
            self.session.rows("SELECT enqueue_orders(%s, %s)", first, self.events_per_tick)
            self.session.rows("SELECT pgq.force_tick('captured')")
            self.session.rows("SELECT pgq.ticker()")
        self.session.rows("DROP TABLE backlog")

    def start(self):
        ticker = Pgbench(self.database, "SELECT pgq.ticker() AS n \\gset\n\\sleep 50 ms\n")
        return [ticker, *super().start()]


# --- orders as JSON ------------------------------------------------------------------------------

# With this exponent ten of a thousand keys take half.
ZIPF = [1 / rank ** 1.12 for rank in range(1, CUSTOMERS + 1)]


def pick(chance, count, zipf):
    return chance.choices(range(1, CUSTOMERS + 1), weights=ZIPF if zipf else None, k=count)


def one_order(customer, products, quantities):
    return {"customer_id": str(customer), "lines": [{"product_id": str(product), "quantity": quantity, "unit_price": "9.95"}
                                                    for product, quantity in zip(products, quantities)]}


def batches(orders, lines=1, zipf=False, refused=0, size=1000, keyed=False):
    """JSON arrays of up to SIZE orders. Of REFUSED orders one, by turns, lacks credit or asks for what is not there."""
    chance = random.Random(orders * 10 + lines)
    customers, products = pick(chance, orders, zipf), pick(chance, orders * lines, zipf)
    quantities = chance.choices(range(1, 10), k=orders * lines)
    made = []
    for n in range(orders):
        wanted = slice(n * lines, (n + 1) * lines)
        order = one_order(customers[n], products[wanted], quantities[wanted])
        if refused and n % (2 * refused) == 0:
            order["customer_id"] = POOR
        elif refused and n % refused == 0:
            order["lines"][-1]["product_id"] = NEVER_THERE
        if keyed:
            order["idempotency_key"] = f"{time.time()}-{n}"
        made.append(order)
    return [json.dumps(made[n:n + size]) for n in range(0, orders, size)]
