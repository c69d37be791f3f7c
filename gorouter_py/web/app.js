// Which part is shown, and what the buttons do. The fragment of the address is the route; without one it is the list.
import * as api from "./api.js";
import * as view from "./view.js";

const LIST_EVERY_MS = 2000;
const AGAIN_MS = 1000;
const SAMPLES_MAX = 300;
const TEXTS = {
  promote: ["Promote", "Go on to the next step now; at the last one, everybody gets the new version."],
  pause: ["Pause", "Stay at the present share. The verdict still takes the new version back if it is worse."],
  resume: ["Resume", "Go on after the pause."],
  set: ["Set weight", "Give the new version this share of the users, and stay there."],
  undo: ["Undo", "Take the last action back."],
  abort: ["Abort", "Everybody gets the present version again, at once."],
};

let turn = new AbortController(); // ends what the part before was doing
let samples = [];
let latest = null;
let asked = null; // the action that the dialog is about, and its route

const byId = (id) => document.getElementById(id);
const chosenRoute = () => decodeURIComponent(location.hash.slice(1));

function sleep(ms, signal) {
  return new Promise((wake) => {
    const timer = setTimeout(wake, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); wake(); }, { once: true });
  });
}

// Numbers of this moment, with the errors since the moment before.
function sample(rollout) {
  const before = new Map((latest?.id === rollout.id ? latest.versions : []).map((version) => [version.name, version]));
  const versions = (rollout.versions ?? []).map((version) => {
    const old = before.get(version.name) ?? { requests: 0, failures: 0 };
    const requests = version.requests - old.requests;
    const rate = requests > 0 ? (100 * (version.failures - old.failures)) / requests : null;
    return { name: version.name, role: version.role, p50_ms: version.p50_ms, p99_ms: version.p99_ms, error_rate: rate };
  });
  return { versions, log_e: rollout.verdict?.log_e ?? 0, limit: rollout.verdict?.limit ?? 0 };
}

function seen(rollout) {
  const isAnother = latest?.id !== rollout.id || latest.began !== rollout.began;
  if (!isAnother && rollout.epoch < latest.epoch) return; // on its way since before an action
  if (isAnother) samples = [];
  samples.push(sample(rollout));
  samples = samples.slice(-SAMPLES_MAX);
  latest = rollout;
  view.showLink("live", "live");
  view.showPart("rollout");
  view.showRollout(rollout);
  view.showCharts(samples);
}

async function watch(route, signal) {
  let isFirst = true; // a refused action is said until the next one: events come each second
  await api.follow(route, (rollout) => {
    if (signal.aborted) return;
    if (isFirst) view.showProblem("");
    isFirst = false;
    seen(rollout);
  }, signal);
  view.showLink("lost", "connection lost, trying again");
  await sleep(AGAIN_MS, signal);
}

async function list(signal) {
  const rollouts = await api.rollouts();
  if (signal.aborted) return;
  view.showLink("live", "live");
  view.showProblem("");
  view.showPart("list");
  view.showList(rollouts);
  await sleep(LIST_EVERY_MS, signal);
}

async function run() {
  turn.abort();
  turn = new AbortController();
  const { signal } = turn;
  latest = null;
  byId("confirm").close(); // it was about the part before
  view.showProblem("");
  view.showPart("");
  document.title = "Rollouts";
  while (!signal.aborted) {
    try {
      await (chosenRoute() ? watch(chosenRoute(), signal) : list(signal));
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) {
        view.showLink("waiting", "a token is wanted");
        view.showPart("login");
        byId("token").focus();
        return;
      }
      view.showLink("lost", "no connection, trying again");
      view.showProblem(error instanceof api.Refused ? error.message : "The router does not answer.");
      await sleep(AGAIN_MS, signal);
    }
  }
}

function ask(action) {
  const [title, text] = TEXTS[action];
  asked = { route: latest.route, action };
  byId("confirm-title").textContent = `${title}: ${latest.route}`;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = title;
  byId("confirm-yes").className = action === "abort" ? "danger sure" : "";
  byId("weight-field").hidden = action !== "set";
  byId("weight").required = action === "set";
  byId("weight").value = latest.weight ?? "";
  byId("why").value = "";
  byId("confirm").showModal();
}

// What was asked is done as the form is sent. The dialog's close event comes later, when it may ask something else.
async function act() {
  const { route, action } = asked;
  const { signal } = turn;
  const body = { who: byId("who").value.trim() || "page", why: byId("why").value.trim() };
  if (action === "set") body.weight = Number(byId("weight").value);
  view.showProblem("");
  let problem = "";
  try {
    const rollout = await api.act(route, action, body);
    if (!signal.aborted) seen(rollout);
  } catch (error) {
    problem = error instanceof api.Refused ? error.message : "The router does not answer; nothing is known about the action.";
  }
  if (problem && !signal.aborted) view.showProblem(problem);
}

byId("actions").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && latest) ask(button.dataset.action);
});
byId("confirm-form").addEventListener("submit", act);
byId("confirm-no").addEventListener("click", () => byId("confirm").close());
byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  api.setToken(byId("token").value);
  byId("token").value = "";
  run();
});
window.addEventListener("hashchange", run);
run();
