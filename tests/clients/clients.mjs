// Node's clients through the gate and directly: the same answers, and one effect an intent.
// Usage: clients.mjs GATE BACKEND LIBRARY   (undici or axios). Prints how many intents there were.
import assert from 'node:assert';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';

const [gate, backend, library] = process.argv.slice(2);
const require = createRequire(process.env.ONCEGATE_NODE + '/');

const send = {
  undici() {
    const { request, Agent, RetryAgent } = require('undici');
    const retrying = new RetryAgent(new Agent({ headersTimeout: 400 }), {
      maxRetries: 5, minTimeout: 100, methods: ['POST'], statusCodes: [], errorCodes: ['UND_ERR_HEADERS_TIMEOUT', 'ECONNRESET', 'UND_ERR_SOCKET'],
    });
    return async (base, method, path, { headers, body, retry } = {}) => {
      const answer = await request(base + path, { method, headers, body, dispatcher: retry ? retrying : undefined });
      return { status: answer.statusCode, headers: answer.headers, body: Buffer.from(await answer.body.arrayBuffer()) };
    };
  },
  axios() {
    const axios = require('axios');
    const axiosRetry = require('axios-retry').default;
    return async (base, method, path, { headers, body, retry } = {}) => {
      const client = axios.create({ timeout: retry ? 400 : 10000, validateStatus: () => true, responseType: 'arraybuffer', maxRedirects: 0 });
      if (retry) axiosRetry(client, { retries: 5, shouldResetTimeout: true, retryCondition: (error) => error.code === 'ECONNABORTED' || error.code === 'ETIMEDOUT' });
      const answer = await client.request({ url: base + path, method, headers, data: body });
      return { status: answer.status, headers: answer.headers, body: Buffer.from(answer.data) };
    };
  },
}[library]();

async function same(method, path, options) {
  const [direct, through] = [await send(backend, method, path, options), await send(gate, method, path, options)];
  assert.strictEqual(through.status, direct.status, `${method} ${path}`);
  assert.ok(through.body.equals(direct.body), `${method} ${path}`);
  for (const name of ['content-type', 'content-length', 'etag', 'location']) {
    assert.strictEqual(through.headers[name], direct.headers[name], `${method} ${path}: ${name}`);
  }
}

await same('GET', '/_large?bytes=3000000');
await same('HEAD', '/_large?bytes=3000000');
await same('GET', '/nothing-here');
await same('POST', '/_sink', { body: Buffer.alloc(1000000, 'y'), headers: { 'content-type': 'application/octet-stream' } });

const json = () => ({ 'idempotency-key': randomUUID(), 'content-type': 'application/json' });
let headers = json();
const clicks = await Promise.all([1, 2].map(() => send(gate, 'POST', '/api/notes', { headers, body: '{"a":1}' })));
assert.strictEqual(clicks[0].status, 201);
assert.ok(clicks[0].body.equals(clicks[1].body));
headers = { ...json(), 'x-demo-fault': 'delay-after=1900,once', 'x-demo-operation': randomUUID() };
const late = await send(gate, 'POST', '/api/notes', { headers, body: '{"a":2}', retry: true });
assert.strictEqual(late.status, 201);
assert.strictEqual(late.headers['idempotent-replayed'], 'true');
headers = { ...json(), 'x-demo-fault': 'reset-after' };
const first = await send(gate, 'POST', '/api/notes', { headers, body: '{"a":3}' });
const again = await send(gate, 'POST', '/api/notes', { headers, body: '{"a":3}' });
assert.deepStrictEqual([first.status, again.status], [502, 409]);
console.log(3);
