"""`gorouter-py canary`: start, watch and steer rollouts through the admin API of a running router, and nothing else.

Exit codes: 1 for a router that cannot be reached or says no, 2 for a wrong flag or value, 3 for a route without a
rollout, 4 from `status -w` for a rollout that was aborted.
"""

import getpass
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from gorouter_py.control import canary_flags, canary_view, flags, reach
from gorouter_py.control.admin_client import AdminClient, AdminError, route_path

EXIT_FAILED, EXIT_NO_ROLLOUT, EXIT_ABORTED = 1, 3, 4


# -- asking the router -------------------------------------------------------------------------------------


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except AdminError as error:
        _fail(str(error), EXIT_NO_ROLLOUT if error.status == 404 else EXIT_FAILED)


def _fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    print(f"gorouter-py canary: {message}", file=sys.stderr)
    sys.exit(code)


def _all(client: AdminClient) -> list[canary_view.Rollout]:
    found: list[canary_view.Rollout] = client.call("GET", "/v1/rollouts")["rollouts"]
    return found


def _the_route(client: AdminClient, route: str | None) -> str:
    """The route that is meant: the only one with a rollout if none is given."""
    if route is not None:
        return route
    routes = [str(each["route"]) for each in _all(client)]
    if not routes:
        _fail("there is no rollout; begin one with: gorouter-py canary start ROUTE --to VERSION", EXIT_NO_ROLLOUT)
    if len(routes) > 1:
        raise click.UsageError(f"which one? There are rollouts of {', '.join(sorted(routes))}.")
    return routes[0]


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _print(lines: list[str]) -> None:
    click.echo("\n".join(lines))


_who_option = click.option("--who", default=_who, help="Name in the history.  [default: your user name]")
_why_option = click.option("--why", default="", metavar="TEXT", help="Reason in the history.")


# -- commands ----------------------------------------------------------------------------------------------


@click.group(context_settings=flags.PLAIN_SETTINGS)
def canary() -> None:
    """Give a new version of an app to some of its users, and take it back by itself if it is worse.

    ROUTE is the route's host, or host/path; it may be left out where only one route has a rollout.

    \b
    Examples:
      gorouter-py canary start shop.example.com --to v2 --steps 1%,5%,25%,50%,100% --hold 10m
      gorouter-py canary status -w
      gorouter-py canary why
      gorouter-py canary set 7.5%
      gorouter-py canary explain --header 'X-Tenant: 4711'

    Exit codes: 1 the router cannot be reached or says no, 2 a wrong flag, 3 no such rollout, 4 (status -w) aborted.
    """


