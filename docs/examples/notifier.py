#!/usr/bin/python3
"""Tells the world what happens to orders: a program outside the server, fed by order_mgmt.

    notifier.py mail       an e-mail to the customer when an order has shipped or was rejected
    notifier.py webhook    a POST of every such event to a URL

Each channel is a consumer of its own, so a webhook that is down delays no e-mail. The database is
found by libpq's own variables (PGHOST, PGDATABASE, PGUSER, ...); the role needs order_mgmt_app.

    NOTIFIER_CONSUMER   name of the consumer (notifier-mail, notifier-webhook)
    NOTIFIER_EVENTS     event types, separated by commas (order_shipped,order_rejected)
    NOTIFIER_BATCH      events per batch (1); a crash repeats at most one batch
    NOTIFIER_WAIT       seconds to wait for an event before asking again (30)
    NOTIFIER_TIMEOUT    seconds that a mail server or webhook may take (10)
    NOTIFIER_SMTP       host:port of the mail server (localhost:25)
    NOTIFIER_FROM       sender (orders@localhost)
    NOTIFIER_URL        where webhooks go
    NOTIFIER_SECRET     key of the signature of webhooks

What fails is rejected: order_mgmt gives it again after a while and keeps it as a dead letter in the
end. What has been delivered when the program dies before it can say so is delivered once more, with
the same Message-ID or Idempotency-Key, so that the other side can tell. SIGTERM ends it politely.

A webhook is signed: X-Signature is the HMAC-SHA256, in hex, of X-Timestamp, a dot and the body.
"""
import hashlib
import hmac
import json
import os
import signal
import smtplib
import sys
import time
import urllib.request
from email.message import EmailMessage
from email.utils import formatdate

import psycopg2
import psycopg2.extensions
import psycopg2.extras

RECONNECT_SECONDS = 1, 30


def setting(name, default):
    return os.environ.get(f"NOTIFIER_{name}", default)


def log(text):
    print(text, file=sys.stderr, flush=True)


class Mail:
    """One e-mail per event, to the address of the account."""

    TEXTS = {
        "order_shipped": ("Your order is on its way", "your order {order_id} has been shipped."),
        "order_rejected": ("We could not take your order", "we are sorry: your order {order_id} could not be accepted."),
    }

    def __init__(self):
        self.host, _, self.port = setting("SMTP", "localhost:25").partition(":")
        self.sender = setting("FROM", "orders@localhost")
        self.timeout = float(setting("TIMEOUT", "10"))

    def deliver(self, event, account, consumer):
        if event["event_type"] not in self.TEXTS or account is None or not account["email"]:
            return    # nobody to write to
        subject, text = self.TEXTS[event["event_type"]]
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self.sender, account["email"], subject
        message["Date"] = formatdate(event["at"].timestamp())
        message["Message-ID"] = f"<{event['event_id']}.{consumer}@{self.sender.rpartition('@')[2]}>"
        message.set_content(f"Hello {account['name'] or event['customer_id']},\n\n{text.format(**event)}\n")
        with smtplib.SMTP(self.host, int(self.port or 25), timeout=self.timeout) as server:
            server.send_message(message)


class Webhook:
    """One POST per event; anything but a 2xx is a failure."""

    def __init__(self):
        self.url, self.secret = setting("URL", None), setting("SECRET", None)
        if not self.url or not self.secret:
            sys.exit("NOTIFIER_URL and NOTIFIER_SECRET are needed")
        self.timeout = float(setting("TIMEOUT", "10"))

    def deliver(self, event, account, consumer):
        body = json.dumps({**event, "at": event["at"].isoformat()}).encode()
        timestamp = str(int(time.time()))
        signature = hmac.new(self.secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(self.url, data=body, method="POST", headers={
            "Content-Type": "application/json",
            "Idempotency-Key": f"{consumer}-{event['event_id']}",
            "X-Timestamp": timestamp,
            "X-Signature": signature,
        })
        urllib.request.urlopen(request, timeout=self.timeout).close()


class Notifier:
    def __init__(self, name, channel):
        self.channel = channel
        self.consumer = setting("CONSUMER", f"notifier-{name}")
        self.events = setting("EVENTS", "order_shipped,order_rejected").split(",")
        self.connection = None
        self.waiting = self.stopping = False
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)

    def stop(self, *_):
        """What is under way is finished; a wait for events is cut short."""
        self.stopping = True
        if self.waiting:
            self.connection.cancel()

    def query(self, sql, *args):
        with self.connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, args)
            return [dict(row) for row in cursor.fetchall()]

    def connect(self):
        self.connection = psycopg2.connect(application_name=self.consumer)
        # Each call is a transaction: none is open while a mail server or webhook takes its time.
        self.connection.autocommit = True
        self.query("SELECT order_mgmt.create_consumer(%s, %s)", self.consumer, self.events)

    def receive(self):
        self.waiting = True
        try:
            return [] if self.stopping else self.query(
                "SELECT batch_id, event_id, at, event_type, order_id::text, customer_id, product_id, detail, attempts"
                " FROM order_mgmt.receive_events(%s, %s, make_interval(secs => %s))",
                self.consumer, int(setting("BATCH", "1")), float(setting("WAIT", "30")))
        except psycopg2.extensions.QueryCanceledError:
            if not self.stopping:
                raise
            return []
        finally:
            self.waiting = False

    def handle(self, event):
        del event["batch_id"]
        try:
            accounts = self.query("SELECT name, email FROM order_mgmt.get_account(%s)", event["customer_id"])
            self.channel.deliver(event, accounts[0] if accounts else None, self.consumer)
        except psycopg2.Error:
            raise    # the database's trouble is not the event's
        except Exception as error:
            log(f"event {event['event_id']}, attempt {event['attempts'] + 1}: {error}")
            self.query("SELECT order_mgmt.reject_event(%s, %s, %s)", self.consumer, event["event_id"],
                       f"{type(error).__name__}: {error}")

    def work(self):
        """Until it is told to stop. False from acknowledge_batch() means that another one of us was
        faster; there is nothing to undo outside the database."""
        while not self.stopping:
            batch = self.receive()
            for event in batch:
                batch_id = event["batch_id"]
                self.handle(event)
            if batch:
                self.query("SELECT order_mgmt.acknowledge_batch(%s, %s)", self.consumer, batch_id)

    def run(self):
        pause, longest = RECONNECT_SECONDS
        while not self.stopping:
            try:
                self.connect()
                pause = RECONNECT_SECONDS[0]
                self.work()
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if self.stopping:
                    break
                log(f"database: {str(error).strip()}; again in {pause} s")
                time.sleep(pause)
                pause = min(pause * 2, longest)


def main():
    channels = {"mail": Mail, "webhook": Webhook}
    if len(sys.argv) != 2 or sys.argv[1] not in channels:
        sys.exit(__doc__)
    # Waiting in Python, and not in libpq, lets signals through.
    psycopg2.extensions.set_wait_callback(psycopg2.extras.wait_select)
    Notifier(sys.argv[1], channels[sys.argv[1]]()).run()


if __name__ == "__main__":
    main()
