// The binding of a Hyperdrive configuration: the origin itself, without a pool or a cache between. Part of alch; runs
// inside workerd.

import sockets from "cloudflare-internal:sockets";

export default function (env) {
  const { scheme, host, port, database, user, password } = JSON.parse(JSON.parse(env.origin));
  const part = encodeURIComponent;
  return {
    connectionString: `${scheme}://${part(user)}:${part(password)}@${host}:${port}/${part(database)}`,
    host,
    port,
    database,
    user,
    password,
    connect: () => sockets.connect(`${host}:${port}`),
  };
}
