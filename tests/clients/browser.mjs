// A browser in which somebody clicks twice: a form, and a script's fetch; and what it shows and reads of each answer, through
// the gate and directly. Usage: browser.mjs GATE BACKEND. Prints how many intents there were.
import assert from 'node:assert';
import { createRequire } from 'node:module';

const [gate, backend] = process.argv.slice(2);
const { chromium } = createRequire(process.env.ONCEGATE_NODE + '/')('playwright-core');
const browser = await chromium.launch({
  executablePath: process.env.ONCEGATE_CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  const page = await browser.newPage();
  // What a person sees of a page, and what a script of that page reads of other answers.
  const HEADERS = ['content-type', 'content-length', 'etag', 'location', 'set-cookie', 'server', 'cache-control'];
  const kept = (headers) => Object.fromEntries(HEADERS.map((name) => [name, headers[name]]));
  const look = async (base) => {
    const seen = [];
    for (const path of ['/', '/nothing-here', '/_large?bytes=3000']) {
      const answer = await page.goto(base + path);
      seen.push([path, answer.status(), answer.statusText(), kept(answer.headers()), await page.textContent('body')]);
    }
    seen.push(await page.evaluate(async (names) => {
      const read = async (method, path, body) => {
        const answer = await fetch(path, { method, body });
        const text = await answer.text();
        return [method, path, answer.status, answer.type, names.map((name) => answer.headers.get(name)), text.length, text.slice(0, 200)];
      };
      return [
        await read('GET', '/_large?bytes=2000000'), await read('HEAD', '/_large?bytes=2000000'),
        await read('POST', '/_sink', new Uint8Array(300000)), await read('PUT', '/nothing/here', 'x'), await read('OPTIONS', '/nothing/here'),
        await read('PROPFIND', '/nothing/here'),
      ];
    }, HEADERS));
    return seen;
  };
  assert.deepStrictEqual(await look(gate), await look(backend));
  // One click: the same page, up to the row's own number and time.
  const click = async (base) => {
    await page.setContent(`<form method="post" action="${base}/api/notes"><input name="text" value="at ${base}"><button>Save</button></form>`);
    const [answer] = await Promise.all([page.waitForNavigation(), page.click('button')]);
    const fields = Object.entries(JSON.parse(await page.textContent('body'))).map(([name, value]) => [name, typeof value]);
    return [answer.status(), answer.headers()['content-type'], page.url().slice(base.length), fields];
  };
  assert.deepStrictEqual(await click(gate), await click(backend));
  // A form, double-clicked: the browser gives up the first answer and shows the second.
  await page.setContent(`<form method="post" action="${gate}/api/notes"><input name="text" value="once"><button>Save</button></form>`);
  await Promise.all([page.waitForURL(`${gate}/api/notes`), page.dblclick('button')]);
  const shown = await page.textContent('body');
  assert.match(shown, /"id":\s*\d+/, shown);
  // A script of the backend's own origin that sends on each click.
  const answers = await page.evaluate(async () => {
    const body = JSON.stringify({ text: 'by script' });
    const send = () => fetch('/api/notes', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }).then((answer) => answer.text());
    return Promise.all([send(), send(), send()]);
  });
  assert.ok(answers.every((answer) => answer === answers[0]), answers.join());
  console.log(4);
} finally {
  await browser.close();
}
