// Answers at the public address of a bucket. Part of alch; runs inside workerd, with the bucket bound to it.
const METHODS = ["GET", "HEAD"];

export default {
  async fetch(request, { BUCKET }) {
    if (!METHODS.includes(request.method)) {
      return refused(request, 405, "Only GET and HEAD are answered here", { allow: METHODS.join(", ") });
    }
    const key = keyOf(request.url);
    if (key === undefined) return refused(request, 400, "The path is no text");
    if (key === "") return refused(request, 404, "There is no object without a name");
    const { headers } = request;
    let object;
    try {
      object = await BUCKET.get(key, { onlyIf: headers, range: headers });
    } catch (error) {
      if (!headers.has("range")) throw error;
      const whole = await BUCKET.head(key);
      if (whole === null) return refused(request, 404, "Object not found");
      return refused(request, 416, "There is no such range", { "content-range": `bytes */${whole.size}` });
    }
    if (object === null) return refused(request, 404, "Object not found");
    // A range that begins behind the end is passed over by the runtime, and refused by Cloudflare.
    const [, start] = /^bytes=(\d+)-/.exec(headers.get("range") ?? "") ?? [];
    if (start !== undefined && Number(start) >= object.size && "body" in object) {
      await object.body.cancel();
      return refused(request, 416, "There is no such range", { "content-range": `bytes */${object.size}` });
    }
    const told = new Headers({
      etag: object.httpEtag,
      "last-modified": object.uploaded.toUTCString(),
      "accept-ranges": "bytes",
    });
    object.writeHttpMetadata(told);
    if (!("body" in object)) {
      // A condition does not hold: the object is known already, or it is not the one that is meant.
      const known = headers.has("if-none-match") || headers.has("if-modified-since");
      const other = headers.has("if-match") || headers.has("if-unmodified-since");
      return new Response(null, { status: known && !other ? 304 : 412, headers: told });
    }
    if (!told.has("content-type")) told.set("content-type", "application/octet-stream");
    const { offset = 0, length = object.size } = (headers.has("range") && object.range) || {};
    const part = headers.has("range") && object.range !== undefined && length < object.size;
    if (part) told.set("content-range", `bytes ${offset}-${offset + length - 1}/${object.size}`);
    told.set("content-length", String(length));
    const init = { status: part ? 206 : 200, headers: told, encodeBody: "manual" };
    if (request.method === "HEAD") {
      await object.body.cancel();
      return new Response(null, init);
    }
    // A body of known length is sent with that length.
    const { readable, writable } = new FixedLengthStream(length);
    // Whoever goes away in the middle ends it.
    object.body.pipeTo(writable).catch(() => {});
    return new Response(readable, init);
  },
};

function keyOf(url) {
  try {
    return decodeURIComponent(new URL(url).pathname.slice(1));
  } catch {
    return undefined;
  }
}

function refused(request, status, text, headers = {}) {
  return new Response(request.method === "HEAD" ? null : `${text}\n`, { status, headers });
}
