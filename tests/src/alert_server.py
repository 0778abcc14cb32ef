"""A receiver of webhooks over HTTPS that checks their signatures, and of reports over HTTP.

Arguments: a directory, a certificate with its key, and the key of the signatures. What it takes is in the file
`taken`, a line of JSON each. The file `how` says what it does: nothing (answer 204), `stall`, or `status N`.
"""

import hashlib
import hmac
import http.server
import json
import os
import ssl
import sys
import threading
import time

DIRECTORY, CERTIFICATE, KEY = sys.argv[1:4]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = os.path.join(DIRECTORY, "how")
        how = open(path).read().strip() if os.path.exists(path) else ""
        status = 204
        if how == "stall":
            time.sleep(600)
        elif how.startswith("status "):
            status = int(how.split(" ")[1])
        if self.path == "/hook":
            expected = "sha256=" + hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
            if not hmac.compare_digest(self.headers.get("X-Ringfence-Signature", ""), expected):
                status = 401
        with open(os.path.join(DIRECTORY, "taken" if status == 204 else "refused"), "a") as log:
            headers = {name: value for name, value in self.headers.items()}
            log.write(json.dumps({"path": self.path, "headers": headers, "body": body.decode()}) + "\n")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


secure = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE)
secure.socket = context.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=secure.serve_forever).start()
http.server.ThreadingHTTPServer(("127.0.0.1", 8098), Handler).serve_forever()
