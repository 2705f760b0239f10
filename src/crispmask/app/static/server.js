// The requests of the page. Edits of photos go one after the other; of several that replace one another, only the last.

const RETRIES = [300, 700, 1500, 3000, 5000]; // milliseconds, while the server is busy

/** What the server says about a request that it refuses. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** One request; tried again while the server has no place in its queue. */
export async function ask(path, options = {}) {
  for (let attempt = 0; ; attempt++) {
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new Refused(0, "The server does not answer. Is crispmask app still running?");
    }
    if (response.ok) return response;
    if (response.status === 503 && attempt < RETRIES.length) {
      await new Promise((done) => setTimeout(done, RETRIES[attempt]));
      continue;
    }
    let sentence = `The server answered with status ${response.status}.`;
    try {
      const { detail } = await response.json();
      if (typeof detail === "string") sentence = detail[0].toUpperCase() + detail.slice(1) + ".";
    } catch { /* no sentence in it */ }
    throw new Refused(response.status, sentence);
  }
}

/** Does things one after the other. */
export class Queue {
  #waiting = [];
  #working = null;

  /**
   * @param {() => Promise<void>} work
   * @param {string | null} kind waiting work of the same kind is dropped: this takes its place.
   */
  add(work, kind = null) {
    if (kind !== null) this.#waiting = this.#waiting.filter((item) => item.kind !== kind);
    this.#waiting.push({ work, kind });
    this.#working ??= this.#run();
    return this.#working;
  }

  /** Resolves when nothing is waiting or under way. */
  async settled() {
    while (this.#working) await this.#working;
  }

  get busy() {
    return this.#working !== null;
  }

  async #run() {
    while (this.#waiting.length) await this.#waiting.shift().work();
    this.#working = null;
  }
}
