// The demo: what an app's page does to sign a person in, and what it sees on the way. `sign` is the flow; a shorter
// version to copy is in demo.html. Whatever comes from the server is put in as text.

const $ = (id) => document.getElementById(id);
const PROJECT = 'proj_demo';
const LIFETIME = 600_000; // of a session, ms
const POLL = 2000; // ms

let attempt = 0; // the one on screen; what an earlier one still hears of is dropped

// ---------------------------------------------------------------- the flow

async function sign() {
  const mine = (attempt += 1);
  const current = () => mine === attempt;
  // In the click itself: a tab that is opened after an answer has come is a pop-up to be blocked.
  const tab = open('', '_blank');
  reset();
  $('sign-in').disabled = true;
  try {
    const session = await post('/api/v1/generate/public', { project_id: PROJECT });
    if (!current()) return tab?.close();
    if (tab) {
      tab.opener = null;
      tab.location.replace(session.deeplink);
    }
    step('generate');
    showWaiting(session, Boolean(tab));
    const status = await decision(session, current, showOpened);
    if (!current()) return;
    if (status !== 'confirmed') return showOver(status);
    await finish(session, current);
  } catch (error) {
    tab?.close();
    if (current()) showOver('failed', error.message);
  } finally {
    $('sign-in').disabled = false;
  }
}

async function finish(session, current) {
  const confirmed = await verify(session);
  if (!current()) return;
  if (confirmed.status !== 'confirmed') return showOver(confirmed.status);
  showDone(session, confirmed);
  // Until the proof is consumed, which curl may do while this page looks on.
  for (let status = 'confirmed'; status === 'confirmed'; ) {
    await pause(POLL);
    if (!current()) return;
    // Whoever is signed in here stays so when the service is away for a while.
    ({ status } = await verify(session, false).catch(() => ({ status })));
    if (current() && status !== 'confirmed') showConsumed(status);
  }
}

// The status that ends the wait: by the event stream, or by asking every two seconds where that does not work.
function decision(session, current, opened) {
  return new Promise((resolve, reject) => {
    const poll = async () => {
      for (;;) {
        try {
          const { status } = await verify(session);
          if (!current() || status !== 'pending') return resolve(status);
        } catch (error) {
          // A refusal is final, a broken connection is not.
          if (!(error instanceof TypeError)) return reject(error);
        }
        await pause(POLL);
      }
    };
    if (!session.events_url || !window.EventSource) return poll();
    // By this page's own name for the service, which may be known by several.
    const { pathname, search } = new URL(session.events_url, location.href);
    const events = new EventSource(pathname + search);
    const hear = ({ type, data }) => {
      if (!current()) return events.close();
      const { status } = JSON.parse(data);
      note(`event: ${type}`, status, { status });
      if (type === 'opened') opened();
      if (status === 'pending') return;
      events.close();
      resolve(status);
    };
    events.addEventListener('status', hear);
    events.addEventListener('opened', hear);
    events.onerror = () => {
      // A stream that broke is resumed by the browser; one that was refused is not.
      if (events.readyState === EventSource.CLOSED) poll();
    };
  });
}

const verify = (session, noted = true) =>
  post('/api/v1/verify/public', { project_id: PROJECT, session_token: session.session_token }, noted);

