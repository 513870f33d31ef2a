// @hey-api/openapi-ts, which writes its own client.
import { client } from "./generated/hey_api/client.gen";
import * as users from "./generated/hey_api/sdk.gen";
import { type Answer, address, type Problem, run, token } from "./scenario";

client.setConfig({ baseUrl: address, auth: token });

function answer<Data>(result: { data?: Data; error?: Problem; response?: Response }): Answer<Data> {
  const { data, error: problem, response } = result;
  if (response === undefined) throw new Error("no response", { cause: problem });
  return { status: response.status, etag: response.headers.get("etag"), data, problem };
}

void run({
  create: async (body, key) => answer(await users.createUser({ body, headers: { "Idempotency-Key": key } })),
  read: async (user_id, etag) =>
    answer(await users.getUser({ path: { user_id }, headers: { "If-None-Match": etag } })),
  change: async (user_id, body, etag) =>
    answer(await users.changeUser({ path: { user_id }, body, headers: { "If-Match": etag } })),
  list: async (name, limit) => answer(await users.listUsers({ query: { name, limit } })),
  importLines: async (lines) => answer(await users.importUsers({ body: new Blob([lines]) })),
  exportLines: async () => {
    const exported = answer(await users.exportUsers({ parseAs: "blob" }));
    return { ...exported, data: await exported.data?.text() };
  },
  remove: async (user_id) => answer(await users.deleteUser({ path: { user_id } })),
});
