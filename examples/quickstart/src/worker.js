// Counts visits in the database, remembers the last one in the cache, and serves files from the bucket.
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);

    if (pathname.startsWith("/files/")) {
      const key = decodeURIComponent(pathname.slice("/files/".length));
      if (request.method === "PUT") {
        await env.FILES.put(key, request.body);
        return new Response("stored\n", { status: 201 });
      }
      const file = await env.FILES.get(key);
      return file ? new Response(file.body) : new Response("not found\n", { status: 404 });
    }

    const last = await env.CACHE.get("last-visit");
    await env.CACHE.put("last-visit", new Date().toISOString());
    await env.DB.prepare("INSERT INTO visits (path) VALUES (?1)").bind(pathname).run();
    const { count } = await env.DB.prepare("SELECT COUNT(*) AS count FROM visits").first();
    return Response.json({ count, last });
  },
};
