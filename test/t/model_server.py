#!/usr/bin/env python3
"""A server of models for 62_http.pl, on 127.0.0.1. What it does depends on the path.

model_server.py DIR [CERTIFICATE KEY]: writes its port to DIR/port, and a line of JSON per request to
DIR/requests. Requests to /hang are answered once DIR/release is there; /moody fails while DIR/broken is.
"""
import hashlib
import hmac
import json
import os
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

HERE = Path(sys.argv[1])
KEYS = {"AKIDEXAMPLE0001": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
BEARER = "bearer-token-0123456789/abc+def"
lock = threading.Lock()
seen = {}


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature_fault(handler, body, service):
    """What is wrong with the signature, computed as Amazon documents it; None when it is right."""
    authorization = handler.headers.get("Authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        return "not signed"
    parts = dict(part.strip().split("=", 1) for part in authorization[len("AWS4-HMAC-SHA256 "):].split(","))
    key_id, date, region, scope_service, ending = parts["Credential"].split("/")
    names = parts["SignedHeaders"].split(";")
    if (region, scope_service, ending) != ("eu-central-1", service, "aws4_request"):
        return f"scope is {parts['Credential']}"
    needed = {"host", "x-amz-date"} | ({"x-amz-security-token"} & {name.lower() for name in handler.headers})
    if not needed <= set(names):
        return f"signed are only {names}"
    moment = handler.headers["X-Amz-Date"]
    if moment[:8] != date or abs(time.mktime(time.strptime(moment, "%Y%m%dT%H%M%SZ")) - time.mktime(time.gmtime())) > 300:
        return "not of today"
    headers = "".join(f"{name}:{' '.join(handler.headers[name].split())}\n" for name in names)
    canonical = "\n".join(["POST", quote(handler.path, safe="/-_.~"), "", headers, ";".join(names), hashlib.sha256(body).hexdigest()])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, f"{date}/{region}/{service}/aws4_request",
                         hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + KEYS.get(key_id, "")).encode()
    for text in (date, region, service, "aws4_request"):
        key = sign(key, text)
    right = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    return None if hmac.compare_digest(right, parts["Signature"]) else f"signature differs for\n{canonical}"


def score(instance):
    """Twice the number: of the input itself, of its member x, or of the sum of its features."""
    if isinstance(instance, dict):
        instance = instance.get("x", instance.get("features"))
    return 2 * (sum(instance) if isinstance(instance, list) else instance)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True    # headers and body are two writes

    def log_message(self, *_):
        pass

    def answer(self, content, status=200, kind="application/json", **headers):
        data = content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def count(self):
        with lock:
            seen[self.path] = seen.get(self.path, 0) + 1
            return seen[self.path]

    def note(self, rows):
        with lock, (HERE / "requests").open("a") as file:
            file.write(json.dumps({"path": self.path, "rows": rows, "host": self.headers.get("Host"),
                                   "headers": sorted(name.lower() for name in self.headers)}) + "\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers.get("Content-Type")
        rows = None
        if kind == "application/json":
            content = json.loads(body)
            rows = len(content["instances"]) if isinstance(content, dict) and "instances" in content else None
        else:
            content = [[float(cell) for cell in line.split(",")] for line in body.decode().splitlines()]
            rows = len(content)
        self.note(rows)
        first, *rest = self.path.lstrip("/").split("/")
        getattr(self, "do_" + first.replace("-", "_").split("?")[0], self.do_unknown)(rest, content, body)

    def do_unknown(self, *_):
        self.answer({"error": "nothing here"}, 404)

    def do_ok(self, _rest, content, _body):
        self.answer({"predictions": [score(instance) for instance in content["instances"]]})

    def do_ok_redirected(self, *_):
        self.answer({"predictions": ["followed"]})

    def do_nested(self, _rest, content, _body):
        self.answer({"result": [{"a/b": [score(instance) for instance in content["data"]["rows"]]}], "seen": content})

    def do_echo(self, _rest, content, _body):
        self.answer({"predictions": content["instances"]})

    def do_status(self, rest, *_):
        self.answer({"message": "as asked"}, int(rest[0]))

    def do_flaky(self, rest, content, _body):
        if self.count() <= int(rest[0]):
            self.answer({"message": "not now"}, int(rest[1]) if len(rest) > 1 else 429)
        else:
            self.do_ok(rest, content, _body)

    def do_retry_after(self, rest, content, _body):
        if self.count() == 1:
            self.answer("later", 503, Retry_After=rest[0])
        else:
            self.do_ok(rest, content, _body)

    def do_risk(self, _rest, content, _body):
        self.answer({"predictions": [order["metadata"]["risk"] for order in content["instances"]]})

    def do_moody(self, rest, content, body):
        if (HERE / "broken").exists():
            self.answer({"message": "broken"}, 500)
        else:
            self.do_ok(rest, content, body)

    def do_hang(self, rest, content, body):
        while not (HERE / "release").exists():
            time.sleep(0.02)
        self.do_ok(rest, content, body)

    def do_garbage(self, *_):
        self.answer(bytes(range(256)) * 4)

    def do_no_json(self, *_):
        self.answer("<html>" + "x" * 1000)

    def do_deep(self, *_):
        self.answer('{"predictions": [' + "[" * 200000 + "]" * 200000 + "]}")

    def do_odd(self, *_):
        self.answer('{"predictions": ["\\u0000"]}')

    def do_huge(self, *_):
        self.answer({"predictions": ["x" * 3_000_000]})

    def do_endless(self, *_):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except OSError:
            self.close_connection = True

    def do_few(self, _rest, content, _body):
        self.answer({"predictions": content["instances"][1:]})

    def do_many(self, _rest, content, _body):
        self.answer({"predictions": content["instances"] + [1]})

    def do_nothing(self, *_):
        self.answer({"outcome": []})

    def do_redirect(self, *_):
        self.answer("", 307, Location=f"http://{self.headers['Host']}/ok-redirected")

    def do_close(self, *_):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def do_half(self, *_):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"predictions": [')
        self.wfile.flush()
        self.do_close()

    # Shows everything that it was sent, in the ways in which JSON and URLs write it.
    def do_gossip(self, _rest, *_):
        sent = " ".join(f"{name}={value}" for name, value in self.headers.items())
        escaped = json.dumps(sent).replace("/", "\\/")
        coded = "".join(f"\\u{ord(c):04x}" for c in sent)
        which = int(_rest[0])
        self.answer([sent, escaped, coded, quote(sent, safe="")][which], 403)

    def do_bearer(self, rest, content, body):
        if self.headers.get("Authorization") != f"Bearer {BEARER}":
            self.answer({"message": "who are you"}, 401)
        else:
            self.do_ok(rest, content, body)

    def do_key(self, rest, content, body):
        if self.headers.get("X-Api-Key") != "header-secret-42":
            self.answer({"message": "who are you"}, 401)
        else:
            self.do_ok(rest, content, body)

    # SageMaker: built-in algorithms answer with objects, or with a line of CSV.
    def do_endpoints(self, rest, content, body):
        fault = signature_fault(self, body, "sagemaker")
        if fault:
            self.answer({"message": fault}, 403)
        elif self.headers["Content-Type"] == "text/csv":
            results = [str(2 * sum(row)) for row in content]
            self.answer(("," if rest[0].startswith("one-line") else "\n").join(results), kind="text/csv; charset=utf-8")
        else:
            self.answer({"predictions": [{"score": score(instance)} for instance in content["instances"]]})

    # Bedrock: the body belongs to the model.
    def do_model(self, rest, content, body):
        fault = signature_fault(self, body, "bedrock")
        if fault:
            self.answer({"message": fault}, 403)
        else:
            self.answer({"model": unquote(rest[0]), "completion": {"of": content}})


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
(HERE / "port.new").write_text(str(server.server_address[1]))
os.rename(HERE / "port.new", HERE / "port")
server.serve_forever()
