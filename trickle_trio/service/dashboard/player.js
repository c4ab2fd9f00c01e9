/* One live player: fragmented MP4 from a fetch stream into a <video>, by Media Source Extensions.

   It stays at the live edge by rules of its own, because a media element has none: behind, it plays faster by as much
   as it is behind; far behind, or before a gap in what is buffered, it jumps. When the response ends, it asks again. */

const TARGET = 0.25;      // seconds behind the newest picture that are kept against jitter
const SLACK = 0.08;       // off the target by less: leave it
const FASTEST = 1.5;
const SLOWEST = 0.95;
const JUMP = 1.0;         // behind by more: jump
const KEPT = 8;           // seconds behind the picture that stay in memory
const LONGEST_PAUSE = 4000;

const Source = globalThis.ManagedMediaSource ?? globalThis.MediaSource;

export class LivePlayer {
  /* `tell(state, text)`: "waiting", "playing" or "unplayable". `headers()`: what each request carries. */
  constructor(video, tell, headers = () => ({})) {
    this.video = video;
    this.tell = tell;
    this.headers = headers;
    this.abort = null;
    this.lag = null;
  }

  start(url) {
    this.stop();
    this.abort = new AbortController();
    this.tell("waiting", "Waiting for the picture");
    this.run(url, this.abort.signal);
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
    this.lag = null;
    this.video.removeAttribute("src");
    this.video.load();
  }

  async run(url, signal) {
    let pause = 250;
    while (!signal.aborted) {
      try {
        const began = performance.now();
        await this.view(url, signal);
        if (performance.now() - began > 2000) pause = 250;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Unplayable) return this.tell("unplayable", error.message);
        this.tell("waiting", error instanceof Refused ? error.message : "Waiting for the picture");
      }
      this.lag = null;
      await sleep(pause, signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }

  async view(url, signal) {
    const response = await fetch(url, { signal, cache: "no-store", headers: this.headers() });
    if (!response.ok) {
      const said = (await response.json().catch(() => ({}))).message ?? `status ${response.status}`;
      throw response.status === 501 ? new Unplayable(said) : new Refused(said);
    }
    const type = response.headers.get("Content-Type");
    if (!Source?.isTypeSupported(type)) throw new Unplayable(`This browser cannot play ${type}`);
    const ended = new AbortController();
    const either = AbortSignal.any([signal, ended.signal]);
    try {
      const buffer = await this.open(type);
      this.stayLive(either);
      await this.feed(response.body.getReader(), buffer, either);
    } finally {
      ended.abort();
    }
  }

  async open(type) {
    const source = new Source();
    this.video.disableRemotePlayback = true;
    this.video.src = URL.createObjectURL(source);
    await new Promise((done) => source.addEventListener("sourceopen", done, { once: true }));
    URL.revokeObjectURL(this.video.src);
    const buffer = source.addSourceBuffer(type);
    source.duration = Infinity;
    return buffer;
  }

  async feed(reader, buffer, signal) {
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        await change(buffer, signal, () => buffer.appendBuffer(value));
        const from = this.video.currentTime - KEPT;
        if (buffer.buffered.length && buffer.buffered.start(0) < from - KEPT) {
          await change(buffer, signal, () => buffer.remove(0, from));
        }
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  stayLive(signal) {
    const timer = setInterval(() => this.follow(), 100);
    signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  }

  follow() {
    const { video } = this;
    const { buffered } = video;
    if (!buffered.length) return;
    const last = buffered.length - 1;
    const edge = buffered.end(last);
    const first = buffered.start(last);
    const behind = edge - video.currentTime;
    if (video.currentTime < first || behind > JUMP) video.currentTime = Math.max(first, edge - TARGET);
    const rate = rateFor(behind - TARGET);
    if (video.playbackRate !== rate) video.playbackRate = rate;
    this.lag = Math.max(0, edge - video.currentTime);
    if (video.paused) video.play().catch(() => {});
    if (video.readyState >= 2) this.tell("playing", "");
  }
}

/* Steps of a twentieth: each change of the rate costs the browser a little. */
function rateFor(late) {
  if (Math.abs(late) < SLACK) return 1;
  return Math.round(20 * Math.min(FASTEST, Math.max(SLOWEST, 1 + late))) / 20;
}

class Refused extends Error {}
class Unplayable extends Error {}

function change(buffer, signal, act) {
  return new Promise((done, fail) => {
    const over = new AbortController();
    const end = (settle) => () => { over.abort(); settle(); };
    buffer.addEventListener("updateend", end(done), { signal: over.signal });
    buffer.addEventListener("error", end(() => fail(new Error("the browser refused the data"))), { signal: over.signal });
    signal.addEventListener("abort", end(() => fail(signal.reason)), { signal: over.signal });
    try { act(); } catch (error) { over.abort(); fail(error); }
  });
}

export function sleep(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });
}
