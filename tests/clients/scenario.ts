// What every generated client must be able to do with the live service.
import { strict as assert } from "node:assert";

export interface Problem {
  type: string;
  status: number;
  errors?: { pointer: string; detail: string }[];
}

export interface User {
  id: number;
  full_name: string;
  email: string | null;
  age: number | null;
}

export interface Answer<Data> {
  status: number;
  etag: string | null;
  data?: Data;
  problem?: Problem;
}

export interface Client {
  create(person: { full_name: string; email?: string | null; age?: number | null }, key?: string): Promise<Answer<User>>;
  read(id: number, ifNoneMatch?: string): Promise<Answer<User>>;
  change(id: number, changes: { age: number | null }, ifMatch: string): Promise<Answer<User>>;
  list(name: string, limit: number): Promise<Answer<{ items: User[]; next: string | null }>>;
  importLines?(lines: string): Promise<Answer<{ created: number }>>;
  exportLines(): Promise<Answer<string>>;
  remove(id: number): Promise<Answer<unknown>>;
}

export const [address, token] = [process.env.ADDRESS ?? "", process.env.TOKEN ?? ""];

export async function run(client: Client): Promise<void> {
  const created = await client.create({ full_name: "Ada Lovelace", email: "ada@example.org", age: 36 });
  assert.equal(created.status, 201);
  assert.ok(created.data && created.etag);
  const { id } = created.data;
  assert.equal((await client.read(id)).data?.full_name, "Ada Lovelace");
  assert.equal((await client.read(id, created.etag)).status, 304);

  const stale = await client.change(id, { age: 37 }, '"stale"');
  assert.equal(stale.status, 412);
  assert.equal(stale.problem?.type, "urn:problem:precondition-failed");
  const changed = await client.change(id, { age: 37 }, created.etag);
  assert.equal(changed.status, 200);
  assert.equal(changed.data?.age, 37);

  const invalid = await client.create({ full_name: "Ada", age: 151 });
  assert.equal(invalid.status, 422);
  assert.deepEqual(invalid.problem?.errors?.map((flaw) => flaw.pointer), ["/age"]);

  const [once, again] = [await client.create({ full_name: "Bob" }, "a-key"), await client.create({ full_name: "Bob" }, "a-key")];
  assert.equal(once.data?.id, again.data?.id);

  if (client.importLines) {
    const imported = await client.importLines('{"full_name": "Zoë"}\n{"full_name": "李"}\n');
    assert.equal(imported.status, 200);
    assert.equal(imported.data?.created, 2);
  } else {
    await client.create({ full_name: "Zoë" });
    await client.create({ full_name: "李" });
  }
  const page = await client.list("zo", 10);
  assert.deepEqual(page.data?.items.map((user) => user.full_name), ["Zoë"]);
  assert.equal(page.data?.next, null);
  const lines = (await client.exportLines()).data?.trim().split("\n");
  assert.equal(lines?.length, 4);

  assert.equal((await client.remove(id)).status, 204);
  assert.equal((await client.read(id)).status, 404);
  console.log("done");
}
