// The page: orders with their state, and the chat. What happens to an order comes through the chat's socket, so nothing is polled.
const $ = (id) => document.getElementById(id);

function element(tag, text, state) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (state) made.dataset.state = state;
  return made;
}

async function showOrders() {
  const orders = await (await fetch("/api/orders")).json();
  $("orders").replaceChildren(
    ...orders.map((order) => {
      const line = document.createElement("li");
      line.append(element("span", `${order.id}. ${order.item}`), element("span", order.state, order.state));
      return line;
    }),
  );
}

function showLine({ name, text }) {
  const line = document.createElement("li");
  line.append(element("b", `${name} `), text);
  $("lines").append(line);
  line.scrollIntoView({ block: "nearest" });
  if (name === "shop") showOrders();
}

let socket;
let wait = 250;

function connect() {
  const name = `guest-${Math.floor(Math.random() * 900 + 100)}`;
  socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/chat?name=${name}`);
  socket.onopen = () => {
    wait = 250;
    $("lines").replaceChildren();
    $("status").dataset.state = "open";
    $("status").textContent = `connected as ${name}`;
  };
  socket.onmessage = (event) => showLine(JSON.parse(event.data));
  socket.onclose = () => {
    $("status").dataset.state = "closed";
    $("status").textContent = "not connected";
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 10_000);
  };
}

$("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("/api/orders", { method: "POST", body: JSON.stringify({ item: $("item").value }) });
  $("complaint").hidden = answer.ok;
  if (answer.ok) $("order").reset();
  else $("complaint").textContent = (await answer.json()).error;
  await showOrders();
});

$("chat").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.send($("line").value);
  $("chat").reset();
});

const { greeting, stage, visits } = await (await fetch("/api/hello")).json();
$("greeting").textContent = `${greeting} from ${stage}, visit ${visits}`;
await showOrders();
connect();
