// Shows rollouts. What the router sends is text and numbers: it becomes text nodes and attributes, never markup.
const SVG = "http://www.w3.org/2000/svg";
export const ENDED = ["done", "aborted"];

const byId = (id) => document.getElementById(id);

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const number = (value) => (isNumber(value) ? value.toLocaleString("en") : "–");
const percent = (value) => (isNumber(value) ? `${Number(value.toPrecision(4))}%` : "–");
const time = (ms) => (!isNumber(ms) ? "–" : ms >= 1000 ? `${(ms / 1000).toPrecision(3)} s` : `${Number(ms.toPrecision(3))} ms`);
const moment = (at) => (isNumber(at) ? new Date(at * 1000).toLocaleString() : at || "–");
const errors = (version) =>
  version.requests ? `${number(version.failures)} (${Number(((100 * version.failures) / version.requests).toPrecision(2))}%)` : number(version.failures);
const evidenceText = (value) => (Math.abs(value) < 0.05 ? "0.0" : value.toFixed(1)); // never "-0.0"
const role = (version) => (["stable", "canary"].includes(version.role) ? version.role : "extra");

// Makes the children of a node like fresh ones, which are drawn anew each second, and changes what differs only: what is
// under the pointer, has the focus or is selected stays the same node. Children with a data-key are known by that.
function settle(parent, fresh) {
  const keyOf = (node) => node.dataset?.key;
  const keyed = new Map([...parent.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
  let next = parent.firstChild;
  for (const wanted of fresh) {
    const old = keyOf(wanted) ? keyed.get(keyOf(wanted)) : next && !keyOf(next) ? next : undefined;
    if (!old || old.nodeName !== wanted.nodeName) {
      parent.insertBefore(wanted, next);
      continue;
    }
    keyed.delete(keyOf(old));
    if (old === next) next = next.nextSibling;
    else parent.insertBefore(old, next);
    become(old, wanted);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function become(old, wanted) {
  if (!(wanted instanceof Element)) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!wanted.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (wanted.style.width !== old.style.width) old.style.width = wanted.style.width; // the policy forbids style as an attribute
  settle(old, [...wanted.childNodes]);
}

// A table from titles and rows [key, cells]; a cell is text, {number} flush right, {text} that may wrap, or an element.
function fill(table, titles, rows) {
  const cell = (tag, value) => {
    if (value instanceof Node) {
      const made = element(tag);
      made.append(value);
      return made;
    }
    if (typeof value === "object") {
      const [kind, text] = Object.entries(value)[0];
      return element(tag, text, { class: kind });
    }
    return element(tag, value);
  };
  const head = element("tr");
  for (const title of titles) head.append(cell("th", title));
  for (const made of head.children) made.scope = "col";
  const times = new Map(); // keys that come twice are told apart
  const body = rows.map(([key, cells]) => {
    times.set(key, (times.get(key) ?? 0) + 1);
    const made = element("tr", "", { "data-key": `${key} ${times.get(key)}` });
    made.append(...cells.map((value) => cell("td", value)));
    return made;
  });
  const thead = element("thead");
  const tbody = element("tbody");
  thead.append(head);
  tbody.append(...body);
  settle(table, [thead, tbody]);
}

export function showList(rollouts) {
  byId("none").hidden = rollouts.length > 0;
  byId("rollouts").hidden = rollouts.length === 0;
  const rows = rollouts.map((rollout) => {
    const verdict = rollout.verdict ?? {};
    const evidence = isNumber(verdict.log_e) ? `${evidenceText(verdict.log_e)} of ${(verdict.limit ?? 0).toFixed(1)}` : "–";
    const link = element("a", rollout.route, { href: `#${encodeURIComponent(rollout.route)}` });
    const cells = [link, rollout.state, `${rollout.stable} → ${rollout.canary}`, { number: percent(rollout.weight) }, verdict.state ?? "–", { number: evidence }];
    return [rollout.route, cells];
  });
  fill(byId("rollouts"), ["Route", "State", "Versions", { number: "Weight" }, "Verdict", { number: "Evidence" }], rows);
}

function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text; // a live region must not repeat itself
}

function showSteps(rollout) {
  const items = (rollout.steps ?? []).map((step, index) => {
    const item = element("li", percent(step));
    if (ENDED.includes(rollout.state) ? rollout.state === "done" : index < rollout.step) item.className = "past";
    else if (index === rollout.step) item.setAttribute("aria-current", "step");
    return item;
  });
  settle(byId("steps"), items);
}

function stack(title, versions, key) {
  const row = element("div", "", { class: "row" });
  const bar = element("div", "", { class: "stack", role: "img" });
  bar.setAttribute("aria-label", `${title}: ${versions.map((each) => `${each.name} ${percent(each[key])}`).join(", ")}`);
  for (const version of versions) {
    const part = element("div", version[key] >= 8 ? percent(version[key]) : "", { class: role(version) });
    part.style.width = `${version[key] ?? 0}%`;
    bar.append(part);
  }
  row.append(element("span", title), bar);
  return row;
}

function showShares(rollout) {
  const versions = rollout.versions ?? [];
  const legend = element("ul", "", { class: "legend" });
  for (const version of versions) {
    const text = `${version.name} (${version.role}): wanted ${percent(version.share_wanted)}, actual ${percent(version.share_actual)}`;
    legend.append(element("li", text, { class: role(version) }));
  }
  settle(byId("shares"), [stack("wanted", versions, "share_wanted"), stack("actual", versions, "share_actual"), legend]);
}

function showEvidence(verdict) {
  const [value, limit] = [verdict.log_e ?? 0, verdict.limit ?? 0];
  const meter = byId("evidence");
  meter.setAttribute("aria-valuemax", limit.toFixed(2));
  meter.setAttribute("aria-valuenow", Math.min(limit, Math.max(0, value)).toFixed(2));
  meter.setAttribute("aria-valuetext", `${evidenceText(value)} of ${limit.toFixed(1)}: ${verdict.state}`);
  meter.dataset.state = verdict.state ?? "";
  meter.firstElementChild.style.width = `${limit > 0 ? Math.min(100, Math.max(0, (100 * value) / limit)) : 0}%`;
  setText("verdict", `${verdict.state ?? "no verdict"}, ${evidenceText(value)} of ${limit.toFixed(1)}. ${verdict.reason ?? ""}`);
  const metrics = Object.entries(verdict.metrics ?? {}).map(([name, metric]) => {
    const made = element("div");
    const counts = `first failures: canary ${number(metric.canary)}, stable ${number(metric.stable)}`;
    made.append(element("dt", name), element("dd", `${evidenceText(metric.log_e ?? 0)}; ${counts}`));
    return made;
  });
  settle(byId("metrics"), metrics);
}

function showVersions(versions) {
  const titles = ["Version", "Role", ...["Weight", "Instances", "Requests", "Users", "Errors", "p50", "p99", "Mirrored"].map((title) => ({ number: title }))];
  const rows = versions.map((version) => [version.name, [
    version.name,
    version.role,
    ...[percent(version.weight), number(version.endpoints), number(version.requests), number(version.users), errors(version), time(version.p50_ms), time(version.p99_ms), number(version.mirrored)].map(
      (text) => ({ number: text }),
    ),
  ]]);
  fill(byId("versions"), titles, rows);
}

function chart(title, unit, lines, limit) {
  const figure = element("figure");
  const values = lines.flatMap((line) => line.values).filter(isNumber);
  const top = Math.max(limit ?? 0, ...values) * 1.1 || 1;
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "chart");
  picture.setAttribute("viewBox", "0 0 300 100");
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  const last = lines.map((line) => `${line.name} ${isNumber(line.values.at(-1)) ? Number(line.values.at(-1).toPrecision(3)) : "–"}${unit}`);
  picture.setAttribute("aria-label", `${title}, now: ${last.join(", ")}`);
  const draw = (kind, points) => {
    const made = document.createElementNS(SVG, "polyline");
    made.setAttribute("class", kind);
    made.setAttribute("points", points.join(" "));
    picture.append(made);
  };
  const y = (value) => (100 - (100 * Math.max(0, value)) / top).toFixed(1);
  for (const line of lines) {
    const from = 300 - line.values.length + 1;
    draw(line.kind, line.values.map((value, index) => [from + index, value]).filter(([, value]) => isNumber(value)).map(([x, value]) => `${x},${y(value)}`));
  }
  if (limit) draw("limit", [`0,${y(limit)}`, `300,${y(limit)}`]);
  figure.append(element("figcaption", `${title}: ${last.join(", ")}`), picture);
  return figure;
}

export function showCharts(samples) {
  const names = [...new Map(samples.flatMap((sample) => sample.versions.map((version) => [version.name, role(version)])))];
  const lines = (value) => names.map(([name, kind]) => ({ name, kind, values: samples.map((sample) => value(sample.versions.find((each) => each.name === name))) }));
  const evidence = [{ name: "log E", kind: "canary", values: samples.map((sample) => sample.log_e) }];
  settle(byId("charts"), [
    chart("Errors", "%", lines((version) => version?.error_rate)),
    chart("p50", " ms", lines((version) => version?.p50_ms)),
    chart("p99", " ms", lines((version) => version?.p99_ms)),
    chart("Evidence", "", evidence, samples.at(-1)?.limit),
  ]);
}

function showFailing(evidence) {
  byId("no-failing").hidden = evidence.length > 0;
  byId("failing").hidden = evidence.length === 0;
  const rows = [...evidence].reverse().map((each) => [`${each.at} ${each.metric} ${each.request_id}`, [
    moment(each.at), each.metric ?? "–", each.cause ?? "–", { number: each.status || "–" }, `${each.method ?? ""} ${each.path ?? ""}`, { number: time(each.latency_ms) }, each.address ?? "–", each.request_id ?? "–",
  ]]);
  fill(byId("failing"), ["Time", "Metric", "Cause", { number: "Status" }, "Request", { number: "Took" }, "Client", "Request id"], rows);
}

function showHistory(history) {
  const rows = [...history].reverse().map((each) => [`${each.at} ${each.state}`, [moment(each.at), each.state, each.who || "–", { text: each.why || "–" }]]);
  fill(byId("history"), ["Time", "State", "Who", "Why"], rows);
}

function showActions(state) {
  const open = !ENDED.includes(state);
  const allowed = { promote: open, pause: state === "ramping", resume: state === "paused", set: open, undo: state !== "idle", abort: open };
  for (const button of byId("actions").children) button.disabled = !allowed[button.dataset.action];
}

export function showRollout(rollout) {
  setText("route", rollout.route);
  setText("state", rollout.state);
  byId("state").dataset.state = rollout.state;
  const next = rollout.paused_by ? `paused by ${rollout.paused_by}` : isNumber(rollout.next_step_in_s) ? `next step in ${Math.ceil(rollout.next_step_in_s)} s` : "";
  const here = rollout.decider === false ? "another router decides" : "this router decides";
  setText("summary", [`${rollout.stable} → ${rollout.canary}`, `${percent(rollout.weight)} of users`, next, here].filter(Boolean).join(" · "));
  document.title = `${rollout.state} ${percent(rollout.weight)} · ${rollout.route}`;
  showActions(rollout.state);
  showSteps(rollout);
  showShares(rollout);
  showEvidence(rollout.verdict ?? {});
  settle(byId("notes"), (rollout.notes ?? []).map((note) => element("li", note)));
  showVersions(rollout.versions ?? []);
  showFailing(rollout.evidence ?? []);
  showHistory(rollout.history ?? []);
}

export function showPart(id) {
  for (const part of ["login", "list", "rollout"]) byId(part).hidden = part !== id;
}

export function showLink(state, text) {
  byId("link").dataset.state = state;
  setText("link", text);
}

export function showProblem(text) {
  byId("problem").hidden = !text;
  setText("problem", text);
}
