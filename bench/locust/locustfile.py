"""Users who log in and then stay on the instance where their session began.

    locust -f bench/locust/locustfile.py --host http://127.0.0.1:8081

The app behind the router sets JSESSIONID at /login and answers every other page with the name of its instance, as
`origin -n NAME` of bench/load/native does. An answer of another instance than the one that logged the user in counts as
a failure "session moved". BENCH_HOST is the Host field (default shop.bench); BENCH_LATENCIES a file that gets all
latencies as JSON, since locust itself rounds to milliseconds.
"""

import json
import os
from typing import Any

from locust import FastHttpUser, between, events, task

HOST = os.environ.get("BENCH_HOST", "shop.bench")
LATENCIES = os.environ.get("BENCH_LATENCIES", "")
BIG_BYTES = 65536

latencies_ms: list[float] = []


@events.request.add_listener  # type: ignore[untyped-decorator]
def keep_latency(response_time: float, exception: Exception | None, **_: Any) -> None:
    """Keeps what locust would round."""
    if exception is None:
        latencies_ms.append(response_time)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def write_latencies(environment: Any, **_: Any) -> None:
    """Writes them beside the numbers of requests and failures, failures by text."""
    if LATENCIES:
        total = environment.stats.total
        failures = {error.error: error.occurrences for error in environment.stats.errors.values()}
        found = {
            "requests": total.num_requests,
            "failed": total.num_failures,
            "failures": {str(text): count for text, count in failures.items()},
            "latencies_ms": latencies_ms,
        }
        with open(LATENCIES, "w", encoding="utf-8") as file:
            json.dump(found, file)


class Shopper(FastHttpUser):
    """Logs in, looks around, now and then logs in anew."""

    wait_time = between(0.01, 0.05)
    headers = {"Host": HOST}  # noqa: RUF012  (locust shares it between users on purpose)
    instance = ""

    def on_start(self) -> None:
        self.log_in()

    def log_in(self) -> None:
        """Begins a session; both cookies must come."""
        with self.client.get("/login", headers=self.headers, name="/login", catch_response=True) as answer:
            names = {cookie.name for cookie in self.client.cookiejar}
            if answer.status_code == 200 and not {"JSESSIONID", "__VCAP_ID__"} <= names:
                answer.failure(f"login set only {sorted(names)}")
            self.instance = answer.text or ""

    @task(20)
    def look(self) -> None:
        """A page of the session's instance."""
        with self.client.get("/catalogue", headers=self.headers, name="/catalogue", catch_response=True) as answer:
            if answer.status_code == 200 and answer.text != self.instance:
                answer.failure("session moved")

    @task(2)
    def load_picture(self) -> None:
        """64 KiB."""
        with self.client.get("/64k", headers=self.headers, name="/64k", catch_response=True) as answer:
            if answer.status_code == 200 and len(answer.content or b"") != BIG_BYTES:
                answer.failure("answer cut short")

    @task(1)
    def come_back(self) -> None:
        """Forgets the session and begins another."""
        self.client.cookiejar.clear()
        self.log_in()
