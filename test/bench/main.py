#!/usr/bin/python3
"""Runs the measurements one after the other and writes their table; test/bench/run starts the server for it.

  main.py short | soak

ONLY="drain capture" picks some; then nothing is written to the document. ROUNDS, ORDERS, SECONDS and MINUTES change
sizes.
"""
import os
import sys
import time
import traceback

import archives
import captures
import drains
import load
import loads
import reads
import soak
import years
from report import Book, conditions, write_document


def size(name, default):
    return int(os.environ.get(name, default))


ROUNDS = size("ROUNDS", 5)
ORDERS = size("ORDERS", 100_000)
SECONDS = size("SECONDS", 4)

SHORT = {
    "drain": lambda book: drains.measure_drain(book, ROUNDS, ORDERS),
    "lines": lambda book: drains.measure_lines(book, ROUNDS, ORDERS // 2),
    "single": lambda book: drains.measure_single(book, ROUNDS, ORDERS // 2),
    "capture": lambda book: captures.measure_capture(book, ROUNDS, SECONDS - 1, ORDERS // 5),
    "capture_orders": lambda book: captures.measure_capture_orders(book, ROUNDS, ORDERS // 2),
    "latency": lambda book: load.measure_latency(book, ROUNDS, 3 * SECONDS, 2 * ORDERS),
    "throughput": lambda book: load.measure_throughput(book, ROUNDS, 2 * SECONDS, 2 * ORDERS),
    "reads": lambda book: reads.measure_reads(book, ROUNDS, SECONDS // 2, 5 * ORDERS),
    "snapshot": lambda book: drains.measure_snapshot(book, ROUNDS, ORDERS),
    "paused": lambda book: load.measure_paused(book, ROUNDS, 2 * SECONDS, 10 * ORDERS),
    "loads": lambda book: loads.measure_loads(book, ROUNDS, 2 * ORDERS),
    "archive": lambda book: archives.measure_archive(book, ROUNDS, 2 * ORDERS),
    "partman": lambda book: archives.measure_partman(book, ROUNDS),
    "idle": reads.measure_idle,
}
SOAK = {
    "drain": lambda book: drains.measure_drain(book, ROUNDS, 3 * ORDERS),
    "snapshot": lambda book: drains.measure_snapshot(book, ROUNDS, 3 * ORDERS),
    "linear": lambda book: soak.measure_linear(book, ROUNDS, ORDERS, 10 * ORDERS),
    "reads": lambda book: reads.measure_reads(book, ROUNDS, SECONDS, 50 * ORDERS),
    "years": lambda book: years.measure_years(book, ROUNDS, SECONDS, 50 * ORDERS, ORDERS // 2),
    "hour": lambda book: soak.measure_long_snapshot(book, size("MINUTES", 30)),
}


def run_each(measurements, chosen, book):
    """One that fails does not cost the others their figures. Whether all succeeded."""
    start, failed = time.monotonic(), []
    for name in chosen:
        print(f"\n== {name} (after {time.monotonic() - start:.0f} s)", flush=True)
        try:
            measurements[name](book)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    print(f"\n{time.monotonic() - start:.0f} s" + f"; failed: {' '.join(failed)}" * bool(failed))
    return not failed


def main(kind):
    measurements = {"short": SHORT, "soak": SOAK}[kind]
    chosen = os.environ.get("ONLY", "").split() or list(measurements)
    book = Book()
    succeeded = run_each(measurements, chosen, book)
    text = conditions(ROUNDS) + "\n" + book.markdown()
    print(f"\n{text}")
    if succeeded and chosen == list(measurements):
        write_document("bench" if kind == "short" else "bench-soak", text)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
