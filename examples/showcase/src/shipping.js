// What happens to an order: packed, then, after a pause, shipped. Each step is done once, also when the Worker is started anew in between.
import { WorkflowEntrypoint } from "cloudflare:workers";

import { mark } from "./orders.js";

export class Shipping extends WorkflowEntrypoint {
  async run(event, step) {
    const { order } = event.payload;
    const tell = (text) => this.env.ROOM.get(this.env.ROOM.idFromName("lobby")).say("shop", text);
    await step.do("pack", async () => {
      await mark(this.env, order, "packed");
      await tell(`order ${order} is packed`);
    });
    await step.sleep("wait for the van", "1 second");
    await step.do("ship", { retries: { limit: 3, delay: "1 second" } }, async () => {
      await mark(this.env, order, "shipped");
      await tell(`order ${order} is shipped`);
    });
    return { order };
  }
}
