// swagger-typescript-api, which writes a class, and throws what is not 2xx.
// It can't import: it sends bodies of five content types, and neither NDJSON nor CSV.
import { Api, type HttpResponse } from "./generated/swagger_typescript_api/Api";
import { type Answer, address, type Problem, run, token } from "./scenario";

const { users } = new Api({
  baseUrl: address,
  securityWorker: () => ({ headers: { Authorization: `Bearer ${token}` } }),
});

// void is the error of 304, which has no body
async function answer<Data>(request: Promise<HttpResponse<Data, Problem | void>>): Promise<Answer<Data>> {
  const response = await request.catch((refusal: HttpResponse<Data, Problem> | Error) => {
    if (refusal instanceof Error) throw refusal;
    return refusal;
  });
  const { status, headers, data, error } = response;
  return { status, etag: headers.get("etag"), data, problem: error ?? undefined };
}

const sent = (name: string, value?: string) => ({ headers: value === undefined ? {} : { [name]: value } });

void run({
  create: (person, key) => answer(users.createUser(person, sent("Idempotency-Key", key))),
  read: (id, etag) => answer(users.getUser(id, sent("If-None-Match", etag))),
  change: (id, changes, etag) => answer(users.changeUser(id, changes, sent("If-Match", etag))),
  list: (name, limit) => answer(users.listUsers({ name, limit })),
  exportLines: async () => {
    const exported = await answer(users.exportUsers({}, { format: "blob" }));
    return { ...exported, data: await exported.data?.text() };
  },
  remove: (id) => answer(users.deleteUser(id)),
});
