// Orders in the database.
export async function place(request, env) {
  const { item } = await request.json().catch(() => ({}));
  if (typeof item !== "string" || item.trim() === "") {
    return Response.json({ error: "an order needs an item" }, { status: 400 });
  }
  const { meta } = await env.DB.prepare("INSERT INTO orders (item, stage) VALUES (?1, ?2)")
    .bind(item.trim(), env.STAGE)
    .run();
  await env.JOBS.send({ order: meta.last_row_id });
  return Response.json({ order: meta.last_row_id }, { status: 201 });
}

export async function orders(env, id) {
  if (id === undefined) {
    const { results } = await env.DB.prepare("SELECT id, item, state FROM orders ORDER BY id DESC LIMIT 20").all();
    return Response.json(results);
  }
  const order = await env.DB.prepare("SELECT id, item, state FROM orders WHERE id = ?1").bind(id).first();
  return order ? Response.json(order) : Response.json({ error: "no such order" }, { status: 404 });
}

export async function mark(env, order, state) {
  await env.DB.prepare("UPDATE orders SET state = ?2 WHERE id = ?1").bind(order, state).run();
}

export async function sweep(env) {
  const { meta } = await env.DB.prepare("DELETE FROM orders WHERE state = 'shipped'").run();
  return meta.changes;
}
