// Talks to the admin API that served this page. The token, if the router wants one, lives as long as the tab.
const KEY = "gorouter-py admin token";

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = { Accept: "application/json", ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store", redirect: "error" });
  if (answer.ok) return answer;
  let reason = `the router answered ${answer.status}`;
  try {
    reason = (await answer.json()).reason || reason;
  } catch {
    // no JSON: the number has to do
  }
  throw new Refused(answer.status, reason);
}

const path = (route, ...rest) => ["v1/rollouts", encodeURIComponent(route), ...rest].join("/");

export async function rollouts() {
  return (await (await request("v1/rollouts")).json()).rollouts;
}

export async function act(route, action, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await request(path(route, "actions", action), options)).json();
}

// Calls seen(rollout) for each event until the stream ends. fetch() and not EventSource: that cannot carry a token.
export async function follow(route, seen, signal) {
  const answer = await request(path(route, "events"), { headers: { Accept: "text/event-stream" }, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      if (data.length) seen(JSON.parse(data.join("\n")));
    }
  }
}
