#!/usr/bin/python3
"""The invoices of UCI "Online Retail" as orders, line by line as they are.

An invoice is taken whole or left whole: dropping single lines would replay an order that nobody
placed. It is left, and counted under the first class that fits, when it has

    no_customer         a line without CustomerID
    several_customers   lines of different customers
    returned            no line with a positive quantity (cancellations, write-offs)
    mixed_quantities    lines with positive and lines with other quantities
    negative_price      a line with a price below zero; a price of zero is a gift and valid

and is otherwise `taken`. Repeated and even equal lines stay: two lines on one product are two
lines. Ids, quantities and prices are the file's own words (a customer is '17850.0').
"""
import csv
import gzip
import json
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

DATA = Path(__file__).resolve().parents[3] / 'shared/data/online-retail/online_retail.csv.gz'
LEFT = ('no_customer', 'several_customers', 'returned', 'mixed_quantities', 'negative_price')


def read_lines(path):
    with gzip.open(path, 'rt', encoding='utf-8', newline='') as file:
        yield from csv.DictReader(file)


def group_by_invoice(lines):
    """One invoice's lines need not stand together in the file, so all is read before the first."""
    invoices = {}
    for line in lines:
        invoices.setdefault(line['InvoiceNo'], []).append(line)
    return invoices


def classify(lines):
    customers = {line['CustomerID'] for line in lines}
    positive = [int(line['Quantity']) > 0 for line in lines]
    if '' in customers:
        return 'no_customer'
    if len(customers) > 1:
        return 'several_customers'
    if not any(positive):
        return 'returned'
    if not all(positive):
        return 'mixed_quantities'
    if any(Decimal(line['UnitPrice']) < 0 for line in lines):
        return 'negative_price'
    return 'taken'


def to_order(invoice_no, lines):
    return {'customer_id': lines[0]['CustomerID'],
            'order_ref': invoice_no,
            'lines': [{'product_id': line['StockCode'],
                       'quantity': int(line['Quantity']),
                       'unit_price': line['UnitPrice']} for line in lines]}


def read_orders(path=DATA, counts=None):
    """Yield the orders by their first line's place in the file; counts gets a number per class."""
    for invoice_no, lines in group_by_invoice(read_lines(path)).items():
        kind = classify(lines)
        if counts is not None:
            counts[kind] += 1
        if kind == 'taken':
            yield to_order(invoice_no, lines)


def self_test():
    def line(invoice='1', customer='7.0', quantity='1', price='2.50', product='A'):
        return {'InvoiceNo': invoice, 'CustomerID': customer, 'Quantity': quantity,
                'UnitPrice': price, 'StockCode': product}

    assert classify([line(), line()]) == 'taken'
    assert classify([line(price='0.0')]) == 'taken'
    assert classify([line(), line(customer='')]) == 'no_customer'
    assert classify([line(), line(customer='8.0')]) == 'several_customers'
    assert classify([line(quantity='-1'), line(quantity='0')]) == 'returned'
    assert classify([line(), line(quantity='-1')]) == 'mixed_quantities'
    assert classify([line(price='-0.01')]) == 'negative_price'
    assert list(group_by_invoice([line('2'), line('1'), line('2')])) == ['2', '1']
    order = to_order('1', [line(price='0.001'), line(price='0.001')])
    assert order['lines'] == [{'product_id': 'A', 'quantity': 1, 'unit_price': '0.001'}] * 2


def main():
    self_test()
    if '--self-test' in sys.argv:
        return
    counts = Counter()
    for order in read_orders(counts=counts):
        print(json.dumps(order))
    print(*(f'{kind} {counts[kind]}' for kind in ('taken', *LEFT)), sep='\n', file=sys.stderr)


if __name__ == '__main__':
    main()
