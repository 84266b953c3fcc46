// A headless Chromium for swagger.rs and pages.rs: `node browser.mjs TASK '{"service":URL,"control":URL,"pictures":FOLDER}'`.
// Does one task as a person would and prints what was seen, as a line of JSON; judging it is theirs.

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
    const seen = {
      beforeTheClick,
      prompt,
      hello: await hello.innerText(),
      steps: await page.locator('#steps .done').evaluateAll((steps) => steps.map((step) => step.id.replace('step-', ''))),
      header: JSON.parse(await page.locator('#proof-header').textContent()),
      claims: JSON.parse(await page.locator('#proof-claims').textContent()),
      phone: phone.url(),
      buttonsLeft: await phone.locator('#messages .buttons button').count(),
    };
    await phone.reload();
    await phone.getByText('edited').waitFor();
    const starts = (await messages(control, PHONE)).filter(({ out, text }) => out && text.startsWith('/start'));
    return { ...seen, startsAfterReload: starts.length, ...look.findings };
  },

  // Cancelled by one person, and confirmed at the second try.
  async demoCancelled(page, { service, pictures }) {
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
    return { ...seen, hello: await hello.innerText(), ...look.findings };
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
    const json = { 'content-type': 'application/json' };
    const signIn = (body) => fetch(`${service}/sign_in`, { method: 'POST', headers: json, body: JSON.stringify(body) });
    await signIn({ phone: PHONE });
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

const messages = async (control, phone) => (await fetch(`${control}/api/accounts/${phone}/messages`)).json();

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
  const ours = [places.service, places.control].map(host);
  context.on('request', (request) => {
    if (request.url().startsWith('http') && !ours.includes(host(request.url()))) elsewhere.push(request.url());
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
