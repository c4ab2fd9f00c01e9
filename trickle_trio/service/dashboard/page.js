/* The page: asks the service once a second how it is, and shows that. What it shows follows from the last answer. */

import { Controls } from "./controls.js";
import { LivePlayer, sleep } from "./player.js";

const SAMPLES = 60;
const at = (id) => document.getElementById(id);
const text = (id, value) => { const node = at(id); if (node.textContent !== value) node.textContent = value; };

const HEALTH = {
  connecting: "Connecting", offline: "No answer", locked: "Locked", loading: "Loading the model", idle: "Ready", live: "Live", failed: "Error",
};

/* The token comes in the address behind "#token=", which no browser sends, and goes from there into this tab's memory. */
let token = null;
try { token = sessionStorage.getItem("token"); } catch { /* a private window keeps nothing */ }
if (location.hash.startsWith("#token=")) {
  keepToken(decodeURIComponent(location.hash.slice("#token=".length)));
  history.replaceState(null, "", location.pathname + location.search);
}

function keepToken(given) {
  token = given;
  try { sessionStorage.setItem("token", given); } catch { /* likewise */ }
}

const authorized = () => (token === null ? {} : { Authorization: `Bearer ${token}` });

class Panel {
  constructor(id) {
    this.root = at(id);
    this.video = this.root.querySelector("video");
    this.veil = this.root.querySelector("[data-veil]");
    this.player = new LivePlayer(this.video, (state, said) => this.show(state, said), authorized);
    this.url = null;
    this.root.querySelector("[data-sound]").addEventListener("click", (event) => this.toggleSound(event.currentTarget));
    this.root.querySelector("[data-full]").addEventListener("click", () => this.root.querySelector(".screen").requestFullscreen?.());
  }

  play(url) {
    if (url === this.url) return;
    this.url = url;
    if (url) this.player.start(url); else this.player.stop();
  }

  show(state, said) {
    this.veil.hidden = state === "playing";
    this.veil.toggleAttribute("data-quiet", state === "unplayable");
    const words = this.root.querySelector("[data-veil-text]");
    if (words.textContent !== said) words.textContent = said;
  }

  facts(...known) {
    this.root.querySelector("[data-facts]").textContent = known.filter(Boolean).join(" · ");
    const lag = this.root.querySelector("[data-lag]");
    lag.hidden = this.player.lag === null;
    lag.textContent = this.player.lag === null ? "" : `Live, ${Math.round(this.player.lag * 1000)} ms buffered`;
  }

  toggleSound(button) {
    this.video.muted = !this.video.muted;
    button.setAttribute("aria-pressed", String(!this.video.muted));
  }
}

const input = new Panel("input-player");
const output = new Panel("output-player");
const sparks = new Map();
let chosen = decodeURIComponent(location.hash.slice(1));

function show(answer) {
  const state = stateOf(answer);
  document.body.dataset.state = state;
  text("health-text", HEALTH[state]);
  at("offline").hidden = state !== "offline";
  at("locked").hidden = state !== "locked";
  if (state === "locked") lock();
  if (state === "offline" || state === "locked") return;
  const service = answer.service;
  text("model", service.model_id);
  text("version", `trickle-trio ${service.version}`);
  document.title = `${HEALTH[state]} · ${service.model_id}`;
  const current = pick(answer.streams);
  if (state === "live" && current?.input_state === "waiting") text("health-text", "Waiting");
  showTabs(answer.streams, current);
  at("live").hidden = !current;
  at("idle").hidden = state !== "idle";
  at("failed").hidden = state !== "failed";
  at("waiting").hidden = state !== "loading";
  text("failed-text", service.error_message ?? "");
  text("waiting-title", "The model is loading");
  text("waiting-text", "Streams can start as soon as it is there.");
  if (current) showStream(current, service); else release();
  showEnded(answer.ended, state);
}

function lock() {
  release();
  for (const id of ["live", "idle", "failed", "waiting", "tabs", "history"]) at(id).hidden = true;
  text("token-answer", token === null ? "" : "That is not the token.");
}

function stateOf(answer) {
  if (!answer) return "offline";
  if (answer.locked) return "locked";
  return { LOADING: "loading", ERROR: "failed", IDLE: "idle", OK: "live" }[answer.service.health];
}

function pick(streams) {
  return streams.find((stream) => stream.request_id === chosen) ?? streams[0] ?? null;
}

