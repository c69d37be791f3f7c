"""The shapes of what the admin API takes and gives about rollouts, as JSON Schema (2020-12). A table, nothing else."""

from collections.abc import Mapping
from typing import Any, Final

from gorouter_py.control import rollout_states

_NUMBER: Final = {"type": "number"}
_TEXT: Final = {"type": "string"}
_PERCENT: Final = {"type": ["string", "number"], "description": 'percent, "7.5%" or 7.5', "examples": ["7.5%"]}
_DURATION: Final = {"type": "string", "description": "number and unit", "examples": ["10m", "30s"]}
_LIST_OF_OBJECTS: Final = {"type": "array", "items": {"type": "object"}}
_FLAG: Final = {"type": "boolean"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_NOTES: Final = {"type": "array", "items": _TEXT, "description": "what may make the comparison unfair, or blind"}
_LATENCY: Final = {"type": ["number", "null"], "description": "milliseconds; null before the first answer"}
# Of a version, since the rollout's id is what it is; 0 until the first count, within a second of the start.
_COUNTED: Final = {
    **dict.fromkeys(
        ("requests", "users", "failures", "drawn", "failovers", "retries_on_stable", "kept", "forced", "excluded",
         "mirrored", "mirror_failures"),
        _COUNT,
    ),
    "failure_causes": {"type": "object", "additionalProperties": _COUNT},
    "by_class": {"type": "array", "items": _COUNT, "description": "answers xxx, 1xx, 2xx, 3xx, 4xx, 5xx"},
    **dict.fromkeys(("p50_ms", "p95_ms", "p99_ms"), _LATENCY),
}  # fmt: skip
SCHEMAS: Final[Mapping[str, Any]] = {
    "RolloutStart": {
        "type": "object",
        "required": ["to"],
        "properties": {
            "to": {**_TEXT, "description": "the new version"},
            "from": {**_TEXT, "description": "the present version; default: the only other one"},
            "by": {**_TEXT, "description": "app, process_id, version or tag:NAME; default: what the instances have"},
            "steps": {"type": "array", "items": _PERCENT, "description": "growing weights of the new version"},
            "hold": {**_DURATION, "description": "how long a step is held at least"},
            "pause_at": {"type": "array", "items": _PERCENT, "description": "steps that wait for promote or resume"},
            "max_hold": {**_DURATION, "description": "how long a step waits for a verdict before on_undecided"},
            "on_undecided": {"enum": ["wait", "promote", "pause", "abort"]},
            "cohort": {
                "type": "object",
                "properties": {
                    "mode": {"enum": ["cookie", "identity", "request"]},
                    "identity": {**_TEXT, "description": "header:NAME, cookie:NAME or address:32/64"},
                    "sign": {"enum": ["hmac", None]},
                    "new_sessions_only": _FLAG,
                    "salt": {"type": ["string", "integer", "null"], "description": '"keep", or 0 to 65535'},
                },
            },
            "sticky": {"enum": ["move", "keep"]},
            "override": {"type": "object", "properties": {"allow": _FLAG, "secret_file": _TEXT}},
            "rules": _LIST_OF_OBJECTS,
            "abort_if": {
                "type": "object",
                "properties": {
                    "errors": _FLAG,
                    "latency": {"enum": ["p95", "p99", False]},
                    "client_errors": _FLAG,
                    "alpha": _NUMBER,
                    "slo": {
                        "type": "object",
                        "properties": {
                            "error_rate": _PERCENT,
                            "p95": _DURATION,
                            "p99": _DURATION,
                            "min_requests": {"type": "integer"},
                        },
                    },
                },
            },
            "checks": _LIST_OF_OBJECTS,
            "mirror": {"type": "object", "properties": {"version": _TEXT, "share": _PERCENT}},
            "extra_versions": {"type": "object", "additionalProperties": _PERCENT},
            "propagate": _FLAG,
            "address_cap": {"type": "integer", "description": "first failures that count per client address; 0: all"},
            "forwarded_for": {**_FLAG, "description": "a client's address is the last one of X-Forwarded-For"},
            "who": _TEXT,
            "why": _TEXT,
        },
    },
    "RolloutAction": {
        "type": "object",
        "properties": {"weight": {**_PERCENT, "description": "of set"}, "who": _TEXT, "why": _TEXT},
    },
    "RolloutQuestion": {
        "type": "object",
        "properties": {
            "headers": {"type": "object", "additionalProperties": _TEXT},
            "cookie": {**_TEXT, "description": "the value of the header Cookie"},
            "address": {**_TEXT, "description": "of the client"},
        },
    },
    "RolloutExplanation": {
        "type": "object",
        "required": ["route", "version_name", "reason"],
        "properties": {
            "route": _TEXT,
            "version": {"type": ["integer", "null"]},
            "version_name": _TEXT,
            "reason": _TEXT,
            "u": {"type": ["integer", "null"]},
            "slot": {"type": ["integer", "null"]},
            "fallback": _FLAG,
        },
    },
    "RolloutVersion": {
        "type": "object",
        "required": ["name", "role", "weight", "share_wanted", "share_actual", "endpoints", *_COUNTED],
        "properties": {
            "name": _TEXT,
            "role": {"enum": ["stable", "canary", "extra"]},
            "weight": _NUMBER,
            "share_wanted": _NUMBER,
            "share_actual": {"type": ["number", "null"]},
            "endpoints": {"type": "integer"},
            **_COUNTED,
        },
    },
    "RolloutVerdict": {
        "type": "object",
        "required": ["state", "reason", "log_e", "limit", "metrics"],
        "properties": {
            "state": {"enum": ["disabled", "undecided", "worse", "frozen", "fine"]},
            "reason": _TEXT,
            "log_e": _NUMBER,
            "limit": _NUMBER,
            "metrics": {"type": "object"},
        },
    },
    "RolloutEvent": {
        "type": "object",
        "required": ["at", "state", "weight", "who", "why", "evidence"],
        "properties": {
            "at": _NUMBER,
            "state": _TEXT,
            "weight": _NUMBER,
            "who": _TEXT,
            "why": _TEXT,
            "evidence": _LIST_OF_OBJECTS,
        },
    },
    "Rollout": {
        "type": "object",
        "required": ["route", "id", "epoch", "state", "by", "stable", "canary", "step", "steps", "weight", "hold_s",
                     "next_step_in_s", "paused_by", "decider", "versions", "verdict", "notes", "evidence", "history",
                     "spec"],
        "properties": {
            "route": _TEXT,
            "id": {"type": "integer"},
            "epoch": {"type": "integer"},
            "state": {"enum": list(rollout_states.MOVES)},
            "by": _TEXT,
            "stable": _TEXT,
            "canary": _TEXT,
            "step": {"type": "integer"},
            "steps": {"type": "array", "items": _NUMBER},
            "weight": _NUMBER,
            "hold_s": _NUMBER,
            "next_step_in_s": {"type": ["number", "null"]},
            "waits_for": _TEXT,
            "paused_by": {"type": ["string", "null"]},
            "decider": _FLAG,
            "versions": {"type": "array", "items": {"$ref": "#/components/schemas/RolloutVersion"}},
            "verdict": {"$ref": "#/components/schemas/RolloutVerdict"},
            "notes": _NOTES,
            "evidence": _LIST_OF_OBJECTS,
            "history": {"type": "array", "items": {"$ref": "#/components/schemas/RolloutEvent"}},
            "spec": {"type": "object"},
        },
    },
    "Rollouts": {
        "type": "object",
        "required": ["rollouts"],
        "properties": {"rollouts": {"type": "array", "items": {"$ref": "#/components/schemas/Rollout"}}},
    },
    "RolloutWhy": {
        "type": "object",
        "required": ["route", "state", "verdict", "notes", "clients", "evidence", "history"],
        "properties": {
            "route": _TEXT,
            "state": _TEXT,
            "verdict": {"$ref": "#/components/schemas/RolloutVerdict"},
            "notes": _NOTES,
            "clients": {
                "type": "array",
                "description": "the busiest client of each version, of the requests that were sampled of late",
                "items": {
                    "type": "object",
                    "required": ["version", "client", "share", "users", "sampled"],
                    "properties": {
                        "version": _TEXT,
                        "client": {**_TEXT, "description": "the identity the rollout goes by, else the address"},
                        "share": {**_NUMBER, "description": "percent"},
                        "users": _COUNT,
                        "sampled": _COUNT,
                    },
                },
            },
            "evidence": _LIST_OF_OBJECTS,
            "history": {"type": "array", "items": {"$ref": "#/components/schemas/RolloutEvent"}},
        },
    },
}  # fmt: skip
