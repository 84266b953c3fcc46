// A headless Chromium for swagger.rs and pages.rs: `node browser.mjs TASK '{"service":URL,"control":URL,"pictures":FOLDER}'`.
// Does one task as a person would and prints what was seen, as a line of JSON; judging it is theirs.

import http from 'node:http';
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
    const form = dialogue.locator('form').filter({ hasText: 'operator' });
    await form.locator('input').first().fill(token);
    await form.locator('button.authorize').click();
    await page.screenshot({ path: `${pictures}/authorize.png` });
    await form.locator('button.btn-done').click();
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

  // What a hostile page on another port of this machine can do to the service. It has no policy that would stop it.
  async attack(page, { service }) {
    const hostile = http.createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<!doctype html>'));
    await new Promise((listening) => hostile.listen(0, '127.0.0.1', listening));
    places.hostile = `http://localhost:${hostile.address().port}`;
    await page.goto(places.hostile);
    hostile.unref();
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
    return attempts;
  },

  // The demo page and the virtual phone in its second tab, from the click to the proof.
  async demo(page, { service, control, pictures }) {
    const look = looker(pictures);
    await page.goto(`${service}/demo`);
    await look(page, 'demo');
    const phone = await begins(page);
    await phone.getByRole('radio', { name: 'Alice' }).check();
    await look(page, 'demo-waiting');
    await look(phone, 'phone-link');
    const beforeTheClick = await messages(control, PHONE);
    await phone.getByRole('button', { name: 'Open as Alice' }).click();
    const confirm = phone.getByRole('button', { name: '✅ Confirm' });
    await confirm.waitFor();
    const prompt = await phone.locator('#messages .in .text').last().innerText();
    await page.locator('#step-open.done').waitFor();
    await look(page, 'demo-opened');
    await look(phone, 'phone-prompt');
    await confirm.click();
    const hello = page.getByRole('heading', { name: 'Hello, ' });
    await hello.waitFor();
    await phone.getByText('edited').waitFor();
    await page.locator('#code summary').first().click();
    await look(page, 'demo-confirmed');
    await look(phone, 'phone-confirmed');
    // The server's part, as the page tells it, while the page looks on.
    const claims = JSON.parse(await page.locator('#proof-claims').textContent());
    const { token } = await post(service, '/api/v1/dev/login', DEVELOPER);
    const { webhook_secret: secret } = await get(service, '/api/v1/dev/projects/proj_demo/webhook-secret', token);
    const [, body] = /-d '(.*)'/.exec(await page.locator('#consume').textContent());
    const server = await post(service, '/api/v1/verify', JSON.parse(body), secret);
    await page.locator('#consumed', { hasText: 'Consumed by your server' }).waitFor();
    const seen = {
      server: server.status,
      beforeTheClick,
      prompt,
      hello: await hello.innerText(),
      steps: await page.locator('#steps .done').evaluateAll((steps) => steps.map((step) => step.id.replace('step-', ''))),
      header: JSON.parse(await page.locator('#proof-header').textContent()),
      claims,
      phone: phone.url(),
      buttonsLeft: await phone.locator('#messages .buttons button').count(),
    };
    await phone.reload();
    await phone.getByText('edited').waitFor();
    const starts = (await messages(control, PHONE)).filter(({ out, text }) => out && text.startsWith('/start'));
    return { ...seen, startsAfterReload: starts.length, ...look.findings };
  },

  // Cancelled by one person, and confirmed at the second try; nothing done at the third.
  async demoCancelled(page, { service, control, pictures }) {
    const look = looker(pictures);
    await page.goto(`${service}/demo`);
    const phone = await begins(page);
    await phone.getByRole('radio', { name: 'Bob' }).check();
    await phone.getByRole('button', { name: 'Open as Bob' }).click();
    await phone.getByRole('button', { name: '❌ Cancel' }).click();
    const again = page.getByRole('button', { name: 'Try again' });
    await again.waitFor();
    await look(page, 'demo-cancelled');
    const over = await page.locator('#over-heading').innerText();
    const second = await begins(page, again);
    const remembered = second.getByRole('button', { name: 'Open as' });
    await remembered.waitFor();
    const seen = { over, remembered: await remembered.innerText() };
    await remembered.click();
    await second.getByRole('button', { name: '✅ Confirm' }).click();
    const hello = page.getByRole('heading', { name: 'Hello, ' });
    await hello.waitFor();
    seen.hello = await hello.innerText();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await begins(page);
    await post(control, '/api/clock', { advance_seconds: 601 });
    await again.waitFor();
    await look(page, 'demo-expired');
    return { ...seen, late: await page.locator('#over-heading').innerText(), ...look.findings };
  },

  // All kinds of buttons: an app that asks for the number on its page, for the telephone's number, and for a return.
  async buttons(page, { service, control, pictures }) {
    const look = looker(pictures);
    const { token } = await post(service, '/api/v1/dev/login', DEVELOPER);
    const shop = { name: 'Shop', req_phone: true, match_code: true, return_url: 'https://shop.example/back' };
    const { project_id } = await post(service, '/api/v1/dev/projects', shop, token);
    const { deeplink, match_code: number, session_token } = await post(service, '/api/v1/generate/public', { project_id });
    // The link is pasted, as from another device.
    await page.goto(`${control}/#${PHONE}`);
    await page.getByRole('button', { name: 'Open a link' }).click();
    const field = page.getByLabel('Paste the link');
    await field.fill('https://example.com/not-a-deep-link');
    const open = page.getByRole('dialog').getByRole('button', { name: 'Open' });
    await open.click();
    const refused = page.locator('#paste-form .problem:not(:empty)');
    await refused.waitFor();
    const refusal = await refused.innerText();
    await field.fill(deeplink);
    await open.click();
    const right = page.getByRole('button', { name: number, exact: true });
    await right.waitFor();
    const numbers = await page.locator('#messages .buttons button', { hasText: /^\d\d$/ }).count();
    await look(page, 'phone-numbers');
    await right.click();
    const toast = page.locator('#toast.shown');
    await toast.waitFor();
    const told = await toast.innerText();
    const share = page.locator('#keyboard').getByRole('button', { name: 'Share my phone number' });
    await share.waitFor();
    await look(page, 'phone-keyboard');
    await share.click();
    const back = page.getByRole('button', { name: 'Back to Shop' });
    await back.waitFor();
    await share.waitFor({ state: 'hidden' });
    await look(page, 'phone-back');
    const contact = await page.locator('#messages .out', { hasText: PHONE }).count();
    await back.click();
    const away = page.locator('#alert-link');
    await away.waitFor();
    const asked = await page.locator('#alert-text').innerText();
    const link = { href: await away.getAttribute('href'), rel: await away.getAttribute('rel') };
    await page.getByRole('alertdialog').getByRole('button', { name: 'Close' }).click();

    await page.getByRole('button', { name: 'Block' }).click();
    const unblock = page.locator('#big', { hasText: 'Unblock' });
    await unblock.waitFor();
    const blocked = (await get(control, '/api/accounts')).map((person) => person.blocked.length);
    await unblock.click();
    await page.getByLabel('Message', { exact: true }).waitFor();
    const session = await post(service, '/api/v1/verify/public', { project_id, session_token });
    return { refusal, numbers, told, contact, asked, link, blocked, phone: session.telegram_phone, ...look.findings };
  },

  // The virtual phone by itself: a new person writes to Alice, who answers; a login code; a link to nobody.
  async phones(page, { service, control, pictures }) {
    const look = looker(pictures);
    const sent = '<img src=x onerror=alert(1)><a href="//evil.example">https://evil.example</a> & שלום 👋';
    const dora = await page.context().newPage();
    await dora.goto(`${control}/`);
    await dora.locator('#new-person > summary').click();
    await dora.getByLabel('First name').fill('Dora');
    await look(dora, 'phone-new-person');
    await dora.getByRole('button', { name: 'Make this person' }).click();
    await dora.getByRole('button', { name: 'New chat' }).click();
    await dora.getByRole('dialog').getByRole('link', { name: 'Alice' }).click();
    await page.goto(`${control}/`);
    const list = page.locator('#people-list strong');
    await list.getByText('Dora').waitFor();
    const people = await list.allInnerTexts();
    await look(page, 'phone-people');
    await page.getByRole('link', { name: 'Alice' }).click();
    await page.getByText('No messages yet').waitFor();

    await dora.getByLabel('Message', { exact: true }).fill(sent);
    await dora.keyboard.press('Enter');
    const chat = page.locator('#chats').getByRole('link', { name: 'Dora' });
    await chat.waitFor();
    const title = await page.title();
    await look(page, 'phone-chats');
    await chat.click();
    const shown = page.locator('#messages .in .text');
    const text = await shown.innerText();
    const madeOfIt = await shown.evaluate((element) => [...element.querySelectorAll('*')].map((child) => child.outerHTML));
    await page.getByRole('button', { name: 'Reply to this message' }).click();
    await page.getByLabel('Message', { exact: true }).fill('I see it');
    await page.keyboard.press('Enter');
    const answer = dora.locator('#messages .in');
    await answer.waitFor();
    await look(dora, 'phone-chat');
    const seen = {
      people, title, sent, text, madeOfIt,
      quoted: await answer.locator('blockquote span').textContent(),
      answer: await answer.locator('.text').innerText(),
    };

    // Alice is not signed in anywhere, so her login code comes by SMS.
    await fetch(`${service}/sign_in`, { method: 'POST', headers: headers(), body: JSON.stringify({ phone: PHONE }) });
    await page.goto(`${control}/#${PHONE}`);
    const code = page.locator('#sms button.code');
    await code.waitFor();
    await look(page, 'phone-code');
    seen.code = await code.innerText();

    await page.goto(`${control}/nobody_at_all?start=x`);
    const handle = page.locator('#link-handle');
    await handle.waitFor();
    seen.nobody = await handle.innerText();
    return { ...seen, ...look.findings };
  },
};

