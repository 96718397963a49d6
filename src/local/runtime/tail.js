// Hands what happened in Workers to alch, many events at once: each would cost as much as a small request. Part of alch;
// runs inside workerd.
const PAUSE = 10;
// How many events of a second are handed over whatever they are. Of those beyond, only what is more than a request that was
// answered without a word: under load, telling each would take longer than answering it.
const PLENTY = 200;
const pending = [];
let waiting = false;
let second = 0;
let count = 0;

export default {
  async tail(items, env, ctx) {
    const now = Math.trunc(Date.now() / 1000);
    if (now !== second) [second, count] = [now, 0];
    let urgent = false;
    for (const item of items) {
      count += 1;
      if (count > PLENTY && isQuiet(item)) continue;
      pending.push(JSON.stringify({ ...ctx.props, item }));
      // Somebody waits for what failed.
      urgent ||= item.exceptions.length > 0;
    }
    if (pending.length === 0 || (waiting && !urgent)) return;
    if (!urgent) {
      waiting = true;
      await scheduler.wait(PAUSE);
      waiting = false;
    }
    const body = `[${pending.splice(0).join()}]`;
    if (body !== "[]") await env.HOST.fetch("http://alch/tail", { method: "POST", body });
  },
};

function isQuiet({ outcome, exceptions, logs, event }) {
  return outcome === "ok" && exceptions.length === 0 && logs.length === 0 && event?.request !== undefined;
}
