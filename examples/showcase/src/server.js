// Orders are stored in the database and worked on by the queue; uploads go to the bucket; settings and sessions to KV.
async function order(request, env) {
  const body = await request.json();
  const { meta } = await env.DB.prepare("INSERT INTO orders (item, stage) VALUES (?1, ?2)")
    .bind(String(body.item ?? ""), env.STAGE)
    .run();
  await env.JOBS.send({ order: meta.last_row_id });
  return Response.json({ order: meta.last_row_id }, { status: 201 });
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (request.headers.get("authorization") !== `Bearer ${env.API_KEY}`) {
      return new Response("unauthorised\n", { status: 401 });
    }
    if (url.pathname === "/orders" && request.method === "POST") return order(request, env);
    if (url.pathname.startsWith("/uploads/") && request.method === "PUT") {
      await env.UPLOADS.put(url.pathname.slice("/uploads/".length), request.body);
      return new Response("stored\n", { status: 201 });
    }
    const greeting = (await env.SETTINGS.get("greeting")) ?? "hello";
    await env.SESSIONS.put(crypto.randomUUID(), url.pathname, { expirationTtl: 3600 });
    return new Response(`${greeting} from ${env.STAGE}\n`);
  },

  async queue(batch, env) {
    for (const message of batch.messages) {
      await env.DB.prepare("UPDATE orders SET done = 1 WHERE id = ?1").bind(message.body.order).run();
      message.ack();
    }
  },

  async scheduled(event, env) {
    await env.DB.prepare("DELETE FROM orders WHERE done = 1").run();
  },
};