// Begins a sign-in on the demo page: the tab that opens by itself, once it asks who opens the link.
async function begins(page, button = page.getByRole('button', { name: 'Sign in with Telegram' })) {
  const [phone] = await Promise.all([page.context().waitForEvent('page'), button.click()]);
  await phone.getByRole('button', { name: 'Open as' }).waitFor();
  await page.locator('#waiting').waitFor();
  return phone;
}

const DEVELOPER = { email: 'demo@example.com', password: 'demo-password' };
const headers = (token) => ({ 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) });
const get = async (base, path, token) => (await fetch(base + path, { headers: headers(token) })).json();
const post = async (base, path, body, token) =>
  (await fetch(base + path, { method: 'POST', headers: headers(token), body: JSON.stringify(body) })).json();
const messages = (control, phone) => get(control, `/api/accounts/${phone}/messages`);

// Takes pictures of a page as a desktop and as a phone show it, and finds what is too wide or has no name.
function looker(pictures) {
  const findings = { tooWide: [], nameless: [] };
  const look = async (page, name) => {
    const before = page.viewportSize();
    for (const [kind, size] of [['wide', before], ['narrow', { width: 360, height: 740 }]]) {
      await page.setViewportSize(size);
      await page.screenshot({ path: `${pictures}/${name}-${kind}.png`, fullPage: true });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (over > 0) findings.tooWide.push(`${name}: ${over} px at ${size.width}`);
    }
    await page.setViewportSize(before);
    findings.nameless.push(...(await page.evaluate(() =>
      [...document.querySelectorAll('button, a, input, textarea, select, img')]
        .filter((control) => control.checkVisibility())
        .filter((control) => !(control.ariaLabel || control.alt || control.title || control.textContent.trim() || control.labels?.length))
        .map((control) => control.outerHTML))));
  };
  look.findings = findings;
  return look;
}

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
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' });
  context.setDefaultTimeout(20_000);
  // The documents have to work on a machine without internet.
  const elsewhere = [];
  const host = (url) => new URL(url).host.replace('127.0.0.1', 'localhost');
  const ours = () => [places.service, places.control, places.hostile ?? places.service].map(host);
  context.on('request', (request) => {
    if (request.url().startsWith('http') && !ours().includes(host(request.url()))) elsewhere.push(request.url());
  });
  const broken = [];
  context.on('weberror', (error) => broken.push(String(error.error())));
  context.on('console', (message) => {
    if (message.text().includes('Content Security Policy')) broken.push(message.text());
  });
  const page = await context.newPage();
  const seen = await tasks[task](page, places);
  console.log(JSON.stringify({ ...seen, elsewhere, broken }));
} finally {
  await browser.close();
}