function release() {
  input.play(null);
  output.play(null);
  sparks.clear();
}

function showTabs(streams, current) {
  const tabs = at("tabs");
  tabs.hidden = streams.length < 2;
  const known = streams.map((stream) => stream.request_id).join("\n");
  if (tabs.dataset.known !== known) {
    tabs.dataset.known = known;
    tabs.replaceChildren(...streams.map(({ request_id: id }) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: id });
      button.addEventListener("click", () => { chosen = id; location.hash = encodeURIComponent(id); poke(); });
      return button;
    }));
  }
  for (const button of tabs.children) button.setAttribute("aria-current", String(button.textContent === current?.request_id));
}

function showStream(stream, service) {
  const base = `/api/streams/${encodeURIComponent(stream.request_id)}`;
  input.play(`${base}/input.mp4`);
  output.play(`${base}/output.mp4`);
  input.facts(size(stream.width_in, stream.height_in), rate(stream.fps.ingress_video_fps));
  output.facts(size(stream.width_out, stream.height_out), rate(stream.fps.egress_video_fps));
  text("stream-name", stream.request_id);
  text("stream-phase", phaseOf(stream));
  text("stream-age", age(stream.seconds));
  at("stop").disabled = stream.phase === "stopping";
  showFigures(stream, service);
  showParams(stream, base);
  showPairs("channels", stream.urls, "None: frames come from the processor itself.");
  const error = at("last-error");
  error.hidden = !stream.last_error;
  error.textContent = stream.last_error ? `Last fault: ${stream.last_error}` : "";
}

function phaseOf(stream) {
  if (stream.phase !== "running") return { starting: "Starting", stopping: "Stopping after" }[stream.phase];
  if (stream.input_state === "waiting") return "Waiting for the input for";
  if (stream.input_state === "silent") return "The input is silent; running for";
  if (stream.output_state === "waiting" && stream.urls.publish_url) return "Nothing has come out yet; running for";
  return "Running for";
}

const controls = new Controls(at("own-controls"), at("common-controls"), (values) =>
  answerIn("params-answer", () => call("PATCH", `/api/streams/${encodeURIComponent(at("stream-name").textContent)}/params`, values)));

/* The schema is asked for once a stream; what it has no control for stands below as text. */
function showParams(stream, base) {
  if (controls.stream !== stream.request_id) {
    controls.stream = stream.request_id;
    controls.draw({});
    call("GET", `${base}/params/schema`).then((schema) => {
      if (controls.stream !== stream.request_id) return;
      controls.draw(schema);
      at("params-form").hidden = schema.additionalProperties === false;
      poke();
    }).catch(() => { controls.stream = null; });
  }
  controls.show(stream.params);
  const others = Object.entries(stream.params).filter(([name]) => !controls.has(name));
  const declared = at("params-form").hidden;
  showPairs("params", Object.fromEntries(others), declared || others.length ? "" : "None of the processor's were given.");
}

function showFigures(stream, service) {
  const { p50, p95, p99 } = stream.latency_ms;
  text("latency", number(p50));
  text("latency-more", p99 === null ? "no frame is through yet" : `95 % within ${number(p95)} ms, 99 % within ${number(p99)} ms`);
  text("fps-out", number(stream.fps.egress_video_fps, 1));
  text("fps-more", `${number(stream.fps.ingress_video_fps, 1)} in`);
  text("frames-out", number(stream.frames_out));
  text("frames-more", `${number(stream.frames_in)} in`);
  const reasons = Object.entries(stream.dropped).filter(([, count]) => count);
  text("dropped", number(reasons.reduce((sum, [, count]) => sum + count, 0)));
  text("dropped-more", reasons.map(([reason, count]) => `${reason}: ${number(count)}`).join(", ") || "every frame came through");
  text("memory", number(service.memory_bytes / 1e6));
  spark("latency-spark", stream.request_id, p50);
  spark("fps-spark", stream.request_id, stream.fps.egress_video_fps);
}

function spark(id, stream, value) {
  const key = `${id} ${stream}`;
  const values = sparks.get(key) ?? [];
  if (value !== null) values.push(value);
  while (values.length > SAMPLES) values.shift();
  sparks.set(key, values);
  const top = Math.max(...values, 1) * 1.15;
  const points = values.map((each, index) => `${(100 * (index + SAMPLES - values.length)) / (SAMPLES - 1)},${28 - (28 * each) / top}`);
  at(id).firstElementChild.setAttribute("points", points.join(" "));
}

