// What alch does with the instances of workflows. Part of alch; runs inside workerd, in the entry Worker.
//
// `workflow:<name>` is the binding of a workflow, `engine:<name>` the objects that its instances run in. Whether an instance
// exists is known before: asking an object makes it.

const ACTIONS = {
  async create({ instance, params }, binding) {
    using made = await binding.create({ id: instance, params });
    return { id: made.id };
  },
  async read({ instance }, _, engine) {
    const object = engine.get(engine.idFromName(instance));
    const { status, createdOn } = await object.getInstanceMetadata();
    const log = await object.readDetailedLogs();
    return { status, createdOn, log: structuredClone(log) };
  },
  async list({ objects }, _, engine) {
    const told = objects.map(async (id) => {
      const object = engine.get(engine.idFromString(id));
      try {
        const { instanceId, status, createdOn } = await object.getInstanceMetadata();
        const log = await object.readDetailedLogs();
        return { instanceId, status, createdOn, changedOn: log.at(-1)?.timestamp };
      } catch {
        // An object without an instance: its creation did not come to its end.
        return undefined;
      }
    });
    return (await Promise.all(told)).filter((instance) => instance !== undefined);
  },
  // Those that an earlier process left. The engine goes on with an instance that does not run when an event comes, whatever
  // its type, and with what it has stored.
  async resume({ objects }, _, engine) {
    const QUEUED = 0, RUNNING = 1, WAITING_FOR_PAUSE = 6, WAITING = 7;
    const woken = objects.map(async (id) => {
      const object = engine.get(engine.idFromString(id));
      try {
        const { status } = await object.getInstanceMetadata();
        if (![QUEUED, RUNNING, WAITING_FOR_PAUSE, WAITING].includes(status)) return;
        await object.receiveEvent({ type: "alch-resume", payload: null, timestamp: new Date() });
      } catch (error) {
        console.warn(`an instance of a workflow is not woken: ${error}`);
      }
    });
    await Promise.all(woken);
    return null;
  },
  async change({ instance, change, from, rollback }, binding, engine) {
    using handle = await binding.get(instance);
    const options = { restart: from ? { from } : undefined, terminate: rollback ? { rollback } : undefined };
    await handle[change](options[change]);
    const { status } = await engine.get(engine.idFromName(instance)).getInstanceMetadata();
    return { status };
  },
  async event({ instance, type, payload }, binding) {
    using handle = await binding.get(instance);
    await handle.sendEvent({ type, payload });
    return null;
  },
};

export async function workflow(env, { workflow: name, action, ...given }) {
  const binding = env["workflow:" + name];
  if (binding === undefined) return new Response(null, { status: 404 });
  try {
    return Response.json({ result: await ACTIONS[action](given, binding, env["engine:" + name]) });
  } catch (error) {
    return Response.json({ error: error?.message || String(error) });
  }
}
