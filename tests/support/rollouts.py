"""A rollout as the admin API tells it, for tests of those who show it."""

from typing import Any

ROLLOUT: dict[str, Any] = {
    "route": "shop.test/eu", "id": 3, "epoch": 9, "state": "ramping", "by": "version", "stable": "v1", "canary": "v2",
    "step": 1, "steps": [1.0, 5.0, 25.0, 100.0], "weight": 5.0, "hold_s": 600.0, "next_step_in_s": 41.0,
    "paused_by": None, "decider": True,
    "versions": [
        {"name": "v1", "role": "stable", "weight": 95.0, "share_wanted": 95.0, "share_actual": 94.96, "endpoints": 2,
         "requests": 9000, "users": 3000, "failures": 9, "failure_causes": {"status": 9}, "p50_ms": 4.2, "p95_ms": 20.0,
         "p99_ms": 31.0, "mirrored": 0},
        {"name": "v2", "role": "canary", "weight": 5.0, "share_wanted": 5.0, "share_actual": 5.04, "endpoints": 1,
         "requests": 470, "users": 158, "failures": 12, "failure_causes": {"status": 12}, "p50_ms": 4.4, "p95_ms": 22.0,
         "p99_ms": 1200.0, "mirrored": 0},
    ],
    "verdict": {"state": "undecided", "reason": "evidence 2.6 of 4.6 against the canary: not enough yet", "log_e": 2.6,
                "limit": 4.605,
                "metrics": {"errors": {"log_e": 2.8, "canary": 7, "stable": 4, "theta0": 0.05},
                            "latency": {"log_e": 0.0, "canary": 0, "stable": 0, "theta0": 0.05}}},
    "notes": ["traffic differs: a canary user makes 3 times as many requests as a stable one"],
    "evidence": [{"at": 1764086400.0, "version": "v2", "metric": "errors", "cause": "status", "status": 500,
                  "method": "GET", "path": "/cart", "request_id": "id-7", "address": "192.0.2.7", "latency_ms": 3.0}],
    "history": [{"at": 1764086000.0, "state": "ramping", "who": "kim", "why": "begun", "evidence": None}],
    "spec": {"cohort": {"mode": "identity", "identity": "header:x-tenant"}},
}  # fmt: skip