function showPairs(id, pairs, nothing) {
  const known = JSON.stringify(pairs);
  if (at(id).dataset.known === known) return;
  at(id).dataset.known = known;
  const rows = Object.entries(pairs).flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name.replace(/_url$/, "") }),
    Object.assign(document.createElement("dd"), { textContent: short(typeof value === "string" ? value : JSON.stringify(value)) }),
  ]);
  const none = Object.assign(document.createElement("dd"), { className: "none", textContent: nothing });
  at(id).replaceChildren(...(rows.length || !nothing ? rows : [none]));
}

function showEnded(ended, state) {
  at("history").hidden = !ended.length;
  const known = JSON.stringify(ended);
  if (at("ended").dataset.known === known) return;
  at("ended").dataset.known = known;
  at("ended").replaceChildren(...ended.map((each) => {
    const row = document.createElement("li");
    row.toggleAttribute("data-bad", !each.normal);
    const said = document.createElement("span");
    said.append(Object.assign(document.createElement("b"), { textContent: each.request_id }), each.reason);
    const when = Object.assign(document.createElement("time"), {
      dateTime: new Date(each.at * 1000).toISOString(), textContent: new Date(each.at * 1000).toLocaleTimeString(),
    });
    row.append(said, when);
    return row;
  }));
  const last = ended[0];
  if (last && state === "idle") {
    text("idle-title", last.normal ? "The stream has ended" : "The stream broke off");
    text("idle-text", `${last.request_id}: ${last.reason}. The service is ready for the next one.`);
  }
}

const number = (value, digits = 0) => value === null || value === undefined ? "–"
  : value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const size = (width, height) => (width && height ? `${width} × ${height}` : "");
const rate = (value) => (value ? `${number(value, 1)} fps` : "");
const short = (value) => (value.length > 200 ? `${value.slice(0, 200)}…` : value);

function age(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [first, ...rest] = parts[0] ? parts : parts.slice(1);
  return [first, ...rest.map((part) => String(part).padStart(2, "0"))].join(":");
}

async function call(method, path, body) {
  const init = { method, headers: { "Content-Type": "application/json", ...authorized() }, body: body === undefined ? undefined : JSON.stringify(body) };
  const response = await fetch(path, init);
  const said = await response.json().catch(() => ({ message: `status ${response.status}` }));
  if (response.status === 401) return { locked: true, message: said.message };
  if (!response.ok) throw new Error(said.message);
  return said;
}

async function answerIn(id, act) {
  const node = at(id);
  node.removeAttribute("data-bad");
  node.textContent = "…";
  try {
    node.textContent = (await act()).message;
  } catch (error) {
    node.setAttribute("data-bad", "");
    node.textContent = error.message;
  }
  poke();
}

at("start-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value !== ""));
  const { subscribe_url, publish_url, ...params } = given;
  answerIn("start-answer", () => call("POST", "/api/stream/start", { subscribe_url, publish_url, params }));
});

at("params-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const path = `/api/streams/${encodeURIComponent(at("stream-name").textContent)}/params`;
  answerIn("params-answer", async () => call("PATCH", path, JSON.parse(at("params-json").value)));
});

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(at("token").value);
  poke();
});

at("retry").addEventListener("click", async () => {
  await call("POST", "/api/model/load").catch(() => {});
  poke();
});

at("stop").addEventListener("click", async (event) => {
  event.currentTarget.disabled = true;
  await call("DELETE", `/api/streams/${encodeURIComponent(at("stream-name").textContent)}`).catch(() => {});
  poke();
});

at("theme").addEventListener("click", () => {
  const light = getComputedStyle(document.documentElement).colorScheme === "light";
  setTheme(light ? "dark" : "light");
});

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("theme", theme); } catch { /* a private window keeps nothing */ }
}

try {
  const kept = localStorage.getItem("theme");
  if (kept) document.documentElement.dataset.theme = kept;
} catch { /* likewise */ }

let poke = () => {};

async function watch() {
  at("waiting").hidden = false;
  for (;;) {
    if (document.hidden) {
      // Browsers open six connections to a host: a page that nobody sees must not hold two of them.
      release();
      await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
      continue;
    }
    show(await call("GET", "/api/streams").catch(() => null));
    const woken = new AbortController();
    poke = () => woken.abort();
    await sleep(1000, woken.signal);
  }
}

watch();
