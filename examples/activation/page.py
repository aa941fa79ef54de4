"""The page that gunicorn serves."""

TEXT = b"leaf 1\n"


def page(_environment, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(TEXT)))])
    return [TEXT]
