"""The configuration file: what is read, what is refused, where and with which words."""

import contextlib
import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorouter_py.component import ConfigError, format_duration, parse_duration
from gorouter_py.control import config, keys

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PRIVATE_KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n"
TLS_BASE = {
    "client_cert_validation": "none",
    "cipher_suites": "ECDHE-RSA-AES128-GCM-SHA256",
    "tls_pem": [keys.CertKey(CERTIFICATE, PRIVATE_KEY)],
    "enable_ssl": True,
}


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "c.yml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def refusal(path: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    return caught.value


# -- reading -----------------------------------------------------------------------------------------------


def test_no_file_means_defaults() -> None:
    loaded = config.load(None)
    assert (loaded.config.port, loaded.config.nats.hosts) == (8081, [keys.NatsHost("localhost", 4222)])
    assert loaded.config.drain_timeout == loaded.config.endpoint_timeout == 60.0
    assert [*loaded.unknown, *loaded.without_effect] == []


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "null\n", "\ufeffport: 8081\n"])
def test_an_empty_file_means_defaults(file, text: str) -> None:
    assert config.load(file(text)).config == config.load(None).config


def test_values_of_every_type(file) -> None:
    loaded = config.load(
        file("""
status: {port: 0x50, user: 7, pass: 0123, enable_nontls_health_checks: yes}
nats:
  hosts: [{hostname: a}, {hostname: b, port: 1_000}]
endpoint_timeout: "1m30s"
frontend_idle_timeout: 200ms
go_max_procs: -1
sticky_session_cookie_names: [A, 'B', 3]
prometheus: {meters: {http_latency_histogram_buckets: [1, .5, 1e3]}}
tls_pem:
- cert_chain: |
    line
""")
    ).config
    assert (loaded.status.port, loaded.status.user, loaded.status.pass_) == (80, "7", "0123")
    assert loaded.nats.hosts == [keys.NatsHost("a", 4222), keys.NatsHost("b", 1000)]
    assert (loaded.endpoint_timeout, loaded.frontend_idle_timeout) == (90.0, 0.2)
    assert loaded.sticky_session_cookie_names == ["A", "B", "3"]
    assert loaded.prometheus.meters.http_latency_histogram_buckets == [1.0, 0.5, 1000.0]
    assert loaded.tls_pem == [keys.CertKey("line\n", "")]


def test_null_keeps_scalars_and_sections_and_empties_lists(file) -> None:
    loaded = config.load(file("port: ~\nstatus:\nsticky_session_cookie_names:\n")).config
    assert (loaded.port, loaded.status, loaded.sticky_session_cookie_names) == (8081, keys.Status(), [])


def test_anchors_and_merges(file) -> None:
    loaded = config.load(
        file("""
common: &common {port: 9000, user: u}
status:
  <<: [*common, {pass: p, user: later}]
  port: 9001
""")
    )
    status = loaded.config.status
    assert (status.port, status.user, status.pass_) == (9001, "u", "p")
    assert [problem.path for problem in loaded.unknown] == ["common"]


def test_a_merge_of_itself_ends(file) -> None:
    assert config.load(file("status: &s\n  <<: *s\n  port: 5\n")).config.status.port == 5


def test_only_the_first_document_counts(file) -> None:
    assert config.load(file("port: 1\n---\nport: 2\n")).config.port == 1


def test_lists_are_not_shared_between_configurations() -> None:
    config.Config().nats.hosts[0].hostname = "changed"
    assert config.Config().nats.hosts[0].hostname == "localhost"


# -- refusals ----------------------------------------------------------------------------------------------

