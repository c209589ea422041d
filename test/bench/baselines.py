"""What one would use instead of order_mgmt; the SQL of each is in sql/."""
import time

from machine import PINNED, Pgbench, run_file
from shops import DRAW, Shop

STAGES = ("check_balance", "check_stock", "join_verdicts", "ship")


class Baseline(Shop):
    files = ()
    batch = 1000

    def fill(self):
        for name in ("tables.sql", *self.files):
            run_file(self.database, name)

    def start(self, poll_ms=5):
        """A connection per stage, which looks again after a while when there was nothing."""
        poll = rf"\if :handled = 0{chr(10)}\sleep {poll_ms} ms{chr(10)}\endif{chr(10)}"
        return [Pgbench(self.database, f"SELECT {stage}({self.batch}) AS handled \\gset\n{poll}", options=PINNED)
                for stage in STAGES]

    def add_backlog(self, orders):
        self.session.rows("SELECT setseed(0.5)")
        self.session.rows("SELECT add_orders(%s)", orders)
        self.enqueue(orders)

    def enqueue(self, _):
        self.session.rows("SELECT enqueue_orders()")


class SkipLocked(Baseline):
    files = ("skiplocked.sql",)
    one_statement = """
WITH captured AS (
    INSERT INTO orders (customer_id, total) VALUES (:customer, :quantity * 9.95)
    RETURNING order_id, created_at, customer_id, total),
lines AS (
    INSERT INTO order_lines SELECT order_id, created_at, 1, :product, :quantity, 9.95 FROM captured),
to_pay AS (
    INSERT INTO balance_queue (order_id, created_at, customer_id, total)
    SELECT order_id, created_at, customer_id, total FROM captured)
INSERT INTO stock_queue (order_id, created_at, product_id, quantity)
SELECT order_id, created_at, :product, :quantity FROM captured"""
    capture_script = f"{DRAW}{one_statement};\n"
    plain_script = DRAW + r"""
BEGIN;
INSERT INTO orders (customer_id, total) VALUES (:customer, :quantity * 9.95) RETURNING order_id, created_at \gset
INSERT INTO order_lines VALUES (:order_id, :created_at, 1, :product, :quantity, 9.95);
INSERT INTO balance_queue (order_id, created_at, customer_id, total)
VALUES (:order_id, :created_at, :customer, :quantity * 9.95);
INSERT INTO stock_queue (order_id, created_at, product_id, quantity)
VALUES (:order_id, :created_at, :product, :quantity);
COMMIT;
"""

    capture = "PREPARE capture (integer, integer, integer) AS" + one_statement.replace(":customer", "$1").replace(
        ":product", "$2").replace(":quantity", "$3") + " RETURNING order_id, created_at"
    look = ("PREPARE look (uuid, timestamptz) AS"
            " SELECT status = 'shipped' FROM orders WHERE order_id = $1 AND created_at = $2")

    def __init__(self, batch=1000):
        self.name, self.batch = f"SKIP LOCKED, batch {batch:,}", batch
        super().__init__()


class SetBased(Baseline):
    name = "set-based"
    files = ("skiplocked.sql", "setbased.sql")

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
