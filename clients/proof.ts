// The TypeScript client through all five operations and their failures; each type is asserted for tsc.
// Runs beside what openapi-typescript has generated: test_typescript.py.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./customers.d.ts";

type Schemas = components["schemas"];
type Problem = Schemas["Problem"];

// Does not compile unless the first is no `any` and each may stand for the other.
type IsAny<T> = 0 extends 1 & T ? true : false;
type Same<A, B> =
  IsAny<A> extends true ? false : [A] extends [B] ? ([B] extends [A] ? true : false) : false;
function same<_Answer extends true>(): void {}

function client(key: string | undefined) {
  const headers = { "X-API-Key": key };
  return createClient<paths>({ baseUrl: process.env.SHOP_URL, headers });
}
const shop = client(process.env.SHOP_KEY);
const reader = client(process.env.READER_KEY);
const stranger = client("canary");

async function add(): Promise<number> {
  const params = { header: { "Idempotency-Key": "proof-ts" } };
  const contacts = [{ contact: "+49 30 1", type: "PHONE" }];
  const body = { email: "proof.ts@example.com", billingPerson: { name: "Ada Proof" }, contacts };
  const added = await shop.POST("/add_customer", { params, body });
  if (added.error) assert.fail(added.error.title);
  same<Same<typeof added.data, Schemas["AddedCustomerEnvelope"]>>();
  same<Same<typeof added.data.data.id, string>>();
  const again = await shop.POST("/add_customer", { params, body });
  assert.equal(again.data?.data.id, added.data.data.id);
  assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");
  const misused = await shop.POST("/add_customer", { params, body: { email: "b@example.com" } });
  same<Same<typeof misused.error, Problem | undefined>>();
  assert.deepEqual([misused.error?.status, misused.error?.executed], [422, "no"]);
  const twice = await shop.POST("/add_customer", { body });
  assert.deepEqual([twice.error?.status, twice.error?.origin], [409, "ecwid"]);
  return Number(added.data.data.id);
}

async function get(id: number): Promise<void> {
  const got = await shop.GET("/customer/{customer_id}", { params: { path: { customer_id: id } } });
  if (got.error) assert.fail(got.error.title);
  same<Same<typeof got.data.data.id, number>>();
  const customer = got.data.data.attributes;
  same<Same<typeof customer.email, string | null | undefined>>();
  same<Same<typeof customer.acceptMarketing, boolean | null | undefined>>();
  same<Same<typeof customer.contacts, Schemas["CustomerContact"][] | null | undefined>>();
  same<Same<typeof customer.billingPerson, Schemas["Person"] | undefined>>();
  same<Same<null extends Schemas["Person"] ? true : false, true>>();
  assert.equal(got.data.data.id, id);
  assert.equal(customer.email, "proof.ts@example.com");
  assert.equal(customer.billingPerson?.name, "Ada Proof");
}

async function change(id: number): Promise<void> {
  const params = { path: { customer_id: id } };
  const updated = await shop.POST("/update_customer/{customer_id}", { params, body: { lang: "de" } });
  if (updated.error) assert.fail(updated.error.title);
  same<Same<typeof updated.data.data.attributes.updateCount, number>>();
  assert.equal(updated.data.data.attributes.updateCount, 1);
}

async function search(id: number): Promise<void> {
  const query = {
    email: "proof.ts@example.com",
    useExactEmailMatch: true,
    sortBy: "REGISTERED_DATE_ASC",
    limit: 5,
  } as const;
  const page = await shop.GET("/customers", { params: { query } });
  if (page.error) assert.fail(page.error.title);
  same<Same<typeof page.data.data.id, string>>();
  same<Same<typeof page.data.data.attributes.items, Schemas["Customer"][]>>();
  const [customer] = page.data.data.attributes.items;
  same<Same<(typeof page.data.data.attributes.items)[0]["id"], number>>();
  assert.deepEqual([customer?.id, page.data.data.attributes.total], [id, 1]);
}

async function fail(id: number): Promise<void> {
  const params = { path: { customer_id: id } };
  const refused = await shop.POST("/update_customer/{customer_id}", { params, body: { email: "no" } });
  if (!refused.error) assert.fail("it was taken");
  same<Same<typeof refused.error, Problem>>();
  same<Same<typeof refused.error.executed, "no" | "unknown" | undefined>>();
  same<Same<typeof refused.error.origin, "request" | "service" | "ecwid">>();
  same<Same<typeof refused.error.errors, Schemas["ProblemError"][] | undefined>>();
  assert.equal(refused.error.executed, "no");
  const places = refused.error.errors?.map((each) => [each.pointer, each.keyword]);
  assert.deepEqual(places, [["/email", "pattern"]]);
  const wide = await shop.GET("/customers", { params: { query: { limit: 101 } } });
  same<Same<typeof wide.error, Problem | undefined>>();
  assert.equal(wide.error?.errors?.[0]?.pointer, "/query/limit");
  const unknown = await stranger.GET("/customer/{customer_id}", { params });
  same<Same<typeof unknown.error, Problem | undefined>>();
  assert.equal(unknown.error?.status, 401);
  const forbidden = await reader.POST("/delete_customer/{customer_id}", { params });
  same<Same<typeof forbidden.error, Problem | undefined>>();
  assert.equal(forbidden.error?.status, 403);
}

async function remove(id: number): Promise<void> {
  const params = { path: { customer_id: id } };
  const deleted = await shop.POST("/delete_customer/{customer_id}", { params });
  if (deleted.error) assert.fail(deleted.error.title);
  same<Same<typeof deleted.data.data.attributes.deleteCount, number>>();
  assert.equal(deleted.data.data.attributes.deleteCount, 1);
  const gone = await shop.GET("/customer/{customer_id}", { params });
  assert.equal(gone.error?.type, "urn:flask-ecwid:problem:customer-not-found");
}

// What the contract does not have does not compile.
export const wrong = [
  // @ts-expect-error an unknown parameter
  () => shop.GET("/customers", { params: { query: { canary: true } } }),
  // @ts-expect-error a parameter of another type
  () => shop.GET("/customers", { params: { query: { limit: "ten" } } }),
  // @ts-expect-error an e-mail is required
  () => shop.POST("/add_customer", { body: {} }),
  // @ts-expect-error the id of a path is an integer
  () => shop.GET("/customer/{customer_id}", { params: { path: { customer_id: "7" } } }),
];

const ada = await add();
await get(ada);
await change(ada);
await search(ada);
await fail(ada);
await remove(ada);
console.log("proven");
