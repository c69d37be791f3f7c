"""The operator's HTML error page: what is understood, what is refused and where."""

from pathlib import Path

import pytest

from gorouter_py.control.error_page import Step, TemplateError, compile_page, load_page


def run(steps: list[Step], status: int, message: str = "", headers: dict[str, str] | None = None) -> str:
    """What the workers do with the steps, without the escaping."""
    values = {"status": str(status), "status_text": {404: "Not Found", 503: "Service Unavailable"}[status]}
    out, at = [], 0
    while at < len(steps):
        step = steps[at]
        at += 1
        value = (headers or {}).get(step.header, "") if step.field == "header" else values.get(step.field, message)
        if step.kind == "literal":
            out.append(step.text)
        elif step.kind == "value":
            out.append(value)
        elif step.kind == "jump" or not (value in step.constants if step.constants else value):
            at = step.jump
    return "".join(out)


PAGE = """<title>{{.Status}} {{.StatusText}}</title>
{{- /* said once */ -}}
{{if eq .Status 404 410}}gone{{else if eq (.Header.Get "X-Cf-RouterError") "no_endpoints" `other`}}asleep
{{- else}}broken{{end}}|{{if .Message}}[{{ .Message }}]{{end}}{{if .Header.Get "Retry-After"}}later{{end}}"""


@pytest.mark.parametrize(
    ("status", "message", "headers", "shown"),
    [
        (404, "m", {}, "<title>404 Not Found</title>gone|[m]"),
        (503, "", {"X-Cf-RouterError": "no_endpoints"}, "<title>503 Service Unavailable</title>asleep|"),
        (503, "", {"X-Cf-RouterError": "other"}, "<title>503 Service Unavailable</title>asleep|"),
        (503, "", {"Retry-After": "1"}, "<title>503 Service Unavailable</title>broken|later"),
    ],
)
def test_page(status: int, message: str, headers: dict[str, str], shown: str) -> None:
    assert run(compile_page(PAGE), status, message, headers) == shown


def test_nested_conditions() -> None:
    page = compile_page("{{if .Message}}{{if eq .Status 404}}a{{else}}b{{end}}{{end}}c")
    assert (run(page, 404, "m"), run(page, 503, "m"), run(page, 404)) == ("ac", "bc", "c")


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("{{range .X}}", 1, "'range' is not understood"),
        ("a\n{{if .Status}}", 2, "'if' has no 'end'"),
        ("a\nb\n{{end}}", 3, "'end' without 'if'"),
        ("{{else}}", 1, "'else' without 'if'"),
        ("{{if .Message}}{{else}}{{else}}{{end}}", 1, "'else' without 'if'"),
        ('{{if eq .Status "404"}}{{end}}', 1, "must be a number"),
        ("{{if eq .Message 404}}{{end}}", 1, "must be a quoted text"),
        ("{{if eq .Status}}{{end}}", 1, "something to compare with"),
        ("{{.Header.Get}}", 1, "needs a quoted name"),
        ("{{.Message | html}}", 1, "not understood"),
        ("{{.Message .Status}}", 1, "not understood"),
        ("{{.Body}}", 1, "'.Body' is not understood"),
        ("{{}}", 1, "not understood"),
        ("\n{{.Status", 2, "'{{' is not closed"),
    ],
)
def test_refused(source: str, line: int, reason: str) -> None:
    with pytest.raises(TemplateError, match=r"valid: \.Status") as caught:
        compile_page(source)
    assert caught.value.line == line
    assert reason in str(caught.value)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with pytest.raises(OSError, match=f"Could not read HTML error template file: open {path}: no such file"):
        load_page(str(path))
    path.write_text("{{.Status}}")
    assert run(load_page(str(path)), 404) == "404"
