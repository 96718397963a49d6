// The Worker in front of all others: sends each request to the Worker that the host name, or a route or custom domain,
// names, and answers for those that are not there or fail. Part of alch; runs inside workerd.

import { workflow } from "./alch-workflows.js";

const SUFFIX = ".localhost";
const PREFIX = "worker:";

export default {
  async fetch(request, env) {
    if (request.headers.get("x-alch-token") === env.TOKEN) return event(request, env);
    const { hostname } = new URL(request.url);
    const names = Object.keys(env).filter((name) => name.startsWith(PREFIX) && !name.includes("@")).map((name) => name.slice(PREFIX.length));
    if (!isAllowed(hostname, env.HOSTS)) {
      const text = "Workers answer to names below localhost, and to their routes and custom domains, only.";
      return page(request, 403, "Not a name of this machine", text);
    }
    if (isForeignPage(request, env.HOSTS)) {
      return page(request, 403, "Refused", "Requests of web pages from elsewhere are refused.");
    }
    const name = nameOf(request, env.HOSTS);
    const worker = names.includes(name) ? env[chosen(request, name, env.SHARES[name]) ?? PREFIX + name] : undefined;
    if (worker === undefined) {
      const { port } = new URL(request.url);
      const lines = names.map((other) => `http://${other}${SUFFIX}${port && ":" + port}/`);
      const title = name ? `No Worker \`${name}\`` : "Which Worker?";
      return page(request, 404, title, `The Workers here are\n\n${lines.join("\n")}`);
    }
    // Cloudflare marks each request so, too. Here it tells which failure is whose.
    const headers = new Headers(request.headers);
    const ray = `${crypto.randomUUID().replaceAll("-", "").slice(0, 16)}-LOCAL`;
    headers.set("cf-ray", ray);
    try {
      return await worker.fetch(new Request(request, { headers }));
    } catch (error) {
      return failure(request, env, name, ray, String(error));
    }
  },
};

// The service of the version that a request goes to, where a Worker has several: what a header says, else by chance, which a
// key in another header decides for good.
function chosen(request, name, versions) {
  // A Worker may have the name of what every object has.
  if (!Array.isArray(versions)) return undefined;
  const overrides = request.headers.get("cloudflare-workers-version-overrides") ?? "";
  for (const [, worker, id] of overrides.matchAll(/([\w-]+)\s*=\s*"([^"]*)"/g)) {
    const version = worker === name && versions.find((version) => version.id === id);
    if (version) return version.service;
  }
  const key = request.headers.get("cloudflare-workers-version-key");
  let point = key === null ? Math.random() * 100 : hash(key) * 100;
  // The newer version begins at 0, so that who has it keeps it while its part grows.
  for (const version of versions) {
    if (point < version.share) return version.service;
    point -= version.share;
  }
  return undefined;
}

// FNV-1a, as a number from 0 to 1.
function hash(text) {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value / 2 ** 32;
}

// The Worker that a request is for; empty when the host names none.
function nameOf(request, hosts) {
  const { hostname, pathname } = new URL(request.url);
  if (hostname.endsWith(SUFFIX)) return hostname.slice(0, -SUFFIX.length);
  const fits = ({ host, path }) => {
    const some = path.endsWith("*") ? pathname.startsWith(path.slice(0, -1)) : pathname === path;
    return some && isHost(hostname, host);
  };
  return hosts.find(fits)?.worker ?? "";
}

// `*.a.b` stands for everything below a.b, and `*a.b` for a.b too.
function isHost(hostname, host) {
  if (!host.startsWith("*")) return hostname === host;
  const rest = host.replace(/^\*\.?/, "");
  return hostname.endsWith("." + rest) || (hostname === rest && !host.startsWith("*."));
}

function isAllowed(hostname, hosts) {
  return isThisMachine(hostname) || hosts.some(({ host }) => isHost(hostname, host));
}

// The stack does not come along with the error: alch knows it from the tail Worker.
async function failure(request, env, worker, ray, message) {
  const { method, url } = request;
  const html = wantsHtml(request);
  try {
    const body = JSON.stringify({ worker, method, url, message, ray, html });
    return await env.HOST.fetch("http://alch/failure", { method: "POST", body });
  } catch {
    return page(request, 500, `Worker \`${worker}\` failed`, `${method} ${url}\n\n${message}`);
  }
}

// An event that is no request, from alch itself.
async function event(request, env) {
  const { worker: name, event: kind, ...given } = await request.json();
  if (kind === "workflow") return workflow(env, given);
  const worker = env[PREFIX + name];
  if (worker === undefined) return new Response(null, { status: 404 });
  try {
    if (kind === "queue") return Response.json(await worker.queue(given.queue, given.messages.map(message)));
    const scheduledTime = new Date(given.scheduledTime);
    return Response.json(await worker.scheduled({ cron: given.cron, scheduledTime }));
  } catch (error) {
    return Response.json({ outcome: "exception", error: String(error) });
  }
}

function message({ id, timestamp, attempts, contentType, body }) {
  const head = { id, timestamp: new Date(timestamp), attempts };
  const bytes = () => Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
  if (contentType === "v8") return { ...head, serializedBody: bytes() };
  if (contentType === "bytes") return { ...head, body: bytes().buffer };
  return { ...head, body: contentType === "json" ? JSON.parse(body) : body };
}

function isThisMachine(hostname) {
  return ["127.0.0.1", "[::1]", "localhost"].includes(hostname) || hostname.endsWith(SUFFIX);
}

// Browsers say where a request comes from; other programs do not and are not meant. A link may be followed from anywhere.
function isForeignPage(request, hosts) {
  if (request.headers.get("sec-fetch-site") !== "cross-site") return false;
  if (request.headers.get("sec-fetch-mode") === "navigate" && request.method === "GET") return false;
  try {
    return !isAllowed(new URL(request.headers.get("origin")).hostname, hosts);
  } catch {
    return true;
  }
}

function wantsHtml(request) {
  return (request.headers.get("accept") ?? "").includes("text/html");
}

function page(request, status, title, text) {
  if (!wantsHtml(request)) {
    return new Response(`${title}\n\n${text}\n`, { status });
  }
  const escape = (raw) => raw.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const html = `<!doctype html><meta charset="utf-8"><title>${escape(title)}</title>
<style>body{font:16px/1.5 system-ui;margin:10vh auto;max-width:50rem;padding:0 1rem;color-scheme:light dark}
pre{white-space:pre-wrap;border-left:4px solid #f6821f;padding-left:1rem}</style>
<h1>${escape(title)}</h1><pre>${escape(text)}</pre>`;
  return new Response(html, { status, headers: { "content-type": "text/html;charset=utf-8" } });
}
