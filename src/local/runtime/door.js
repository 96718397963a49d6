// Stands in front of the storage objects of D1, KV and R2. The API of the local cloud writes to the same SQLite files from
// other processes, and workerd does not wait for a file that is locked: it fails the request and undoes it. Here the same
// request is sent again until it gets through. Part of alch; runs inside workerd.
const PATIENCE = 10_000;
const FIRST_PAUSE = 2;
const LONGEST_PAUSE = 50;
// What is longer goes through once: only R2 has such bodies.
const BODY_LIMIT = 32 * 1024 * 1024;
// An error of D1 is shorter.
const ERROR_LIMIT = 4096;
// A read of a locked file fails without saying why.
const LOCKED = /SQLITE_BUSY|internal error; reference/;

export default {
  async fetch(request, env, context) {
    const response = await through(request, env);
    if (env.PRODUCT === "r2" && request.method === "PUT" && response.ok) {
      // Objects may have come or gone. What alch does not hear of now it sees at the next write.
      const body = env.MINIFLARE_NAMESPACE;
      context.waitUntil(env.HOST.fetch("http://alch/written", { method: "POST", body }).catch(() => {}));
    }
    return response;
  },
};

// The answer of the storage object, however often it has to be asked.
async function through(request, env) {
  const name = env.MINIFLARE_NAMESPACE;
  const send = (body) => {
    const { url, method, headers } = request;
    const object = env.MINIFLARE_OBJECT.get(env.MINIFLARE_OBJECT.idFromName(name));
    return object.fetch(url, { method, headers, body, cf: { miniflare: { name } } });
  };
  const bodiless = request.method === "GET" || request.method === "HEAD";
  if (Number(request.headers.get("content-length") ?? 0) > BODY_LIMIT) return send(request.body);
  const body = bodiless ? undefined : await request.arrayBuffer();
  const end = Date.now() + PATIENCE;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    const over = Date.now() > end;
    try {
      const [response, refused] = await told(await send(body), env.PRODUCT);
      if (over || !LOCKED.test(refused)) return response;
    } catch (error) {
      // The object itself was given up.
      if (over || !LOCKED.test(String(error))) throw error;
    }
    await scheduler.wait(pause);
  }
}

// A response that can still be read, and the error that it tells.
async function told(response, product) {
  if (response.status === 500) {
    const text = await response.text();
    return [new Response(text, response), text];
  }
  // D1 tells errors in good answers.
  if (product !== "d1") return [response, ""];
  const bytes = await response.arrayBuffer();
  const whole = new Response(bytes, response);
  if (bytes.byteLength > ERROR_LIMIT) return [whole, ""];
  try {
    const { success, error } = JSON.parse(new TextDecoder().decode(bytes));
    return [whole, success === false ? String(error) : ""];
  } catch {
    return [whole, ""];
  }
}
