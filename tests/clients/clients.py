"""Python's clients through the gate and directly: the same answers, and one effect an intent.

Usage: clients.py GATE BACKEND LIBRARY   (requests, httpx or aiohttp). Prints how many intents there were.
"""
import asyncio
import concurrent.futures
import sys
import uuid

GATE, BACKEND, LIBRARY = sys.argv[1:4]
FAULT = "delay-after=900,once"


def with_requests():
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    def send(base, method, path, retries=0, timeout=10, **options):
        session = requests.Session()
        retry = Retry(total=retries, backoff_factor=0.2, allowed_methods=None)
        session.mount("http://", HTTPAdapter(max_retries=retry))
        answer = session.request(method, base + path, timeout=timeout, **options)
        return answer.status_code, answer.content, answer.headers
    return send


def with_httpx():
    import httpx

    def send(base, method, path, retries=0, timeout=10, data=None, **options):
        if data is not None:
            options["content"] = data
        with httpx.Client(timeout=timeout) as client:
            for attempt in range(retries + 1):
                try:
                    answer = client.request(method, base + path, **options)
                    return answer.status_code, answer.content, answer.headers
                except httpx.TimeoutException:
                    if attempt == retries:
                        raise
    return send


def with_aiohttp():
    import aiohttp

    async def ask(base, method, path, retries, timeout, options):
        limit = aiohttp.ClientTimeout(total=timeout)
        async with aiohttp.ClientSession(timeout=limit) as session:
            for attempt in range(retries + 1):
                try:
                    async with session.request(method, base + path, **options) as answer:
                        return answer.status, await answer.read(), answer.headers
                except asyncio.TimeoutError:
                    if attempt == retries:
                        raise

    def send(base, method, path, retries=0, timeout=10, **options):
        return asyncio.run(ask(base, method, path, retries, timeout, options))
    return send


send = {"requests": with_requests, "httpx": with_httpx, "aiohttp": with_aiohttp}[LIBRARY]()


def chunks():
    for _ in range(64):
        yield b"x" * 16384


async def chunks_later():
    for chunk in chunks():
        yield chunk


def same(method, path, **options):
    """The answer through the gate is the one without it."""
    body = options.pop("body", None)
    answers = []
    for base in (BACKEND, GATE):
        if body == "chunks":
            options["data"] = chunks_later() if LIBRARY == "aiohttp" else chunks()
        elif body is not None:
            options["data"] = body
        answers.append(send(base, method, path, **options))
    (status, direct, headers), (gate_status, through, gate_headers) = answers
    assert (status, direct) == (gate_status, through), (method, path, status, gate_status, direct[:80], through[:80])
    for name in ("Content-Type", "Content-Length", "ETag", "Location"):
        assert headers.get(name) == gate_headers.get(name), (method, path, name)


same("GET", "/_large?bytes=3000000")
same("HEAD", "/_large?bytes=3000000")
same("GET", "/nothing-here")
same("POST", "/_sink", body=b"y" * 1_000_000)
same("POST", "/_sink", body="chunks")
same("OPTIONS", "/_sink")

intents = 0
# A double click: two at one moment.
key = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json"}
with concurrent.futures.ThreadPoolExecutor() as pool:
    clicks = [pool.submit(send, GATE, "POST", "/api/notes", headers=key, data=b'{"a":1}') for _ in range(2)]
    answers = [click.result() for click in clicks]
assert answers[0][:2] == answers[1][:2] and answers[0][0] == 201, answers
intents += 1
# A timeout in the middle of the write, and the retry of it.
key = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json", "X-Demo-Fault": FAULT, "X-Demo-Operation": str(uuid.uuid4())}
status, body, headers = send(GATE, "POST", "/api/notes", retries=5, timeout=0.4, headers=key, data=b'{"a":2}')
assert status == 201 and headers.get("Idempotent-Replayed") == "true", (status, body)
intents += 1
# The library's own retry of a 502 while nobody knows what became of it gets no second execution.
key = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json", "X-Demo-Fault": "reset-after"}
status, body, _ = send(GATE, "POST", "/api/notes", headers=key, data=b'{"a":3}')
again, _, _ = send(GATE, "POST", "/api/notes", headers=key, data=b'{"a":3}')
assert (status, again) == (502, 409), (status, again, body)
intents += 1
print(intents)
