// The Worker in front of all others: sends each request to the Worker that the host name, or a route or custom domain,
// names, and answers for those that are not there or fail. Part of alch; runs inside workerd.

import { workflow } from "./alch-workflows.js";

const SUFFIX = ".localhost";
const PREFIX = "worker:";
// Before Workers that have static assets, for requests only.
const FRONT = "front:";

// How many host names are remembered: whoever asks chooses them.
const MEMORY = 256;
const KEY = "cloudflare-workers-version-key";
const OVERRIDES = "cloudflare-workers-version-overrides";

// What never changes while this process runs, read once: every request comes through here.
let known;

export default {
  fetch(request, env) {
    const { headers, url } = request;
    if (headers.get("x-alch-token") === env.TOKEN) return event(request, env);
    known ??= tables(env);
    const host = hostOf(url);
    if (!host.allowed) {
      const text = "Workers answer to names below localhost, and to their routes and custom domains, only.";
      return page(request, 403, "Not a name of this machine", text);
    }
    if (isForeignPage(request, known.hosts)) {
      return page(request, 403, "Refused", "Requests of web pages from elsewhere are refused.");
    }
    const name = host.worker ?? routed(url, known.hosts);
    const versions = known.workers.get(name);
    if (versions === undefined) {
      const lines = Array.from(known.workers.keys(), (other) => `http://${other}${SUFFIX}${host.port && ":" + host.port}/`);
      const title = name ? `No Worker \`${name}\`` : "Which Worker?";
      return page(request, 404, title, `The Workers here are\n\n${lines.join("\n")}`);
    }
    const { fetcher } = versions.shares ? chosen(headers, name, versions) : versions.itself;
    // Cloudflare marks each request so, too. Here it tells which failure is whose.
    const ray = nextRay();
    const marked = new Headers(headers);
    marked.set("cf-ray", ray);
    return fetcher.fetch(request, { headers: marked }).catch((error) => failure(request, env, name, ray, String(error)));
  },
};

// The Workers by name, each with the service that its requests go to, and with those of its versions where they share them.
function tables(env) {
  const service = (name) => ({ fetcher: env[name.replace(PREFIX, FRONT)] ?? env[name] });
  const names = Object.keys(env).filter((name) => name.startsWith(PREFIX) && !name.includes("@"));
  const shares = new Map(Object.entries(env.SHARES));
  const workers = names.map((full) => {
    const name = full.slice(PREFIX.length);
    const version = (version) => ({ ...version, ...service(version.service) });
    return [name, { itself: service(full), shares: shares.get(name)?.map(version) }];
  });
  return { workers: new Map(workers), hosts: env.HOSTS, remembered: new Map() };
}

// What is known of the host of a URL: whether it may ask at all, its port, and its Worker unless the path decides.
function hostOf(url) {
  const end = url.indexOf("/", url.indexOf("//") + 2);
  const start = end < 0 ? url : url.slice(0, end);
  const found = known.remembered.get(start);
  if (found !== undefined) return found;
  const { hostname, port } = new URL(url);
  const worker = hostname.endsWith(SUFFIX) ? hostname.slice(0, -SUFFIX.length) : undefined;
  const host = { allowed: isAllowed(hostname, known.hosts), port, worker };
  if (known.remembered.size >= MEMORY) known.remembered.clear();
  known.remembered.set(start, host);
  return host;
}

// Sixteen digits that no other request has.
let prefix;
let counter = 0;
function nextRay() {
  // Not before the first request: there is no randomness then.
  prefix ??= crypto.randomUUID().slice(0, 8);
  counter = (counter + 1) >>> 0;
  return `${prefix}${counter.toString(16).padStart(8, "0")}-LOCAL`;
}

// The version that a request goes to, where several share them: what a header says, else by chance, which a key in another
// header decides for good.
function chosen(headers, name, { itself, shares }) {
  const overrides = headers.get(OVERRIDES) ?? "";
  for (const [, worker, id] of overrides.matchAll(/([\w-]+)\s*=\s*"([^"]*)"/g)) {
    const version = worker === name && shares.find((version) => version.id === id);
    if (version) return version;
  }
  const key = headers.get(KEY);
  let point = key === null ? Math.random() * 100 : hash(key) * 100;
  // The newer version begins at 0, so that who has it keeps it while its part grows.
  for (const version of shares) {
    if (point < version.share) return version;
    point -= version.share;
  }
  return itself;
}

// FNV-1a, as a number from 0 to 1.
function hash(text) {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value / 2 ** 32;
}

// The Worker that a route or custom domain names; empty when none does.
function routed(url, hosts) {
  const { hostname, pathname } = new URL(url);
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
