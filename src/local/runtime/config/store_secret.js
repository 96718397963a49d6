// The binding of a secret of a secrets store. Part of alch; runs inside workerd.

class StoreSecret {
  #value;

  constructor(value) {
    this.#value = value;
  }

  async get() {
    return this.#value;
  }
}

export default function (env) {
  return new StoreSecret(JSON.parse(env.value));
}
