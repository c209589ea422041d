#!/usr/bin/python3
"""What must become of the orders when each is final before the next begins.

This shares no code and no idea with the extension: no holds, no log, no workers. An order is
looked at once; credit and stock are both checked, so that it can be refused for both reasons, and
it takes everything or nothing. Whoever works on several orders at a time must give the same.
"""
import sys
from collections import Counter
from decimal import ROUND_DOWN, Decimal

MINOR_UNIT = Decimal('0.0001')

# The opening amounts. Whoever is not singled out has exactly what the whole replay asks of it, so
# the last order of a customer who was never refused uses its credit up to the last unit. Every
# N-th id in sorted order is short or missing; the numbers make about a tenth of the orders fail.
SHORT_CUSTOMER, CREDIT_PERCENT = 11, 60
SHORT_PRODUCT, STOCK_PERCENT = 24, 85
MISSING_CUSTOMER = 211
MISSING_PRODUCT = 1103


def order_total(order):
    return sum(line['quantity'] * Decimal(line['unit_price']) for line in order['lines'])


def order_demand(order):
    """The quantities by product: two lines on one product are checked as their sum."""
    demand = Counter()
    for line in order['lines']:
        demand[line['product_id']] += line['quantity']
    return demand


def whole_demand(orders):
    credit, stock = Counter(), Counter()
    for order in orders:
        credit[order['customer_id']] += order_total(order)
        stock.update(order_demand(order))
    return credit, stock


def share_out(demand, short_every, percent, missing_every, unit):
    opening = {}
    for place, key in enumerate(sorted(demand), start=1):
        if place % missing_every == 0:
            continue
        amount = Decimal(demand[key])
        if place % short_every == 0:
            amount = amount * percent / 100
        opening[key] = amount.quantize(unit, ROUND_DOWN)
    return opening


def opening_amounts(orders):
    """The balances by customer and the stock by product that the replay of these orders starts with."""
    credit, stock = whole_demand(orders)
    balances = share_out(credit, SHORT_CUSTOMER, CREDIT_PERCENT, MISSING_CUSTOMER, MINOR_UNIT)
    on_hand = share_out(stock, SHORT_PRODUCT, STOCK_PERCENT, MISSING_PRODUCT, Decimal(1))
    return balances, {product: int(amount) for product, amount in on_hand.items()}


def refusals(order, balances, on_hand):
    reasons = set()
    if order['customer_id'] not in balances:
        reasons.add('unknown_account')
    elif balances[order['customer_id']] < order_total(order):
        reasons.add('insufficient_balance')
    for product, quantity in order_demand(order).items():
        if product not in on_hand:
            reasons.add('unknown_product')
        elif on_hand[product] < quantity:
            reasons.add('insufficient_stock')
    return sorted(reasons)


def ship(order, balances, on_hand):
    balances[order['customer_id']] -= order_total(order)
    for product, quantity in order_demand(order).items():
        on_hand[product] -= quantity


def predict(orders, balances, on_hand):
    """Return {order_ref: (status, reasons)} and the amounts that are left."""
    balances, on_hand, outcomes = dict(balances), dict(on_hand), {}
    for order in orders:
        reasons = refusals(order, balances, on_hand)
        if not reasons:
            ship(order, balances, on_hand)
        outcomes[order['order_ref']] = ('rejected' if reasons else 'shipped', reasons)
    return outcomes, balances, on_hand


def settle(orders, outcomes, balances, on_hand):
    """The amounts that are left when exactly the orders shipped in outcomes have shipped."""
    balances, on_hand = dict(balances), dict(on_hand)
    for order in orders:
        if outcomes[order['order_ref']][0] == 'shipped':
            ship(order, balances, on_hand)
    return balances, on_hand


def count_outcomes(outcomes):
    """The number of orders by status and reasons, for the reader."""
    return Counter(' '.join([status, '+'.join(reasons)]).strip()
                   for status, reasons in outcomes.values())


def self_test():
    def order(ref, customer, *lines):
        return {'customer_id': customer, 'order_ref': ref,
                'lines': [dict(zip(('product_id', 'quantity', 'unit_price'), line))
                          for line in lines]}

    orders = [
        order('exact', 'a', ('p', 2, '1.25'), ('p', 1, '0.0005')),   # uses up the credit
        order('free', 'a', ('p', 1, '0.0')),                         # balance 0 is a balance
        order('sum', 'b', ('q', 3, '1'), ('q', 3, '1')),             # each line alone would pass
        order('both', 'a', ('q', 6, '1')),
        order('last', 'b', ('q', 5, '1')),                           # a refusal took nothing
        order('poor', 'b', ('p', 1, '99')),
        order('nobody', 'x', ('q', 1, '1')),
        order('nothing', 'b', ('z', 1, '1'), ('q', 1, '1')),
    ]
    balances, on_hand = {'a': Decimal('2.5005'), 'b': Decimal(10)}, {'p': 5, 'q': 5}
    outcomes, *left = predict(orders, balances, on_hand)
    assert outcomes == {
        'exact': ('shipped', []),
        'free': ('shipped', []),
        'sum': ('rejected', ['insufficient_stock']),
        'both': ('rejected', ['insufficient_balance', 'insufficient_stock']),
        'last': ('shipped', []),
        'poor': ('rejected', ['insufficient_balance']),
        'nobody': ('rejected', ['insufficient_stock', 'unknown_account']),
        'nothing': ('rejected', ['insufficient_stock', 'unknown_product']),
    }
    assert left == [{'a': 0, 'b': 5}, {'p': 1, 'q': 0}]
    assert left == list(settle(orders, outcomes, balances, on_hand))
    assert balances['b'] == 10, 'the opening amounts are not touched'
    assert share_out({'a': 3, 'b': 3, 'c': 3}, 2, 50, 3, Decimal(1)) == {'a': 3, 'b': 1}


def main():
    self_test()
    if '--self-test' in sys.argv:
        return
    sys.dont_write_bytecode = True
    from invoices import read_orders
    orders = list(read_orders())
    outcomes, *_ = predict(orders, *opening_amounts(orders))
    for outcome, number in sorted(count_outcomes(outcomes).items()):
        print(number, outcome)


if __name__ == '__main__':
    main()