async function post(path, body, noted = true) {
  const answer = await fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const json = await answer.json();
  if (noted || json.status !== 'confirmed') note(`POST ${path}`, answer.status, json);
  if (!answer.ok) throw new Error(json.error);
  return json;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ---------------------------------------------------------------- what is on screen

function show(id) {
  for (const panel of ['idle', 'waiting', 'done', 'over']) $(panel).hidden = panel !== id;
}

function reset() {
  clearInterval(ticking);
  $('wire').replaceChildren();
  $('wire-none').hidden = false;
  $('proof').hidden = true;
  for (const done of document.querySelectorAll('#steps li')) done.className = '';
}

function step(name) {
  $(`step-${name}`).className = 'done';
}

let ticking;

function showWaiting(session, tabOpened) {
  const link = new URL(session.deeplink);
  $('open').href = link.href;
  $('open').className = tabOpened ? 'quiet' : 'main';
  $('open').textContent = tabOpened ? 'Open Telegram again' : 'Open Telegram';
  $('qr').src = `/demo/qr?text=${encodeURIComponent(link.href)}`;
  $('typed').hidden = !session.typed_code;
  $('typed-code').textContent = session.typed_code ?? '';
  $('typed-to').textContent = `@${link.pathname.slice(1)}`;
  $('match').hidden = !session.match_code;
  $('match-code').textContent = session.match_code ?? '';
  // The sandbox's clock may be ahead of this machine's, but a session never lasts longer than this.
  const left = session.expires_at - Date.now();
  const end = performance.now() + (left > 0 ? Math.min(left, LIFETIME) : LIFETIME);
  const tick = () => {
    const seconds = Math.max(0, Math.round((end - performance.now()) / 1000));
    $('left').textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  };
  tick();
  ticking = setInterval(tick, 1000);
  fillIn({ SANDBOX: link.origin, DEEPLINK: link.href, SESSION_TOKEN: session.session_token });
  tell('Waiting for you in Telegram');
  show('waiting');
}

function showOpened() {
  step('open');
  tell($('match').hidden ? 'Opened. Now tap ✅ Confirm there' : 'Opened. Now tap the number there');
}

function tell(text) {
  $('waiting-text').textContent = text;
  $('status').textContent = text;
}

function showDone(session, confirmed) {
  clearInterval(ticking);
  for (const name of ['generate', 'open', 'confirm', 'proof']) step(name);
  const name = confirmed.telegram_name;
  $('avatar').textContent = [...name][0].toUpperCase();
  $('hello').textContent = `Hello, ${name}`;
  const rows = [
    ['Telegram id', confirmed.telegram_id],
    ['Username', confirmed.telegram_username && `@${confirmed.telegram_username}`],
    ['Phone', confirmed.telegram_phone],
    ['Confirmed', new Date(confirmed.confirmed_at).toLocaleTimeString()],
  ].filter(([, value]) => value);
  $('person').replaceChildren(...rows.flatMap(([term, value]) => [make('dt', term), make('dd', value)]));
  $('consumed').textContent = 'Not consumed yet: this is what your page knows. Your server has the last word.';
  const [header, claims] = confirmed.proof.split('.').slice(0, 2).map(decoded);
  $('proof-header').textContent = JSON.stringify(header, null, 2);
  $('proof-claims').textContent = JSON.stringify(claims, null, 2);
  $('consume').textContent = [
    `curl ${location.origin}/api/v1/verify \\`,
    `  -H "Authorization: Bearer $SECRET_KEY" \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d '${JSON.stringify({ project_id: PROJECT, proof: confirmed.proof })}'`,
  ].join('\n');
  $('proof').hidden = false;
  show('done');
  finished($('hello'));
}

function showConsumed(status) {
  const used = status === 'used';
  if (used) step('consume');
  $('consumed').textContent = used ? '✓ Consumed by your server. Nobody can use this proof again.' : 'Nobody consumed it in time.';
  $('status').textContent = $('consumed').textContent;
}

const ENDS = {
  cancelled: ['Cancelled', 'You tapped ❌ Cancel in Telegram. Your app learns that, and nothing about you.'],
  expired: ['Too late', 'Nobody confirmed within ten minutes. The link and its QR code are void now.'],
  used: ['Already used', 'The proof of this sign-in was consumed. Each works once.'],
  failed: ['That did not work', ''],
};

function showOver(status, why) {
  clearInterval(ticking);
  const [heading, text] = ENDS[status] ?? ENDS.failed;
  $('over-heading').textContent = heading;
  $('over-text').textContent = why ?? text;
  show('over');
  finished($('over-heading'));
}

// What had the focus is gone, so it goes where the news is; that also reads it out.
function finished(heading) {
  $('status').textContent = '';
  heading.focus({ preventScroll: true });
}

function note(what, outcome, json) {
  $('wire-none').hidden = true;
  const summary = make('summary', make('code', what), make('span', String(outcome)));
  const entry = make('li', make('details', summary, make('pre', JSON.stringify(json, null, 2))));
  entry.className = outcome >= 400 ? 'bad' : '';
  $('wire').append(entry);
  $('wire').scrollTop = $('wire').scrollHeight;
}

function make(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}

function decoded(part) {
  const bytes = Uint8Array.from(atob(part.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

// ---------------------------------------------------------------- the code to copy

const templates = new Map(['secret', 'example', 'curl'].map((id) => [id, $(id).textContent]));

// Puts what is known into the code to copy; the rest keeps its placeholder.
function fillIn(known) {
  const values = { SERVICE: location.origin, SANDBOX: `http://${location.hostname}:5001`, ...known };
  for (const [id, template] of templates) {
    $(id).textContent = template.replace(/\b(SERVICE|SANDBOX|DEEPLINK|SESSION_TOKEN)\b/g, (name) => values[name] ?? name);
  }
}

for (const block of document.querySelectorAll('[data-copy]')) {
  const button = make('button', 'Copy');
  button.type = 'button';
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(block.textContent);
      button.textContent = 'Copied';
    } catch {
      // Browsers give the clipboard to https and localhost only.
      getSelection().selectAllChildren(block);
      button.textContent = 'Selected';
    }
    await pause(POLL);
    button.textContent = 'Copy';
  };
  const frame = make('div');
  frame.className = 'copy';
  block.replaceWith(frame);
  frame.append(block, button);
}

function leave() {
  attempt += 1;
  reset();
  show('idle');
  $('sign-in').focus();
}

$('sign-in').onclick = sign;
$('again').onclick = sign;
$('start-over').onclick = leave;
$('sign-out').onclick = leave;
fillIn({});
