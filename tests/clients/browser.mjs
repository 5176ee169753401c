// A browser in which somebody clicks twice: a form, and a script's fetch. Usage: browser.mjs GATE
import assert from 'node:assert';
import { createRequire } from 'node:module';

const gate = process.argv[2];
const { chromium } = createRequire(process.env.ONCEGATE_NODE + '/')('playwright-core');
const browser = await chromium.launch({
  executablePath: process.env.ONCEGATE_CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  const page = await browser.newPage();
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
  console.log(2);
} finally {
  await browser.close();
}