TYPE_ERRORS = [
    ("endpoint_timeout: 5", 19, "cannot unmarshal !!int `5` into time.Duration", '"5s" or "5ms"'),
    ("endpoint_timeout: 0", 19, "cannot unmarshal !!int `0` into time.Duration", '"0s"'),
    ("endpoint_timeout: '5'", 19, "cannot unmarshal !!str `5` into time.Duration", '"5s"'),
    ("endpoint_timeout: 5 s", 19, "cannot unmarshal !!str `5 s` into time.Duration", "unit"),
    ("port: 70000", 7, "cannot unmarshal !!int `70000` into uint16", "0 to 65535"),
    ("port: -1", 7, "cannot unmarshal !!int `-1` into uint16", "0 to 65535"),
    ('port: "80"', 7, "cannot unmarshal !!str `80` into uint16", "without quotes"),
    ("port: a-very-long-word", 7, "cannot unmarshal !!str `a-very-...` into uint16", "0 to 65535"),
    ("index: -1", 8, "cannot unmarshal !!int `-1` into uint", "0 or more"),
    ("secure_cookies: 1", 17, "cannot unmarshal !!int `1` into bool", "true or false"),
    ('secure_cookies: "true"', 17, "cannot unmarshal !!str `true` into bool", "true or false"),
    ("status: 5", 9, "cannot unmarshal !!int `5` into config.Status", "below"),
    ("status: [1]", 9, "cannot unmarshal !!seq into config.Status", "below"),
    ("logging: {level: {a: b}}", 18, "cannot unmarshal !!map into string", "one value"),
    ("extra_headers_to_log: a", 23, "cannot unmarshal !!str `a` into []string", "- "),
    ("tls_pem: {a: b}", 10, "cannot unmarshal !!map into []config.CertKey", "- "),
    ("{port: 1, port: 2}", 11, 'mapping key "port" already defined at line 1', ""),
    ("status: {<<: 5}", 14, "map merge requires map or sequence of maps as the value", ""),
    ("- a", 1, "cannot unmarshal !!seq into config.Config", "below"),
]


@pytest.mark.parametrize(("text", "column", "go", "valid"), TYPE_ERRORS, ids=[row[0] for row in TYPE_ERRORS])
def test_wrong_type(file, text: str, column: int, go: str, valid: str) -> None:
    error = refusal(file("# first line\n" + text + "\n"))
    (problem,) = error.problems
    go = go.replace("at line 1", "at line 2")
    assert error.go == f"yaml: unmarshal errors:\n  line 2: {go}"
    assert (problem.mark.line, problem.mark.column) == (2, column)
    assert valid in problem.valid
    assert str(problem).startswith(f"{problem.mark.file}:2:{column}: {problem.path}")


def test_all_wrong_types_are_told_at_once(file) -> None:
    error = refusal(file("port: x\nstatus:\n  port: y\nbalancing_algorithm: z\n"))
    assert [problem.path for problem in error.problems] == ["port", "status.port"]
    assert error.go.count("\n  line ") == 2


SYNTAX = [
    ("a: b: c", 1, 5),
    ("port: 1\nstatus: {\n", 3, 1),
    ("port: 1\n\tstatus: 2", 2, 1),
    ("port: *nowhere", 1, 7),
    ("port: \x01", 1, 7),
]


@pytest.mark.parametrize(("text", "line", "column"), SYNTAX, ids=[repr(row[0]) for row in SYNTAX])
def test_no_yaml(file, text: str, line: int, column: int) -> None:
    error = refusal(file(text))
    assert (error.problems[0].mark.line, error.problems[0].mark.column) == (line, column)
    assert error.go.startswith("yaml: ")


def test_no_utf8(file) -> None:
    (problem,) = refusal(file(b"port: 1\n# \xff\n")).problems
    assert (problem.mark.line, problem.mark.column) == (2, 3)
    assert "0xff" in problem.text


def test_no_file(tmp_path: Path) -> None:
    error = refusal(str(tmp_path / "none.yml"))
    assert error.go == f"open {tmp_path}/none.yml: no such file or directory"
    assert str(error) == f"{tmp_path}/none.yml: No such file or directory"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "Is a directory" in str(refusal(str(tmp_path)))


# -- rules -------------------------------------------------------------------------------------------------