@canary.command(context_settings=flags.PLAIN_SETTINGS)
@click.argument("route")
@click.option("--to", metavar="VERSION", help="The new version.")
@click.option("--from", "from_", metavar="VERSION", help="The present one.  [default: the other version there is]")
@click.option("--by", metavar="WHAT", help="What a version is: app, process_id, tag:NAME or version.  [default: found]")
@click.option("--steps", type=canary_flags.STEPS, help="Share of users, step by step.  [default: 1%,5%,25%,50%,100%]")
@click.option("--hold", type=canary_flags.DURATION, help="Time at each step.  [default: 10m]")
@click.option("--pause-at", type=canary_flags.STEPS, help="Steps that wait for `promote` or `resume`.")
@click.option("--max-hold", type=canary_flags.DURATION, help="Longest wait for a verdict at a step.  [default: 1h]")
@click.option(
    "--on-undecided",
    type=click.Choice(["wait", "promote", "pause", "abort"]),
    help="What happens after that.  [default: wait]",
)
@click.option(
    "--abort-if",
    "conditions",
    type=canary_flags.CONDITION,
    multiple=True,
    help="errors>stable, p99>stable, client-errors>stable, errors>1%, p99>500ms, never. Repeatable.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Chance of rolling back a version that is no worse.  [default: 0.01]",
)
@click.option(
    "--mode",
    type=click.Choice(["cookie", "identity", "request"]),
    help="What keeps a user in a version.  [default: cookie]",
)
@click.option(
    "--identity", metavar="WHAT", help="header:NAME, cookie:NAME or address: who a user is. Implies identity."
)
@click.option("--sign", is_flag=True, help="Sign the cookie, so that nobody can choose a version.")
@click.option("--new-sessions-only", is_flag=True, help="Sessions that began before stay in the present version.")
@click.option("--keep-users", is_flag=True, help="The same users as in the last rollout come first.")
@click.option("--sticky", type=click.Choice(["move", "keep"]), help="Sessions of the other version.  [default: move]")
@click.option("--allow-override", is_flag=True, help="X-Canary: VERSION and the cookie gr_v choose, for testers.")
@click.option("--override-secret-file", metavar="FILE", help="Only with the secret of this file (on the router).")
@click.option(
    "--rule", "rules", type=canary_flags.RULE, multiple=True, help="header:x-beta=yes->v2 and the like. Repeatable."
)
@click.option(
    "--mirror", type=canary_flags.PAIR, help="Copy a share of the requests to a version, answers thrown away."
)
@click.option(
    "--extra", "extras", type=canary_flags.PAIR, multiple=True, help="A further version with its own share. Repeatable."
)
@click.option(
    "--webhook",
    "webhooks",
    type=canary_flags.URL,
    multiple=True,
    help='POST the rollout to this URL before each step: 2xx goes on, 4xx or {"ok": false} does not. Repeatable.',
)
@click.option(
    "--prometheus",
    "queries",
    type=canary_flags.PROMETHEUS,
    multiple=True,
    help="Ask this Prometheus before each step; every value has to be within the limit (<= or >=). Repeatable.",
)
@click.option("--check-interval", type=canary_flags.DURATION, help="Time between two questions.  [default: 30s]")
@click.option("--check-timeout", type=canary_flags.DURATION, help="Longest wait for an answer.  [default: 5s]")
@click.option(
    "--check-failures", type=click.IntRange(1, 1000), help="So many failures in a row roll back.  [default: 3]"
)
@click.option(
    "--forwarded-for",
    is_flag=True,
    help="Clients come through a load balancer: their address is the last one of X-Forwarded-For.",
)
@click.option(
    "--address-cap",
    type=click.IntRange(0, 65535),
    help="First failures that count per client address; 0 is no bound.  [default: 64]",
)
@click.option("--file", "file", type=click.File(), help="JSON with all of this; flags win over it.")
@_who_option
@_why_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reach.options
def start(route: str, file: Any, who: str, why: str, as_json: bool, **given: Any) -> None:
    """Begin to give users of ROUTE another version.

    Users are counted, not requests; a user stays in a version, and nobody goes back as the share grows. The new
    version goes back to 0% by itself, at once, when more of its users see errors than chance can explain.

    \b
    Examples:
      gorouter-py canary start shop.example.com --to v2
      gorouter-py canary start shop.example.com --to v2 --steps 5%,50%,100% --hold 5m --abort-if 'errors>stable'
      gorouter-py canary start shop.example.com --to v2 --identity header:X-Tenant --rule 'header:x-beta=yes->v2'
      gorouter-py canary start shop.example.com --to v2 --steps 10% --pause-at 10% --mirror v2=20%
      gorouter-py canary start shop.example.com --to v2 --webhook http://ci.example.com/may-it-go-on --check-interval 1m
      gorouter-py canary start shop.example.com --to v2 --prometheus 'http://prometheus:9090 sum(lag{app="v2"}) <= 100'
      gorouter-py canary start shop.example.com --to v2 --forwarded-for
      gorouter-py canary start shop.example.com --file rollout.json
    """
    router = {name: given.pop(name) for name in ("path", "url", "token", "token_file")}
    body = _spec(file, given)
    if not body.get("to"):
        raise click.UsageError("which version is the new one? Give --to VERSION.")
    body["who"], body["why"] = who, why or body.get("why", "")
    client = reach.client(**router)
    with _failures():
        rollout = client.call("PUT", route_path(route), body)
    if as_json:
        click.echo(json.dumps(rollout, indent=2))
    else:
        _print(
            [
                canary_view.headline(rollout),
                *canary_view.cautions(rollout),
                "watch it with: gorouter-py canary status -w",
            ]
        )


_PLAIN_KEYS = {
    "to": "to", "from_": "from", "by": "by", "steps": "steps", "hold": "hold", "pause_at": "pause_at",
    "max_hold": "max_hold", "on_undecided": "on_undecided", "sticky": "sticky", "address_cap": "address_cap",
}  # fmt: skip


