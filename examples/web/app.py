"""Counts visits: a row in PostgreSQL and a counter in Redis for each."""

import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis

DATABASE = "host=/srv/web/run user=postgres dbname=postgres connect_timeout=3"
local = threading.local()


def database():
    """This thread's connection; a new one after the server was restarted."""
    connection = getattr(local, "connection", None)
    if connection is None or connection.closed:
        connection = local.connection = psycopg2.connect(DATABASE)
        connection.autocommit = True
    return connection


class Visit(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        try:
            status, page = 200, self.visit()
        except (psycopg2.Error, redis.RedisError) as error:
            status, page = 503, f"not now: {error}\n"
        body = page.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def visit(self):
        if self.path == "/up":
            with database().cursor() as cursor:
                cursor.execute("SELECT 1")
            counter.ping()
            return "app\n"
        with database().cursor() as cursor:
            cursor.execute("INSERT INTO visits (path) VALUES (%s)", (self.path,))
        return f"visit {counter.incr('visits')} of {self.path}\n"

    def finish(self):
        super().finish()
        connection = getattr(local, "connection", None)
        if connection is not None:
            connection.close()

    def log_message(self, *_):
        pass


counter = redis.Redis(host="127.0.0.1", port=6379)
server = ThreadingHTTPServer(("127.0.0.1", 8081), Visit)
# Its close waits for the requests that have begun.
server.daemon_threads = False
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("serving", flush=True)
server.serve_forever()
server.server_close()
print("every request that had begun is answered", flush=True)
