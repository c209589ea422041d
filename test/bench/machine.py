"""The server under measurement and the programs beside it, as seen from outside.

PGHOST and PGPORT name the server, which test/bench/run starts. Processor time is that of the processes concerned, not
of the machine, so that others on it do not count.
"""
import os
import re
import subprocess
import time
from pathlib import Path

import psycopg2

HERE = Path(__file__).resolve().parent
WORK = Path(os.environ["BENCH_DIR"])
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PINNED = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"


class Failed(Exception):
    """A measurement cannot go on."""


class Session:
    """A connection in autocommit, with the few ways of asking that we need."""

    def __init__(self, database, options=""):
        self.connection = psycopg2.connect(dbname=database, user="postgres", options=options)
        self.connection.autocommit = True

    def rows(self, sql, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, sql, *values):
        return self.rows(sql, *values)[0][0]

    def copy(self, sql, file):
        with self.connection.cursor() as cursor:
            cursor.copy_expert(sql, file)

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def run_file(database, name):
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database,
                    "-f", HERE / "sql" / name],
                   check=True, env={**os.environ, "PGOPTIONS": "-c client_min_messages=warning"})


def make_database(name):
    with Session("postgres") as session:
        session.rows(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        session.rows(f"CREATE DATABASE {name}")


def drop_database(name):
    with Session("postgres") as session:
        session.rows(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def settle(session):
    """Before a measurement: nothing left to vacuum, to analyze or to write."""
    session.rows("VACUUM ANALYZE")
    session.rows("CHECKPOINT")


def wal_position(session):
    return int(session.value("SELECT pg_current_wal_insert_lsn() - '0/0'"))


def turns(rounds, contenders):
    """Who comes when: in every second round the last is the first."""
    for n in range(rounds):
        yield from contenders[::-1] if n % 2 else contenders


def wait_until(condition, seconds, what, programs=(), pause=0.05):
    """For something that the programs do, if any are named."""
    deadline = time.monotonic() + seconds
    while not condition():
        for program in programs:
            program.must_run()
        if time.monotonic() > deadline:
            raise Failed(f"gave up after {seconds} s waiting for {what}")
        time.sleep(pause)


# --- processor time ------------------------------------------------------------------------------


def read_stat(pid):
    """Parent, and time used by the process and by those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[1]), sum(map(int, fields[11:15])) / TICKS_PER_SECOND


def family_time(root):
    """Of a process with all its children: those that have ended are in their parent's account."""
    total = read_stat(root)[1]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent, used = read_stat(entry)
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += used if parent == root else 0
    return total


def server_pid(session):
    return int(Path(session.value("SHOW data_directory"), "postmaster.pid").read_text().split()[0])


class Stopwatch:
    """What a stretch of work took: seconds, processor seconds of server and polling workers, bytes of WAL."""

    def __init__(self, session, programs=()):
        self.session, self.programs, self.server = session, programs, server_pid(session)
        self.wal, self.cpu, self.start = wal_position(session), self.cpu_used(), time.time()

    def cpu_used(self):
        return family_time(self.server) + sum(read_stat(program.pid)[1] for program in self.programs)

    def stop(self):
        self.seconds = time.time() - self.start
        self.cpu, self.wal = self.cpu_used() - self.cpu, wal_position(self.session) - self.wal
        return self


# --- pgbench -------------------------------------------------------------------------------------


class Pgbench:
    """A pgbench that runs a script for some seconds, or each client so many TIMES, or until stop() is called."""

    count = 0

    def __init__(self, database, script, clients=1, seconds=3600, times=None, rate=None, options="",
                 report=False):
        WORK.mkdir(exist_ok=True)
        Pgbench.count += 1
        path, self.output = WORK / f"{Pgbench.count}.pgbench", WORK / f"{Pgbench.count}.out"
        path.write_text(script)
        command = ["pgbench", "-n", "-M", "prepared", "-U", "postgres", "-f", path,
                   "-c", clients, "-j", min(clients, 2)]
        command += ["-t", times] if times else ["-T", int(seconds)]
        command += ["-R", rate] if rate else []
        command += ["-r"] if report else []
        with open(self.output, "w") as output:
            self.process = subprocess.Popen([*map(str, command), database], stdout=output, stderr=subprocess.STDOUT,
                                            env={**os.environ, "PGOPTIONS": options})
        self.pid = self.process.pid

    def finish(self):
        if self.process.wait() != 0 or "aborted" in self.output.read_text():
            raise Failed(f"pgbench failed:\n{self.output.read_text()}")
        return self

    def must_run(self):
        if self.process.poll() is not None:
            raise Failed(f"pgbench ended by itself:\n{self.output.read_text()}")

    def stop(self):
        self.must_run()
        self.process.terminate()
        self.process.wait()

    def number(self, pattern):
        return float(re.search(pattern, self.output.read_text(), re.M).group(1))

    def rate(self):
        return self.number(r"^tps = ([\d.]+)")

    def transactions(self):
        return self.number(r"actually processed: (\d+)")
