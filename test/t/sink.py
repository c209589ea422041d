#!/usr/bin/env python3
"""A mail server and a webhook for tests: one line per delivery in a file, and their ports in its first line.

    sink.py FILE SECRET

Refused are mails to nobody@..., and webhooks about customer "broken" (500) or whose signature is wrong (401).
Webhooks about customer "shy" are refused at their first attempt.
"""
import hashlib
import hmac
import http.server
import json
import re
import socketserver
import sys
import threading

PATH, SECRET = sys.argv[1], sys.argv[2].encode()
LOCK = threading.Lock()


def note(*words):
    with LOCK, open(PATH, "a", encoding="utf-8") as file:
        file.write(" ".join(words) + "\n")


class MailHandler(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def take(self, recipient):
        self.say("354 go on")
        lines = iter(self.rfile.readline, b".\r\n")
        text = b"".join(lines).decode()
        note("mail", recipient, re.search(r"^Message-ID: *\r?\n? *(\S+)", text, re.M | re.I).group(1))
        self.say("250 taken")

    def handle(self):
        recipient = None
        self.say("220 sink")
        for line in self.rfile:
            verb = line[:4].upper().strip()
            if verb == b"RCPT":
                recipient = re.search(rb"<(.*)>", line).group(1).decode()
                self.say("450 not now" if recipient.startswith("nobody@") else "250 ok")
            elif verb == b"DATA":
                self.take(recipient)
            else:
                self.say("221 bye" if verb == b"QUIT" else "250 ok")
                if verb == b"QUIT":
                    return


class HookHandler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signed = hmac.new(SECRET, self.headers["X-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
        event = json.loads(body)
        status = 200
        if not hmac.compare_digest(signed, self.headers["X-Signature"]):
            status = 401
        elif event["customer_id"] == "broken" or (event["customer_id"] == "shy" and event["attempts"] == 0):
            status = 500
        note("hook", str(status), event["customer_id"], event["event_type"], self.headers["Idempotency-Key"])
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    socketserver.ThreadingTCPServer.daemon_threads = True
    mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailHandler)
    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), HookHandler)
    note("ports", str(mail.server_address[1]), str(hook.server_address[1]))
    threading.Thread(target=mail.serve_forever, daemon=True).start()
    hook.serve_forever()


if __name__ == "__main__":
    main()