RULES: list[tuple[dict[str, object], str]] = [
    (
        {**TLS_BASE, "client_cert_validation": ""},
        "router.client_cert_validation must be one of 'none', 'request' or 'require'.",
    ),
    (
        {**TLS_BASE, "min_tls_version": "TLSv2"},
        'router.min_tls_version should be one of "", "TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1.0"',
    ),
    ({**TLS_BASE, "max_tls_version": "TLSv1.1"}, 'router.max_tls_version should be one of "TLSv1.2" or "TLSv1.3"'),
    ({**TLS_BASE, "tls_pem": []}, "router.tls_pem must be provided if router.enable_ssl is set to true"),
    (
        {**TLS_BASE, "tls_pem": [keys.CertKey(CERTIFICATE)]},
        "Error parsing PEM blocks of router.tls_pem, missing cert or key.",
    ),
    (
        {**TLS_BASE, "tls_pem": [keys.CertKey("x", PRIVATE_KEY)]},
        "Error loading key pair: tls: failed to find any PEM data in cert_chain input",
    ),
    ({**TLS_BASE, "cipher_suites": ""}, "must specify list of cipher suite when ssl is enabled"),
    (
        {**TLS_BASE, "cipher_suites": "AES128-SHA:NOPE"},
        "Invalid cipher string configuration: NOPE, please choose from [",
    ),
    (
        {"disable_http": True},
        "neither http nor https listener is enabled: router.enable_ssl: false, router.disable_http: true",
    ),
    (
        {"balancing_algorithm": "x"},
        "Invalid load balancing algorithm x. Allowed values are [round-robin least-connection]",
    ),
    (
        {"balancing_algorithm_az_preference": "x"},
        "Invalid load balancing AZ preference x. Allowed values are [none locally-optimistic]",
    ),
    ({"load_balancer_healthy_threshold": -5.0}, "Invalid load balancer healthy threshold: -5s"),
    (
        {"forwarded_client_cert": "x"},
        "Invalid forwarded client cert mode: x. Allowed values are [always_forward forward sanitize_set]",
    ),
    (
        {"routing_table_sharding_mode": "x"},
        "Invalid sharding mode: x. Allowed values are [all segments shared-and-segments]",
    ),
    (
        {"routing_table_sharding_mode": "segments"},
        "Expected isolation segments; routing table sharding mode set to segments and none provided.",
    ),
    (
        {"logging.redact_query_params": "x"},
        "Invalid query param redaction mode: x. Allowed values are [none all hash]",
    ),
    (
        {"status.enable_nontls_health_checks": False},
        "Neither TLS nor non-TLS health endpoints are enabled. Refusing to start gorouter.",
    ),
    ({"status.tls.certificate": CERTIFICATE}, "router.status.tls.key must be provided"),
    ({"status.tls.key": PRIVATE_KEY}, "router.status.tls.certificate must be provided"),
    (
        {"status.tls.key": PRIVATE_KEY, "status.tls.certificate": CERTIFICATE, "status.tls.port": 0},
        "router.status.tls.port must not be 0",
    ),
    ({"ca_certs": [CERTIFICATE, "x"]}, "Error while adding 1 cert in CACerts to gorouter's cert pool"),
    (
        {**TLS_BASE, "client_cert_validation": "require", "only_trust_client_ca_certs": True},
        "router.client_ca_certs cannot be empty if router.only_trust_client_ca_certs is 'true' and "
        "router.client_cert_validation is set to 'request' or 'require'.",
    ),
    ({"endpoint_timeout": -1.0}, "-1s is negative"),
    ({**TLS_BASE, "disable_http": True}, "TLS is not served yet, and without http nothing would listen"),
    ({"nats.tls_enabled": True, "nats.cert_chain": CERTIFICATE}, "nats.private_key must be provided"),
    ({"nats.tls_enabled": True, "nats.ca_certs": "/a/path.pem"}, "nats.ca_certs is no PEM"),
    ({"nats.hosts": [keys.NatsHost()]}, "hostname is missing"),
    ({"sticky_session_cookie_names": [str(n) for n in range(17)]}, "17 names are too many"),
    ({"sticky_session_cookie_names": ["x" * 64]}, f"the name '{'x' * 64}' has 64 bytes"),
    ({"sticky_session_cookie_names": ["A", ""]}, "the name '' has 0 bytes"),
    ({"healthcheck_user_agent": "é" * 128}, "256 bytes are too many"),
    ({"access_log.file": "x" * 4096}, "4096 bytes are too many"),
    ({"oauth.port": 65536}, "65536 is no port"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "go"), RULES, ids=[row[1][:60] for row in RULES])
