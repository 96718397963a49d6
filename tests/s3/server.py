"""An S3-compatible server for the tests of the bucket store: moto's S3 with one bucket, `team`, in memory.

moto answers every request on a thread of its own and looks at conditions before it writes, without a lock between the
two; S3 and R2 do both in one step. So requests are handled one at a time here. moto takes any signature; this checks
them, as wrong credentials must be refused. It prints its address, and ends when its standard input does. Headers that are
named as arguments are dropped from every request, as by a server that does not know them.
"""

import hashlib
import hmac
import io
import logging
import os
import sys
import threading
from urllib.parse import parse_qsl, quote

import boto3
from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEY_ID, SECRET, BUCKET = "test", "test-secret", "team"
UNKNOWN = ["HTTP_" + name.upper().replace("-", "_") for name in sys.argv[1:]]


def signature(environ, credential, signed):
    """The AWS Signature Version 4 of a request, made with the secret."""

    def header(name):
        if name == "content-type":
            return environ.get("CONTENT_TYPE", "")
        if name == "content-length":
            return environ.get("CONTENT_LENGTH", "")
        return environ.get("HTTP_" + name.upper().replace("-", "_"), "")

    path = environ.get("REQUEST_URI", "/").split("?", 1)[0]
    pairs = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(pairs)
    )
    headers = "".join(f"{name}:{' '.join(header(name).split())}\n" for name in signed)
    canonical = "\n".join(
        [
            environ["REQUEST_METHOD"],
            path,
            query,
            headers,
            ";".join(signed),
            header("x-amz-content-sha256"),
        ]
    )
    _, date, region, service, end = credential
    scope = "/".join([date, region, service, end])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", header("x-amz-date"), scope, digest])
    key = ("AWS4" + SECRET).encode()
    for part in [date, region, service, end]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def refusal(environ):
    """Why a request is not let in; None when it is."""
    method, _, rest = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if method != "AWS4-HMAC-SHA256":
        return ("AccessDenied", "Access Denied")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    credential = parts["Credential"].split("/")
    if credential[0] != KEY_ID:
        return ("InvalidAccessKeyId", "The access key id you provided does not exist")
    wanted = signature(environ, credential, parts["SignedHeaders"].split(";"))
    if not hmac.compare_digest(wanted, parts["Signature"]):
        return ("SignatureDoesNotMatch", "The request signature does not match")
    return None


class OneAtATime:
    """Checks signatures, and keeps requests apart."""

    def __init__(self, app):
        self.app = app
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        refused = refusal(environ)
        if refused:
            code, message = refused
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [body.encode()]
        for name in UNKNOWN:
            environ.pop(name, None)
        with self.lock:
            return [b"".join(self.app(environ, start_response))]


class Quiet(WSGIRequestHandler):
    """Keeps connections open, and says nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, *_arguments, **_more):
        pass


def main():
    logging.disable(logging.CRITICAL)
    app = OneAtATime(create_backend_app("s3"))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket=BUCKET)
    print(endpoint, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
