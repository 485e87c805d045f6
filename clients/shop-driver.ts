// Calls docs/clients/ecwid-shop.ts as a command, and prints a result or the class of an error.
// Runs beside what openapi-typescript has generated: tests/helpers/shop_scenarios.py.
import { type Customer, type Problem, Shop, ShopError } from "./ecwid-shop.js";

// Does not compile unless the first is no `any` and each may stand for the other.
type IsAny<T> = 0 extends 1 & T ? true : false;
type Same<A, B> =
  IsAny<A> extends true ? false : [A] extends [B] ? ([B] extends [A] ? true : false) : false;
function same<_Answer extends true>(): void {}

const { SHOP_URL = "", SHOP_KEY = "", PATIENCE_S = "" } = process.env;
const shop = new Shop(SHOP_URL, SHOP_KEY, Number(PATIENCE_S) * 1000);

async function run(command: string, argument: string): Promise<void> {
  if (command === "add") {
    const id = await shop.add({ email: argument });
    same<Same<typeof id, number>>();
    console.log(String(id));
  } else if (command === "get") {
    const found = await shop.get(Number(argument));
    same<Same<typeof found.email, string | null | undefined>>();
    console.log(found.email);
  } else if (command === "update") {
    await shop.update(Number(argument), { lang: "de" });
  } else if (command === "delete") {
    await shop.delete(Number(argument));
  } else if (command === "list") {
    const toDelete = Number(argument); // so many of the first customers, after the first page
    const ids: number[] = [];
    for await (const customer of shop.customers()) {
      same<Same<typeof customer, Customer>>();
      ids.push(customer.id);
      if (ids.length === 100) for (const each of ids.slice(0, toDelete)) await shop.delete(each);
    }
    console.log(ids.join(" "));
  }
}

const [command = "", argument = ""] = process.argv.slice(2);
try {
  await run(command, argument);
} catch (error) {
  if (!(error instanceof ShopError)) throw error;
  same<Same<typeof error.problem, Problem | undefined>>();
  console.log(error.constructor.name, error.executed, String(error.attempts));
}