def test_broken_rule(values: dict[str, object], go: str) -> None:
    problems = config.inspect(None, {}, values).problems
    assert len(problems) == 1
    assert problems[0].go.startswith(go)
    assert go.endswith("[") or problems[0].go == go


@pytest.mark.parametrize(
    "values",
    [
        TLS_BASE,
        {**TLS_BASE, "cipher_suites": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:RC4-SHA", "min_tls_version": "TLSv1.0"},
        {"routing_table_sharding_mode": "segments", "isolation_segments": ["a"]},
        {
            "status.enable_nontls_health_checks": False,
            "status.tls.certificate": CERTIFICATE,
            "status.tls.key": PRIVATE_KEY,
        },
        {"nats.tls_enabled": True, "nats.ca_certs": CERTIFICATE},
        {"client_cert_validation": "nonsense"},  # gorouter: looked at with enable_ssl alone
    ],
)
def test_kept_rules(values: dict[str, object]) -> None:
    assert config.inspect(None, {}, values).problems == []


def test_a_broken_rule_has_a_place_and_a_hint(file) -> None:
    path = file("port: 1\n\nbalancing_algorithm: round-robbin\n")
    error = refusal(path)
    said = "'round-robbin' is not known; valid: round-robin, least-connection (did you mean round-robin?)"
    assert str(error) == f"{path}:3:22: balancing_algorithm: {said}"


def test_all_broken_rules_are_told_and_gorouter_the_first(file) -> None:
    error = refusal(file("forwarded_client_cert: x\nbalancing_algorithm: y\n"))
    assert [problem.path for problem in error.problems] == ["balancing_algorithm", "forwarded_client_cert"]
    assert error.go.startswith("Invalid load balancing algorithm y")


# -- findings ----------------------------------------------------------------------------------------------


def test_unknown_keys_are_listed_with_the_nearest_known(file) -> None:
    loaded = config.load(file("prot: 1\nstatus:\n  routse: {port: 5}\nnothing_like_it: [1]\n"))
    assert [(p.mark.line, p.mark.column, p.path, p.valid) for p in loaded.unknown] == [
        (1, 1, "prot", "did you mean port?"),
        (3, 3, "status.routse", "did you mean routes?"),
        (4, 1, "nothing_like_it", ""),
    ]


def test_keys_without_effect_are_listed_with_their_reason(file) -> None:
    loaded = config.load(
        file(
            "enable_zipkin: true\nroute_services:\n  max_attempts: 3\nca_certs:\n- |\n  "
            + CERTIFICATE.replace("\n", "\n  ")
        )
    )
    places = [(p.mark.line, p.path) for p in loaded.without_effect]
    assert places == [(3, "route_services.max_attempts"), (5, "ca_certs")]
    assert all(p.text.startswith("has no effect: ") for p in loaded.without_effect)


def test_names_of_go_structs_are_ignored(file) -> None:
    loaded = config.load(file("backends:\n  clientauthcertificate: {certificate: []}\n"))
    assert [problem.path for problem in loaded.unknown] == ["backends.clientauthcertificate"]


# -- derived values and settings ---------------------------------------------------------------------------


def test_derived_values(file) -> None:
    loaded = config.load(
        file("start_response_delay_interval: 3m\nendpoint_timeout: 7s\nendpoint_dial_timeout: 2s\n")
    ).config
    assert (loaded.droplet_stale_threshold, loaded.drain_timeout, loaded.websocket_dial_timeout) == (180.0, 7.0, 2.0)


def test_settings_of_gorouter() -> None:
    settings = config.data_plane_settings(config.load(None).config)
    assert settings["upstream_keep_alive"] is False
    assert settings["max_attempts"] == 1
    assert settings["request_timeout_ms"] == 60_000
    assert settings["idle_timeout_ms"] == 900_000
    assert settings["head_timeout_ms"] == settings["body_timeout_ms"] == 0
    assert settings["cool_down_ms"] == 30_000
    assert settings["head_bytes_max"] == 1 << 20
    assert settings["retry_idempotent"] is True
    assert settings["workers"] >= 1


def test_settings_of_serve() -> None:
    loaded = config.serve_config(None, {"go_max_procs": 3, "nats.pass": "x"}).config
    settings = config.data_plane_settings(loaded)
    assert settings["upstream_keep_alive"] is True
    assert (settings["max_attempts"], settings["head_timeout_ms"], settings["workers"]) == (3, 30_000, 3)
    assert (loaded.start_response_delay_interval, loaded.nats.hosts, loaded.nats.pass_) == (0.0, [], "x")
    assert loaded.gorouter_py.nats_optional


def test_settings_of_the_balancer() -> None:
    values = {
        "backends.max_conns": 7,
        "balancing_algorithm": "least-connection",
        "balancing_algorithm_az_preference": "locally-optimistic",
    }
    settings = config.data_plane_settings(config.serve_config(None, values).config)
    assert (settings["max_conns"], settings["balancing_algorithm"], settings["zone_preference"]) == (
        7, "least-connection", True,
    )  # fmt: skip


def test_settings_of_headers_and_logs(file) -> None:
    path = file(
        "http_rewrite: {responses: {add_headers_if_not_present: [{name: X-A, value: 'a b'}],\n"
        "  remove_headers: [{name: X-B}]}}\n"
        "extra_headers_to_log: [X-C, X-C, Host]\nhop_by_hop_headers_to_filter: [X-Forwarded-For, X-D]\n"
        "tracing: {enable_zipkin: true, enable_w3c: true, w3c_tenant_id: t}\n"
        "logging: {redact_query_params: hash, enable_attempts_details: true,\n"
        "  extra_access_log_fields: [local_address]}\n"
        "trace_key: '22'\nmax_response_headers: 7\nmax_response_header_bytes: 5000\nmax_request_headers: 9\n"
        "keep_alive_100_continue_requests: true\nsticky_sessions_for_auth_negotiate: true\n"
    )
    loaded = config.load(path)
    assert not loaded.without_effect
    settings = config.data_plane_settings(loaded.config)
    assert settings["add_response_headers"] == (("X-A", "a b"),)
    assert (settings["remove_response_headers"], settings["extra_headers_to_log"]) == (("X-B",), ("X-C", "Host"))
    assert settings["keep_nominated_headers"] == ("X-Forwarded-For", "X-D")
    assert (settings["enable_zipkin"], settings["enable_w3c"], settings["w3c_tenant_id"]) == (True, True, "t")
    assert (settings["redact_query_params"], settings["trace_key"]) == ("hash", "22")
    assert settings["extra_access_log_fields"] == (
        "local_address", "failed_attempts", "failed_attempts_time", "dns_time", "dial_time", "tls_time", "backend_time",
    )  # fmt: skip
    assert (settings["max_response_headers"], settings["max_request_headers"]) == (7, 9)
    assert settings["max_response_header_bytes"] == 5000
    assert settings["keep_alive_100_continue"] and settings["sticky_auth_negotiate"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("extra_headers_to_log: [X A]\n", "extra_headers_to_log[0]"),
        ("hop_by_hop_headers_to_filter: ['']\n", "hop_by_hop_headers_to_filter[0]"),
        ("http_rewrite: {responses: {remove_headers: [{name: ''}]}}\n", "http_rewrite.responses.remove_headers[0]"),
        (
            'http_rewrite: {responses: {add_headers_if_not_present: [{name: X, value: "a\\nX: b"}]}}\n',
            "http_rewrite.responses.add_headers_if_not_present[0]",
        ),
        (f"extra_headers_to_log: [{', '.join(f'X-{n}' for n in range(65))}]\n", "extra_headers_to_log"),
        ("http_rewrite: {responses: {add_headers_if_not_present: [{name: X, value: " + "a" * 8192 + "}]}}\n",
         "http_rewrite.responses.add_headers_if_not_present"),
        ("trace_key: " + "x" * 256 + "\n", "trace_key"),
    ],
)  # fmt: skip
def test_headers_that_cannot_be_sent(file, text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(file(text))
    assert [problem.path for problem in caught.value.problems] == [place]


def test_serve_takes_the_file_over_its_defaults_and_flags_over_the_file(file) -> None:
    path = file("backends: {max_attempts: 5}\nport: 1\nread_header_timeout: 1s\n")
    loaded = config.serve_config(path, {"port": 2}).config
    assert (loaded.backends.max_attempts, loaded.port, loaded.read_header_timeout) == (5, 2, 1.0)
    assert loaded.disable_keep_alives is False


def test_serve_does_not_change_its_defaults() -> None:
    config.serve_config(None, {}).config.nats.hosts.append(keys.NatsHost("a"))
    assert config.SERVE_DEFAULTS["nats.hosts"] == []


@pytest.mark.parametrize(
    ("seconds", "ms"), [(0.0, 0), (1e-9, 1), (0.0001, 1), (0.001, 1), (0.0011, 2), (0.07, 70), (1.1, 1100)]
)
def test_milliseconds_are_rounded_up_and_only_zero_is_no_limit(seconds: float, ms: int) -> None:
    loaded = config.serve_config(None, {"endpoint_timeout": seconds}).config
    assert config.data_plane_settings(loaded)["request_timeout_ms"] == ms


@pytest.mark.parametrize(
    ("values", "bytes_max"),
    [
        ({"max_header_bytes": 5000}, 5000),
        ({"max_header_bytes": 5000, "max_request_header_bytes": 6000}, 6000),
        ({"max_header_bytes": 2 << 20}, 1 << 20),
        ({"max_request_header_bytes": -1}, 1 << 20),
        ({}, 1 << 20),
    ],
)
def test_head_limit(values: dict[str, object], bytes_max: int) -> None:
    assert config.data_plane_settings(config.serve_config(None, values).config)["max_request_header_bytes"] == bytes_max


@pytest.fixture
def fastpath():
    return pytest.importorskip("gorouter_py._fastpath", reason="needs the compiled unit", exc_type=ImportError)


EXTREMES: list[dict[str, object]] = [
    {},
    {
        "go_max_procs": 10**6,
        "backends.max_attempts": 10**6,
        "backends.max_conns": 2**63 - 1,
        "max_idle_conns_per_host": 10**9,
        "max_header_bytes": 10**9,
    },
    {"go_max_procs": -5, "backends.max_attempts": -5, "max_idle_conns_per_host": -5, "max_header_bytes": 1},
    {"backends.max_conns": -1},
    *({key: value for key in ("max_request_headers", "max_response_headers", "max_response_header_bytes",
                              "max_request_header_bytes")} for value in (-1, 2**62)),
    {"extra_headers_to_log": [f"X-{n}" for n in range(64)], "trace_key": "x" * 255, "tracing.w3c_tenant_id": "x" * 255},
    {"endpoint_timeout": 2**63 / 1e9, "frontend_idle_timeout": 2**63 / 1e9, "gorouter_py.max_connections": 2**31},
    {"sticky_session_cookie_names": [f"{n:063}" for n in range(16)], "healthcheck_user_agent": "x" * 255},
    {"sticky_session_cookie_names": [], "healthcheck_user_agent": "", "access_log.file": "/" + "x" * 4094},
    {"sticky_session_cookie_names": ["A"] * 100},
]


@pytest.mark.parametrize("values", EXTREMES)
def test_settings_are_taken_by_the_data_plane(fastpath, values: dict[str, object]) -> None:
    loaded = config.serve_config(None, values).config
    whole = fastpath.check_settings(config.data_plane_settings(loaded))
    assert set(config.data_plane_settings(loaded)) <= set(whole)


def test_limits_are_those_of_the_data_plane(fastpath) -> None:
    assert fastpath.RANGES["workers"] == (1, config.WORKERS_MAX)
    assert fastpath.RANGES["max_attempts"] == (1, config.ATTEMPTS_MAX)
    assert fastpath.RANGES["head_bytes_max"][1] == config.HEAD_BYTES_MAX
    assert fastpath.RANGES["max_request_headers"] == (0, config.FIELDS_MAX)
    assert fastpath.RANGES["max_response_headers"] == (0, config.RESPONSE_MAX)
    assert fastpath.RANGES["max_response_header_bytes"] == (0, config.RESPONSE_MAX)
    assert fastpath.RANGES["upstream_idle_per_endpoint"] == (0, config.IDLE_MAX)


def test_override_of_no_key() -> None:
    with pytest.raises(AttributeError):
        config.override(config.Config(), "status.nothing", 1)


def test_plain_reads_back_to_the_same(file) -> None:
    first = config.serve_config(None, {"status.pass": "p:'\"", "tls_pem": [keys.CertKey("a", "b")], "zone": "é"}).config
    again = config.load(file(config.as_yaml(first, hide_secrets=False))).config
    assert again == first


def test_plain_hides_secrets() -> None:
    secrets = [row.path for row in keys.rows() if row.secret and "[]" not in row.path]
    loaded = config.Config()
    for path in secrets:
        config.override(loaded, path, "hush")
    loaded.tls_pem = [keys.CertKey("a", "hush")]
    assert len(secrets) > 5
    assert "hush" not in config.as_yaml(loaded)
    assert config.as_yaml(loaded, hide_secrets=False).count("hush") == len(secrets) + 1


def test_every_field_is_declared_as_a_key() -> None:
    def walk(section: type) -> None:
        for field in dataclasses.fields(section):
            assert set(field.metadata) == {"note", "now", "secret", "choices"}, field.name
            kind = keys.hints(section)[field.name]
            if dataclasses.is_dataclass(kind):
                walk(kind)

    walk(config.Config)


# -- durations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5.0),
        ("200ms", 0.2),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("-5s", -5.0),
        ("+5s", 5.0),
        ("0", 0.0),
        ("0s", 0.0),
        (".5s", 0.5),
        ("5.s", 5.0),
        ("1h1m1s1ms1us1ns", 3661.001001001),
        ("1µs", 1e-6),
        ("1μs", 1e-6),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert math.isclose(parse_duration(text), seconds, rel_tol=1e-12)


@pytest.mark.parametrize(
    "text", ["", "-", "5", "s", ".s", "5x", "5 s", "5s ", "1e3s", "٣s", "00", "9999999h", "5S", "--5s"]
)
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


@given(st.integers(0, 10**18))
def test_durations_read_back(nanoseconds: int) -> None:
    seconds = nanoseconds / 1e9
    assert math.isclose(parse_duration(format_duration(seconds)), seconds, rel_tol=1e-12, abs_tol=1e-9)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert abs(parse_duration(text)) < 2**63 / 1e9


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_bytes(data)
    try:
        config.load(str(path))
    except ConfigError as error:
        assert error.problems and all(str(problem).startswith(str(path)) for problem in error.problems)
