// A headless Chromium for swagger.rs: `node browser.mjs TASK '{"service":URL,"control":URL,"pictures":FOLDER}'`.
// Does one task as a person would and prints what was seen, as a line of JSON; judging it is swagger.rs's part.

import process from 'node:process';
import { chromium } from 'playwright-core';

const PHONE = '+15550100001';

const tasks = {
  // The whole sign-in in the service's Swagger UI.
  async signIn(page, { service, control, pictures }) {
    await page.goto(`${service}/docs`);
    const post = await tryOut(page, '.opblock-post');
    const codeSent = await execute(post, { phone: PHONE });
    await page.screenshot({ path: `${pictures}/code-sent.png`, fullPage: true });
    const { code } = await (await fetch(`${control}/api/accounts/${PHONE}/code?wait=5`)).json();
    const signedIn = await execute(post, { phone: PHONE, password: code });
    await page.screenshot({ path: `${pictures}/signed-in.png`, fullPage: true });
    const view = await execute(await tryOut(page, '.opblock-get'));
    await page.screenshot({ path: `${pictures}/state.png`, fullPage: true });
    return { codeSent, signedIn, view };
  },

  // With a token configured: refused, then let in through the Authorize button.
  async authorise(page, { service, token, pictures }) {
    await page.goto(`${service}/docs`);
    const get = await tryOut(page, '.opblock-get');
    const before = await execute(get);
    await page.locator('.scheme-container button.authorize').click();
    const dialogue = page.locator('.dialog-ux .modal-ux');
    await dialogue.locator('input').first().fill(token);
    await dialogue.locator('button.authorize').click();
    await page.screenshot({ path: `${pictures}/authorize.png` });
    await dialogue.locator('button.btn-done').click();
    return { before, after: await execute(get) };
  },

  // The sandbox's own Swagger UI: what it lists, and a call through it.
  async sandboxDocs(page, { control, pictures }) {
    await page.goto(`${control}/docs`);
    await page.locator('.opblock').first().waitFor();
    const paths = await page.locator('.opblock-summary-path').allInnerTexts();
    const people = await execute(await tryOut(page, '.opblock-get', '/api/accounts'));
    await page.screenshot({ path: `${pictures}/sandbox.png`, fullPage: true });
    return { title: await page.locator('.info .title').innerText(), paths, people };
  },

  // What a hostile page on another port of this machine can do to the service: here the sandbox's page plays it.
  async attack(page, { service, control }) {
    await page.goto(`${control}/docs`);
    // What the service says is hidden from the page, but not from us.
    const answers = [];
    page.on('response', (answer) => {
      if (answer.url().startsWith(service)) answers.push(`${answer.request().method()} ${answer.status()}`);
    });
    const attempts = await page.evaluate(
      async ([url, body]) => {
        const attempt = async (options) => {
          try {
            const answer = await fetch(url, { method: 'POST', body, ...options });
            return answer.type === 'opaque' ? 'sent, answer hidden' : `answered ${answer.status}`;
          } catch {
            return 'blocked';
          }
        };
        return {
          // What needs no preflight leaves the browser, so the service has to refuse it.
          plain: await attempt({ mode: 'no-cors', headers: { 'content-type': 'text/plain' } }),
          form: await attempt({ mode: 'no-cors', body: new URLSearchParams({ phone: '+15550100001' }) }),
          json: await attempt({ headers: { 'content-type': 'application/json' } }),
          read: await attempt({ method: 'GET', body: undefined }),
        };
      },
      [`${service}/sign_in`, JSON.stringify({ phone: PHONE })],
    );
    return { ...attempts, answers };
  },
};

// Opens an operation and presses "Try it out".
async function tryOut(page, kind, path = '/sign_in') {
  const exactly = new RegExp(`^${path.replaceAll('/', '/\u200b?')}$`);
  const operation = page.locator(kind).filter({ has: page.locator('.opblock-summary-path', { hasText: exactly }) });
  await operation.locator('.opblock-summary-control').click();
  await operation.locator('.try-out__btn').click();
  return operation;
}

// Presses "Execute" and reads what the page shows of the answer.
async function execute(operation, body) {
  if (body) {
    await operation.locator('textarea.body-param__text').fill(JSON.stringify(body));
  }
  // An earlier answer goes away first, so that what is read is this one's.
  const clear = operation.locator('button.btn-clear');
  if (await clear.isVisible()) {
    await clear.click();
  }
  await operation.locator('button.execute').click();
  const row = operation.locator('.live-responses-table tbody tr.response');
  await row.waitFor();
  const text = row.locator('.highlight-code code').first();
  return {
    status: (await row.locator('.response-col_status').innerText()).split('\n')[0].trim(),
    body: (await text.count()) ? await text.innerText() : '',
  };
}

const [task, told] = process.argv.slice(2);
const places = JSON.parse(told);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  // Root has no Chromium sandbox; the others keep the browser from calling home.
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  page.setDefaultTimeout(20_000);
  // The documents have to work on a machine without internet.
  const elsewhere = [];
  const ours = [places.service, places.control].map((url) => new URL(url).host);
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith('http') && !ours.includes(url.host)) elsewhere.push(request.url());
  });
  const broken = [];
  page.on('pageerror', (error) => broken.push(String(error)));
  const seen = await tasks[task](page, places);
  console.log(JSON.stringify({ ...seen, elsewhere, broken }));
} finally {
  await browser.close();
}
