// A chat room: one object that all its sockets meet in. It keeps the last lines, and sleeps while nobody writes.
import { DurableObject } from "cloudflare:workers";

const KEPT = 50;
const LONGEST = 500;

export class Room extends DurableObject {
  constructor(state, env) {
    super(state, env);
    state.storage.sql.exec("CREATE TABLE IF NOT EXISTS lines (id INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL)");
  }

  async fetch(request) {
    if (request.headers.get("upgrade") !== "websocket") return Response.json(this.lines());
    const [client, server] = Object.values(new WebSocketPair());
    const name = new URL(request.url).searchParams.get("name") ?? "guest";
    this.ctx.acceptWebSocket(server);
    server.serializeAttachment({ name: name.slice(0, 40) });
    for (const line of this.lines()) server.send(JSON.stringify(line));
    return new Response(null, { status: 101, webSocket: client });
  }

  // Also called by the Worker and the workflow: a method of the object is all it takes.
  say(name, text) {
    const sql = this.ctx.storage.sql;
    sql.exec("INSERT INTO lines (name, text) VALUES (?, ?)", name, text);
    sql.exec("DELETE FROM lines WHERE id <= (SELECT max(id) FROM lines) - ?", KEPT);
    const line = JSON.stringify({ name, text });
    for (const socket of this.ctx.getWebSockets()) socket.send(line);
  }

  lines() {
    return this.ctx.storage.sql.exec("SELECT name, text FROM lines ORDER BY id").toArray();
  }

  webSocketMessage(socket, message) {
    const { name } = socket.deserializeAttachment();
    this.say(name, String(message).slice(0, LONGEST));
  }

  webSocketClose(socket, code) {
    socket.close(code === 1005 || code === 1006 ? 1000 : code);
  }
}
