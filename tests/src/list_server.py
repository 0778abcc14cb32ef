"""An HTTP server on loopback whose answers a test chooses, by a file beside it for each path."""

import gzip
import http.server
import os
import sys
import time

DIRECTORY = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with open(os.path.join(DIRECTORY, "requests"), "a") as log:
            keys = [f"{name}: {value}" for name, value in self.headers.items()]
            log.write(f"{self.path} | {' | '.join(keys)}\n")
        name = self.path.strip("/").split("?")[0].replace("/", "_")
        how = "list"
        path = os.path.join(DIRECTORY, name)
        if os.path.exists(path + ".how"):
            with open(path + ".how") as file:
                how = file.read().strip()
        if how == "stall":
            time.sleep(600)
        elif how == "trickle":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while True:
                self.wfile.write(b"1")
                time.sleep(1)
        elif how == "bomb":
            packed = gzip.compress(b"185.0.0.1\n" * 6_000_000)
            self.answer(200, packed, {"Content-Encoding": "gzip"})
        elif how.startswith("redirect "):
            self.answer(302, b"", {"Location": how.split(" ", 1)[1]})
        elif how.startswith("status "):
            self.answer(int(how.split(" ")[1]), b"no", {"Retry-After": "1"})
        elif how == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"185.0.0.1\n")
            self.close_connection = True
        elif not os.path.exists(path):
            self.answer(404, b"no", {})
        else:
            with open(path, "rb") as file:
                body = file.read()
            tag = f'"{hash(body) & 0xFFFFFFFF:x}"'
            if self.headers.get("If-None-Match") == tag:
                self.answer(304, b"", {"ETag": tag})
            else:
                self.answer(200, body, {"ETag": tag})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Handler).serve_forever()
