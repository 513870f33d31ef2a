// openapi-typescript and its client, openapi-fetch.
import createClient from "openapi-fetch";
import type { paths } from "./generated/openapi_typescript";
import { type Answer, address, type Problem, run, token } from "./scenario";

const client = createClient<paths>({ baseUrl: address, headers: { Authorization: `Bearer ${token}` } });

function answer<Data>(result: { data?: Data; error?: Problem; response: Response }): Answer<Data> {
  const { data, error: problem, response } = result;
  return { status: response.status, etag: response.headers.get("etag"), data, problem };
}

const one = (user_id: number) => ({ user_id });

void run({
  create: async (body, key) =>
    answer(await client.POST("/users", { body, params: { header: { "Idempotency-Key": key } } })),
  read: async (id, etag) =>
    answer(await client.GET("/users/{user_id}", { params: { path: one(id), header: { "If-None-Match": etag } } })),
  change: async (id, body, etag) =>
    answer(
      await client.PATCH("/users/{user_id}", {
        body,
        params: { path: one(id), header: { "If-Match": etag } },
        headers: { "Content-Type": "application/merge-patch+json" },
      }),
    ),
  list: async (name, limit) => answer(await client.GET("/users", { params: { query: { name, limit } } })),
  importLines: async (body) => {
    const imported = answer(
      await client.POST("/users/import", {
        body,
        bodySerializer: (lines) => lines,
        headers: { "Content-Type": "application/x-ndjson" },
      }),
    );
    if (typeof imported.data === "string") throw new Error("a report as NDJSON");
    return { ...imported, data: imported.data };
  },
  exportLines: async () => answer(await client.GET("/users/export", { parseAs: "text" })),
  remove: async (id) => answer(await client.DELETE("/users/{user_id}", { params: { path: one(id) } })),
});
