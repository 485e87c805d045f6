// The generated client with retries, pages, Idempotency-Keys and typed errors.
import createClient from "openapi-fetch";
import type { components, paths } from "./customers.d.ts";

type Schemas = components["schemas"];
export type Customer = Schemas["Customer"];
export type Problem = Schemas["Problem"];

const PAGE = 100;
const TIMEOUT_MS = 30_000; // The plugin replies within 20 seconds, unless its operator changed that.
const NO_REPLY = 0;
// The statuses of failures that pass. Each request of this module may be repeated after them.
const PASSING = new Set([NO_REPLY, 429, 500, 502, 503, 504]);
const KEY_IN_USE = "urn:flask-ecwid:problem:idempotency-key-in-use";

/** A request that failed, after all repeats. */
export class ShopError extends Error {
  /** Whether a change may have happened. */
  readonly executed: "no" | "unknown";

  constructor(
    /** The problem that the plugin sent, or undefined if no problem arrived. */
    readonly problem: Problem | undefined,
    /** How often the request was sent. */
    readonly attempts: number,
  ) {
    super(problem?.title ?? "The plugin sent no problem and no result");
    this.executed = problem?.executed === "no" ? "no" : "unknown";
  }
}

/** 400, 413, 415 or 422: `problem.errors` has the places to mend. */
export class Invalid extends ShopError {}
/** 401 or 403: the key is unknown, or lacks the scope of the operation. */
export class NotAllowed extends ShopError {}
/** 404: the store has no such customer. */
export class NotFound extends ShopError {}
/** 409: another customer has the e-mail. */
export class EmailTaken extends ShopError {}
/** 429, a status above 499, or no reply, until no time was left for a repeat. */
export class Unavailable extends ShopError {}

function classOf(status: number, problem: Problem | undefined): typeof ShopError {
  if (PASSING.has(status)) return Unavailable;
  if (!problem) return ShopError; // the page of a proxy or of the host
  if ([400, 413, 415, 422].includes(status)) return Invalid;
  if ([401, 403].includes(status)) return NotAllowed;
  return new Map([[404, NotFound], [409, EmailTaken]]).get(status) ?? ShopError;
}

/** The part of a result of `openapi-fetch` that this module reads. */
interface Reply<T> {
  data?: T | undefined;
  error?: Problem | undefined;
  response: Response;
}

/** The customers of one store. */
export class Shop {
  readonly #api;
  readonly #patienceMs: number;

  /**
   * @param url The address of the mount, which ends in /api/json/v1/ecwid by default.
   * @param key An API key of the plugin.
   * @param patienceMs For how many milliseconds a failed request may be repeated.
   */
  constructor(url: string, key: string, patienceMs = 120_000) {
    this.#patienceMs = patienceMs;
    this.#api = createClient<paths>({
      baseUrl: url,
      headers: { Authorization: `Bearer ${key}` },
      fetch: (request) => fetch(request, { signal: AbortSignal.timeout(TIMEOUT_MS) }),
    });
  }

  /** Return a customer without the id. */
  async get(id: number): Promise<Schemas["CustomerAttributes"]> {
    const params = { path: { customer_id: id } };
    const found = await this.#send(() => this.#api.GET("/customer/{customer_id}", { params }));
    return found.data.attributes;
  }

  /**
   * Create a customer once, and return the id.
   *
   * Store the key beside your own record first, if your program may end during the call. A later
   * call with the same key and the same customer returns the same id.
   */
  async add(body: Schemas["CustomerInput"], key: string = crypto.randomUUID()): Promise<number> {
    const params = { header: { "Idempotency-Key": key } };
    const added = await this.#send(() => this.#api.POST("/add_customer", { params, body }));
    return Number(added.data.id);
  }

  /** Change the members of a customer that `body` names. */
  async update(id: number, body: Schemas["CustomerChanges"]): Promise<void> {
    const params = { path: { customer_id: id } };
    await this.#send(() => this.#api.POST("/update_customer/{customer_id}", { params, body }));
  }

  /** Delete a customer. A 404 of a repeat means that an earlier attempt was successful. */
  async delete(id: number): Promise<void> {
    const params = { path: { customer_id: id } };
    try {
      await this.#send(() => this.#api.POST("/delete_customer/{customer_id}", { params }));
    } catch (error) {
      if (!(error instanceof NotFound && error.attempts > 1)) throw error;
    }
  }

  /**
   * Yield every customer once, the oldest first, while the list may change.
   *
   * A page begins with the last customer of the page before. If that customer is not there,
   * somebody has deleted customers, so the reading goes back by a page.
   */
  async *customers(): AsyncGenerator<Customer> {
    const seen = new Set<number>();
    for (let offset = 0; ; ) {
      const query = { sortBy: "REGISTERED_DATE_ASC", offset, limit: PAGE } as const;
      const { data } = await this.#send(() => this.#api.GET("/customers", { params: { query } }));
      const { items, total } = data.attributes;
      const fresh = items.filter((customer) => !seen.has(customer.id));
      if (offset > 0 && fresh.length === items.length) {
        offset = Math.max(0, offset - PAGE);
        continue;
      }
      for (const customer of fresh) seen.add(customer.id);
      yield* fresh;
      if (offset + items.length >= total) return;
      offset += Math.max(1, items.length - 1);
    }
  }

  /** Send a request until it succeeds, fails for good, or no time is left. */
  async #send<T>(send: () => Promise<Reply<T>>): Promise<T> {
    const deadline = performance.now() + this.#patienceMs;
    for (let attempts = 1; ; attempts++) {
      const reply = await send().catch(() => undefined); // no reply, or the page of a proxy
      if (reply?.response.ok && reply.data !== undefined) return reply.data;
      const problem = typeof reply?.error === "object" ? reply.error : undefined;
      // After `idempotency-key-in-use`, an earlier attempt is still under way.
      const status = problem?.type === KEY_IN_USE ? 503 : (reply?.response.status ?? NO_REPLY);
      const retryAfter = reply?.response.headers.get("Retry-After") ?? "";
      const backoffMs = Math.min(8000, 250 * 2 ** attempts) * (0.5 + Math.random() / 2);
      const waitMs = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : backoffMs;
      if (!PASSING.has(status) || performance.now() + waitMs > deadline) {
        throw new (classOf(status, problem))(problem, attempts);
      }
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
}