def _spec(file: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The body of PUT from the flags, over that of the file."""
    body: dict[str, Any] = {}
    if file is not None:
        try:
            body = json.load(file)
        except ValueError as error:
            _fail(f"{file.name}: no JSON: {error}")
        if not isinstance(body, dict):
            _fail(f"{file.name}: a JSON object is wanted, as PUT /v1/rollouts/ROUTE takes it")
    body |= {key: given[name] for name, key in _PLAIN_KEYS.items() if given[name] is not None}
    cohort = {"mode": given["mode"], "identity": given["identity"]}
    cohort |= {"sign": "hmac" if given["sign"] else None, "salt": "keep" if given["keep_users"] else None}
    cohort |= {"new_sessions_only": True if given["new_sessions_only"] else None}
    if given["identity"] and not given["mode"]:
        cohort["mode"] = "identity"
    _merge(body, "cohort", cohort)
    abort_if: dict[str, Any] = {"alpha": given["alpha"]}
    if any(condition.keys() - {"slo"} for condition in given["conditions"]):
        abort_if |= {"errors": False, "latency": False}  # what is compared is what was named
    for condition in given["conditions"]:
        slo = {**abort_if.get("slo", {}), **condition.get("slo", {})}
        abort_if |= {**condition, "slo": slo} if slo else condition
    _merge(body, "abort_if", abort_if)
    secret = given["override_secret_file"]
    _merge(body, "override", {"allow": True if given["allow_override"] or secret else None, "secret_file": secret})
    if given["rules"]:
        body["rules"] = list(given["rules"])
    if given["mirror"]:
        body["mirror"] = dict(zip(("version", "share"), given["mirror"], strict=True))
    if given["extras"]:
        body["extra_versions"] = dict(given["extras"])
    if given["forwarded_for"]:
        body["forwarded_for"] = True
    checks = [{"kind": "webhook", "url": url} for url in given["webhooks"]] + list(given["queries"])
    how = {key: given[f"check_{key}"] for key in ("interval", "timeout", "failures")}
    how = {key: value for key, value in how.items() if value is not None}
    if how and not checks:
        raise click.UsageError(
            "--check-interval, --check-timeout and --check-failures go with --webhook or --prometheus."
        )
    if checks:
        body["checks"] = [{**check, **how} for check in checks]
    return body


def _merge(body: dict[str, Any], key: str, values: dict[str, Any]) -> None:
    values = {name: value for name, value in values.items() if value is not None}
    if values:
        body[key] = {**body.get(key, {}), **values}


@canary.command(context_settings=flags.PLAIN_SETTINGS)
@click.argument("route", required=False)
@click.option("-w", "--watch", is_flag=True, help="Stay and show what happens, until the rollout has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with -w one object per line.")
@reach.options
def status(route: str | None, watch: bool, as_json: bool, **router: Any) -> None:
    """Show where a rollout is: shares, users, errors, latencies, and the evidence against the new version.

    \b
    Examples:
      gorouter-py canary status
      gorouter-py canary status shop.example.com -w
      gorouter-py canary status --json
    """
    client = reach.client(**router)
    with _failures():
        if watch:
            sys.exit(_watch(client, _the_route(client, route), as_json))
        rollouts = [client.call("GET", route_path(route))] if route is not None else _all(client)
    if as_json:
        click.echo(json.dumps(rollouts[0] if route is not None else {"rollouts": rollouts}, indent=2))
    elif len(rollouts) == 1:
        _print(canary_view.status(rollouts[0]))
    elif rollouts:
        _print(canary_view.overview(rollouts))
    else:
        click.echo("no rollouts", err=True)


def _watch(client: AdminClient, route: str, as_json: bool) -> int:
    """Shows each event until the rollout has ended: redrawn on a terminal, else one line per change."""
    redraws = sys.stdout.isatty() and not as_json
    drawn, last = 0, ""
    rollout: canary_view.Rollout = {}
    try:
        for rollout in client.events(route_path(route, "events")):
            if as_json:
                click.echo(json.dumps(rollout))
            elif redraws:
                lines = canary_view.status(rollout)
                width, height = _terminal_size()
                shown = [line[: width - 1] for line in lines[: height - 1]]
                click.echo((f"\x1b[{drawn}F" if drawn else "") + "\x1b[J" + "\n".join(shown))
                drawn = len(shown)
            elif (line := canary_view.headline({**rollout, "next_step_in_s": None})) != last:
                click.echo(line)
                last = line
            if rollout.get("state") in canary_view.ENDED:
                return EXIT_ABORTED if rollout["state"] == "aborted" else 0
    except KeyboardInterrupt:
        return 130
    raise AdminError(f"{client.where}: the router ended the stream; is it still running?")


def _terminal_size() -> tuple[int, int]:
    import shutil

    return tuple(shutil.get_terminal_size())  # type: ignore[return-value]


def _act(
    action: str, route: str | None, who: str, why: str, router: dict[str, Any], weight: float | None = None
) -> None:
    client = reach.client(**router)
    body: dict[str, Any] = {"who": who, "why": why}
    if weight is not None:
        body["weight"] = weight
    with _failures():
        rollout = client.call("POST", route_path(_the_route(client, route), "actions", action), body)
    click.echo(canary_view.headline(rollout))


def _action(name: str, help_text: str) -> None:
    @canary.command(name, help=help_text, context_settings=flags.PLAIN_SETTINGS)
    @click.argument("route", required=False)
    @_who_option
    @_why_option
    @reach.options
    def act(route: str | None, who: str, why: str, **router: Any) -> None:
        _act(name, route, who, why, router)


_ACTIONS = {
    "promote": "Go on to the next step now; at the last one, end with the new version for everybody.",
    "pause": "Stay at the present share. The verdict still takes the new version back if it is worse.",
    "resume": "Go on after a pause.",
    "abort": "Give everybody the present version again, at once.",
    "undo": "Take the last action back: the share that was before it, or a finished rollout.",
}
for _name, _text in _ACTIONS.items():
    _action(_name, f"{_text}\n\n\b\nExamples:\n  gorouter-py canary {_name}\n"
                   f"  gorouter-py canary {_name} shop.example.com --why 'as agreed'")  # fmt: skip


@canary.command("set", context_settings=flags.PLAIN_SETTINGS)
@click.argument("words", nargs=-1, metavar="[ROUTE] WEIGHT")
@_who_option
@_why_option
@reach.options
def set_weight(words: tuple[str, ...], who: str, why: str, **router: Any) -> None:
    """Give the new version this share of the users, and stay there (it counts as a pause).

    \b
    Examples:
      gorouter-py canary set 7.5%
      gorouter-py canary set shop.example.com 20% --why 'more evidence wanted'
    """
    if not 1 <= len(words) <= 2:
        raise click.UsageError("write: gorouter-py canary set [ROUTE] WEIGHT, for example 7.5%.")
    try:
        weight = canary_flags.percent(words[-1])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="WEIGHT") from None
    _act("set", words[0] if len(words) == 2 else None, who, why, router, weight)


@canary.command("why", context_settings=flags.PLAIN_SETTINGS)
@click.argument("route", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reach.options
def why_command(route: str | None, as_json: bool, **router: Any) -> None:
    """Say why a rollout is where it is: the verdict, and the failing requests it rests on.

    \b
    Examples:
      gorouter-py canary why
      gorouter-py canary why shop.example.com --json
    """
    client = reach.client(**router)
    with _failures():
        answer = client.call("GET", route_path(_the_route(client, route), "why"))
    _print([json.dumps(answer, indent=2)] if as_json else canary_view.why(answer))


@canary.command(context_settings=flags.PLAIN_SETTINGS)
@click.argument("words", nargs=-1, metavar="[ROUTE] [USER_OR_COOKIE]")
@click.option(
    "--header", "headers", type=canary_flags.HEADER, multiple=True, help="A header of the request. Repeatable."
)
@click.option("--cookie", "cookies", metavar="NAME=VALUE", multiple=True, help="A cookie of the request. Repeatable.")
@click.option("--address", metavar="IP", default="", help="Address of the client.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reach.options
def explain(
    words: tuple[str, ...],
    headers: tuple[tuple[str, str], ...],
    cookies: tuple[str, ...],
    address: str,
    as_json: bool,
    **router: Any,
) -> None:
    """Say which version a request would get, and why. The router decides it with the code that serves requests.

    USER_OR_COOKIE is the value of the identity that the rollout goes by (the header, cookie or address it names), or
    of the cookie gr_c. Nothing is sent to an app, and no coordinate is drawn.

    \b
    Examples:
      gorouter-py canary explain AbCdEfGhIjk
      gorouter-py canary explain shop.example.com tenant-4711
      gorouter-py canary explain --header 'X-Canary: v2' --address 192.0.2.7
      gorouter-py canary explain shop.example.com --cookie gr_c=AbCdEfGhIjk
    """  # fmt: skip
    client = reach.client(**router)
    with _failures():
        route, user = _route_and_user(client, words)
        body: dict[str, Any] = {"headers": dict(headers), "cookie": "; ".join(cookies), "address": address}
        if user is not None:
            _identify(client.call("GET", route_path(route)), user, body)
        answer = client.call("POST", route_path(route, "explain"), body)
    _print([json.dumps(answer, indent=2)] if as_json else canary_view.explain(answer))


def _route_and_user(client: AdminClient, words: tuple[str, ...]) -> tuple[str, str | None]:
    if len(words) > 2:
        raise click.UsageError("write: gorouter-py canary explain [ROUTE] [USER_OR_COOKIE].")
    if len(words) == 2:
        return words[0], words[1]
    if words and words[0] in [each["route"] for each in _all(client)]:
        return words[0], None
    return _the_route(client, None), words[0] if words else None


def _identify(rollout: canary_view.Rollout, user: str, body: dict[str, Any]) -> None:
    """Puts the user where this rollout looks for it."""
    cohort = (rollout.get("spec") or {}).get("cohort") or {}
    kind, _, name = str(cohort.get("identity") or "cookie:gr_c").partition(":")
    if cohort.get("mode", "cookie") != "identity":
        kind, name = "cookie", "gr_c"
    if kind == "header":
        body["headers"][name] = user
    elif kind == "address":
        body["address"] = user
    else:
        body["cookie"] = "; ".join(part for part in (body["cookie"], f"{name}={user}") if part)
