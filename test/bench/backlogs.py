"""Orders as JSON, the way capture_orders() takes them."""
import json
import random
import uuid
from itertools import islice

KEYS = range(1, 1001)                          # of customers, and of products
POOR, NEVER_THERE = "poor", "never there"      # an account without credit, a product without stock
ZIPF = [1 / rank ** 1.12 for rank in KEYS]     # with this exponent ten of a thousand take half


def one_order(customer, products, quantities):
    lines = [{"product_id": str(product), "quantity": quantity, "unit_price": "9.95"}
             for product, quantity in zip(products, quantities)]
    return {"customer_id": str(customer), "lines": lines}


def some_orders(count, lines, zipf):
    chance, weights = random.Random(10 * count + lines), ZIPF if zipf else None
    customers = chance.choices(KEYS, weights, k=count)
    products = chance.choices(KEYS, weights, k=count * lines)
    quantities = chance.choices(range(1, 10), k=count * lines)
    for n, customer in enumerate(customers):
        its_own = slice(n * lines, (n + 1) * lines)
        yield one_order(customer, products[its_own], quantities[its_own])


def make_refused(orders, one_in):
    """By turns for want of credit and of stock."""
    for n in range(0, len(orders), 2 * one_in):
        orders[n]["customer_id"] = POOR
    for n in range(one_in, len(orders), 2 * one_in):
        orders[n]["lines"][-1]["product_id"] = NEVER_THERE


def batches(count, lines=1, zipf=False, refused=None, keyed=False, size=1000):
    """COUNT orders in arrays of up to SIZE; of REFUSED orders, one is such that a check refuses it."""
    orders = some_orders(count, lines, zipf)
    while batch := list(islice(orders, size)):
        if refused:
            make_refused(batch, refused)
        if keyed:
            for order in batch:
                order["idempotency_key"] = str(uuid.uuid4())
        yield json.dumps(batch)
