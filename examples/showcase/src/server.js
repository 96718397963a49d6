// The API of the shop. Orders lie in the database; the queue takes each new one to the workflow that packs and ships it; every change is told
// to who looks at the page, through the same room that carries the chat. Uploads go to the bucket; greeting and visits to KV.
import { orders, place, sweep } from "./orders.js";

export { Room } from "./room.js";
export { Shipping } from "./shipping.js";

const PAGE = "lobby";

function room(env) {
  return env.ROOM.get(env.ROOM.idFromName(PAGE));
}

// Pages and the chat are for everybody; files need the key.
function mayUpload(request, env) {
  return request.headers.get("authorization") === `Bearer ${env.API_KEY}`;
}

async function uploads(request, env, name) {
  if (!mayUpload(request, env)) return new Response("unauthorised\n", { status: 401 });
  if (request.method === "PUT") {
    await env.UPLOADS.put(name, request.body);
    return new Response("stored\n", { status: 201 });
  }
  const file = await env.UPLOADS.get(name);
  return file ? new Response(file.body) : new Response("no such file\n", { status: 404 });
}

async function hello(env) {
  const greeting = (await env.SETTINGS.get("greeting")) ?? "hello";
  const visits = Number(await env.SESSIONS.get("visits")) + 1;
  await env.SESSIONS.put("visits", String(visits), { expirationTtl: 3600 });
  return Response.json({ greeting, stage: env.STAGE, visits });
}

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    const [, , area, rest] = pathname.split("/", 4);
    if (area === "hello") return hello(env);
    if (area === "orders" && request.method === "POST") return place(request, env);
    if (area === "orders") return orders(env, rest);
    if (area === "chat") return room(env).fetch(request);
    if (area === "uploads" && rest) return uploads(request, env, decodeURIComponent(rest));
    return new Response("not found\n", { status: 404 });
  },

  // One batch of new orders: each gets a shipping of its own. The id of the order is the id of the workflow, so that a message that comes
  // twice ships once.
  async queue(batch, env) {
    for (const message of batch.messages) {
      const { order } = message.body;
      try {
        await env.SHIPPING.create({ id: `order-${order}`, params: { order } });
      } catch (error) {
        if (!/exist/i.test(String(error))) throw error;
      }
      message.ack();
    }
  },

  // Every night the shipped orders leave the table, and a line in the bucket keeps their number.
  async scheduled(event, env) {
    const swept = await sweep(env);
    await env.UPLOADS.put("swept.json", JSON.stringify({ swept, cron: event.cron }));
    await room(env).say("shop", `${swept} shipped orders put away`);
  },
};
