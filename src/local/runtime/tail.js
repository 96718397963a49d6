// Hands what happened in Workers to alch, many events at once: each would cost as much as a small request. Part of alch;
// runs inside workerd.
const PAUSE = 10;
const pending = [];
let waiting = false;

export default {
  async tail(items, env, ctx) {
    for (const item of items) pending.push(JSON.stringify({ ...ctx.props, item }));
    // Somebody waits for what failed.
    const urgent = items.some((item) => item.exceptions.length > 0);
    if (waiting && !urgent) return;
    if (!urgent) {
      waiting = true;
      await scheduler.wait(PAUSE);
      waiting = false;
    }
    const body = `[${pending.splice(0).join()}]`;
    if (body !== "[]") await env.HOST.fetch("http://alch/tail", { method: "POST", body });
  },
};
