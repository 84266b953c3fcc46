// The virtual phone: one person's Telegram, played through the control API of this server.
// Whatever a message says is text here: elements are made by `make` and filled with text nodes, never parsed.

const $ = (id) => document.getElementById(id);
const SERVICE = 777000;
const PAGE = 200; // messages shown of a chat before "earlier"
const OVERLAP = 300; // messages asked for again after a change, because old ones may have been edited

const state = {
  version: null,
  people: [],
  bots: [],
  me: null, // a person of `people`
  messages: new Map(), // mine, by id
  loaded: false, // whether they are known
  chat: null, // id of the open chat
  shown: PAGE,
  replyTo: null, // id of the message that is replied to
  drafts: new Map(),
  busy: new Set(), // buttons being pressed: "message/text"
};

// ---------------------------------------------------------------- the control API

class Refused extends Error {}

// The API's texts begin small, to stand after a colon.
const worded = (error) =>
  error instanceof Refused ? error.message.replace(/^./u, (first) => first.toUpperCase()) : 'The sandbox does not answer.';

async function call(method, path, body, signal) {
  const options = { method, signal, headers: {} };
  if (body) {
    options.headers['content-type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const json = await answer.json();
  if (!answer.ok) throw new Refused(json.error ?? `status ${answer.status}`);
  return json;
}

const mine = (what) => `api/accounts/${encodeURIComponent(state.me.phone)}/${what}`;

// ---------------------------------------------------------------- staying current

let waiting = new AbortController();

// Waits for changes for as long as the page lives. A page in the background asks now and then instead of holding one
// of the few connections that a browser has for all its tabs.
async function follow() {
  for (;;) {
    waiting = new AbortController();
    try {
      const wait = document.hidden || state.version === null ? 0 : 25;
      const { version } = await call('GET', `api/changes?after=${state.version ?? 0}&wait=${wait}`, undefined, waiting.signal);
      $('offline').hidden = true;
      if (version !== state.version) {
        state.version = version;
        await refresh();
      }
      if (document.hidden) await pause(3000);
    } catch (error) {
      if (error.name === 'AbortError') continue;
      state.version = null;
      $('offline').hidden = false;
      await pause(1500);
    }
  }
}

function pause(ms) {
  const { signal } = waiting;
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
    signal.addEventListener('abort', resolve);
  });
}

document.addEventListener('visibilitychange', () => waiting.abort());

async function refresh() {
  [state.people, state.bots] = await Promise.all([call('GET', 'api/accounts'), call('GET', 'api/bots')]);
  if (state.me) {
    const same = state.people.find((person) => person.id === state.me.id);
    if (same) {
      state.me = same;
      await fetchMessages();
    }
  }
  route();
}

async function fetchMessages() {
  const { messages } = state;
  const newest = Math.max(0, ...messages.keys());
  const after = Math.max(0, newest - OVERLAP);
  const current = await call('GET', `${mine('messages')}?after=${after}`);
  if (messages !== state.messages) return false;
  for (const id of messages.keys()) if (id > after) messages.delete(id); // some may be gone
  for (const message of current) messages.set(message.id, message);
  state.loaded = true;
  return true;
}

// ---------------------------------------------------------------- where we are

// `#+15550100001` is a person's list of chats, `#+15550100001/777000` a chat; `/username?start=…` a link of an app.
function place() {
  const [, phone, chat] = /^#(\+\d{7,15})(?:\/(\d+))?$/.exec(decodeURIComponent(location.hash)) ?? [];
  const isLink = /^\/\w+$/.test(location.pathname);
  return { phone, chat: chat ? Number(chat) : null, isLink };
}

const at = (person, chat) => `#${person.phone}${chat ? `/${chat}` : ''}`;

function route() {
  if (state.version === null) return;
  const { phone, chat, isLink } = place();
  const me = isLink ? null : (state.people.find((person) => person.phone === phone) ?? null);
  if (me?.id !== state.me?.id) {
    state.me = me;
    state.messages = new Map();
    state.loaded = false;
    if (me) {
      remember(me);
      fetchMessages().then((current) => current && route(), problem);
    }
  }
  if (chat !== state.chat) {
    if (state.chat) state.drafts.set(state.chat, $('text').value);
    Object.assign(state, { chat, shown: PAGE, replyTo: null });
    $('text').value = state.drafts.get(chat) ?? '';
    grow();
    if (chat && matchMedia('(pointer: fine)').matches) setTimeout(() => $('text').focus());
  }
  $('people').hidden = isLink || me;
  $('link').hidden = !isLink;
  $('phone').hidden = !me;
  if (isLink) showLink();
  else if (me) showPhone();
  else showPeople();
}

addEventListener('hashchange', route);

function remembered() {
  const phone = stored('person');
  return state.people.find((person) => person.phone === phone);
}

const remember = (person) => store('person', person.phone);

// A browser may forbid storage; the phone works without.
function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function store(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    /* the phone works without */
  }
}

// ---------------------------------------------------------------- making elements

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Makes the children of `list` those of `items`: what did not change stays, so that focus and scrolling do.
function fill(list, items, key, build) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  const children = items.map((item) => {
    const name = String(key(item));
    const look = JSON.stringify(item);
    let child = old.get(name);
    if (child?.dataset.look !== look) {
      const had = child?.contains(document.activeElement) && document.activeElement.textContent;
      const made = build(item);
      made.dataset.key = name;
      made.dataset.look = look;
      child?.replaceWith(made);
      if (had) [...made.querySelectorAll('button, a')].find((button) => button.textContent === had)?.focus();
      child = made;
    }
    old.delete(name);
    return child;
  });
  for (const gone of old.values()) gone.remove();
  children.forEach((child, n) => {
    if (list.children[n] !== child) list.insertBefore(child, list.children[n] ?? null);
  });
}

const nameOf = (account) =>
  account.name ?? [account.first_name, account.last_name].filter(Boolean).join(' ');

function dress(avatar, account) {
  const name = nameOf(account);
  const large = avatar.classList.contains('large') ? ' large' : '';
  avatar.className = `avatar${large} tint${account.id === SERVICE ? 5 : account.id % 7}`;
  avatar.textContent = account.id === SERVICE ? '✈' : [...(name || '?')][0].toUpperCase();
  return avatar;
}

const avatar = (account) => dress(make('span', { className: 'avatar', ariaHidden: 'true' }), account);
const lines = (first, second) =>
  make('span', { className: 'lines' }, make('strong', {}, first), make('span', { className: 'soft' }, second));
const isBot = (id) => state.bots.some((bot) => bot.id === id);
const handle = (account) =>
  [account.phone, account.username ? `@${account.username}` : null, isBot(account.id) ? 'bot' : null]
    .filter(Boolean)
    .join(' · ');

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'long' });
const dayOf = (ms) => day.format(ms);
const whenOf = (ms) => (dayOf(ms) === dayOf(Date.now()) ? clock.format(ms) : new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short' }).format(ms));

// ---------------------------------------------------------------- whose phone

function showPeople() {
  document.title = 'Virtual phone';
  fill($('people-list'), state.people, (person) => person.id, (person) =>
    make('li', {}, make('a', { href: at(person), className: 'row' }, avatar(person), lines(nameOf(person), handle(person)))));
  const nobody = state.people.length === 0;
  $('people-none').hidden = !nobody;
  if (nobody) $('new-person').open = true;
  const phone = $('new-person-form').elements.phone;
  if (!phone.value) phone.value = freePhone();
}

function freePhone() {
  const taken = new Set(state.people.map((person) => person.phone));
  for (let n = 100001; ; n += 1) {
    if (!taken.has(`+15550${n}`)) return `+15550${n}`;
  }
}

onSubmit($('new-person-form'), async (form) => {
  const filled = [...new FormData(form)].filter(([, value]) => value.trim() !== '');
  const person = await call('POST', 'api/accounts', Object.fromEntries(filled));
  form.reset();
  $('new-person').open = false;
  state.people.push(person);
  location.hash = at(person);
});

// ---------------------------------------------------------------- a link of an app

let linkPeople = '';

function showLink() {
  const username = location.pathname.slice(1);
  const asked = new URLSearchParams(location.search);
  const account = byUsername(username);
  const name = account ? nameOf(account) : `@${username}`;
  document.title = `Open ${name} · Virtual phone`;
  $('link-title').textContent = name;
  $('link-handle').textContent = account ? handle(account) : 'There is nobody with this name in this sandbox.';
  dress($('link-avatar'), account ?? { id: 0, name: '?' });
  const effect = $('link-effect');
  if (asked.has('start')) {
    effect.replaceChildren('An app asks you to start a chat with this bot. It will get ', make('code', {}, `/start ${asked.get('start')}`));
  } else if (asked.get('text')) {
    effect.replaceChildren('An app asks you to send this message: ', make('q', {}, asked.get('text')));
  } else {
    effect.replaceChildren('An app asks you to open this chat.');
  }
  const form = $('link-form');
  const people = JSON.stringify(state.people);
  if (people !== linkPeople) {
    linkPeople = people;
    const chosen = form.elements.phone?.value || (remembered() ?? state.people[0])?.phone;
    $('link-people').replaceChildren(...state.people.map((person) =>
      make('label', { className: 'row' },
        make('input', { type: 'radio', name: 'phone', value: person.phone, checked: person.phone === chosen }),
        avatar(person),
        lines(nameOf(person), handle(person)))));
  }
  form.hidden = !account || state.people.length === 0;
  if (account && state.people.length === 0) effect.textContent = 'There is nobody in this sandbox yet who could open it.';
  nameTheButton();
}

function nameTheButton() {
  const person = state.people.find(({ phone }) => phone === $('link-form').elements.phone?.value);
  if (person) $('link-form').querySelector('button').textContent = `Open as ${person.first_name}`;
}

$('link-people').addEventListener('change', nameTheButton);

onSubmit($('link-form'), async (form) => {
  const person = state.people.find(({ phone }) => phone === form.elements.phone.value);
  const link = location.href.split('#')[0];
  const { chat } = await call('POST', `api/accounts/${encodeURIComponent(person.phone)}/open`, { link });
  // The link has done its work: reloading or going back must not do it twice.
  history.replaceState(null, '', `./${at(person, chat.id)}`);
  route();
});

const byUsername = (username) =>
  [...state.bots, ...state.people].find((account) => account.username?.toLowerCase() === username.toLowerCase());

// ---------------------------------------------------------------- the phone

function chatsOf(messages) {
  const chats = new Map();
  for (const message of [...messages.values()].sort((one, two) => one.id - two.id)) {
    const chat = chats.get(message.chat.id) ?? { messages: [] };
    chat.messages.push(message);
    chats.set(message.chat.id, { ...message.chat, messages: chat.messages });
  }
  return [...chats.values()].sort((one, two) => two.messages.at(-1).id - one.messages.at(-1).id);
}

function showPhone() {
  const { me } = state;
  const chats = chatsOf(state.messages);
  const open = chats.find((chat) => chat.id === state.chat) ?? newChat(state.chat);
  const unread = unreadOf(chats, open);

  dress($('me').querySelector('.avatar'), me);
  $('me').querySelector('strong').textContent = nameOf(me);
  $('me').querySelector('.lines .soft').textContent = me.phone;
  const total = [...unread.values()].reduce((sum, n) => sum + n, 0);
  document.title = `${total ? `(${total}) ` : ''}${open ? `${nameOf(open)} · ` : ''}${nameOf(me)} · Virtual phone`;

  fill($('chats'), chats.map((chat) => {
    const last = chat.messages.at(-1);
    const text = `${last.out ? 'You: ' : ''}${spoken(last)}`.slice(0, 120);
    return { id: chat.id, name: chat.name, text, when: whenOf(last.date), unread: unread.get(chat.id) ?? 0, open: chat.id === open?.id };
  }), (chat) => chat.id, (chat) =>
    make('li', {}, make('a', { href: at(me, chat.id), className: 'row', ariaCurrent: chat.open ? 'page' : 'false' },
      avatar(chat),
      lines(chat.name, chat.text),
      make('span', { className: 'aside' }, make('time', { className: 'soft' }, chat.when),
        chat.unread ? make('span', { className: 'badge' }, String(chat.unread), make('span', { className: 'unseen' }, ' unread')) : null))));
  showSms();
  $('chats-none').hidden = chats.length > 0 || !state.loaded;

  $('phone').classList.toggle('in-chat', Boolean(open));
  $('chat').hidden = !open;
  $('no-chat').hidden = Boolean(open);
  if (open) showChat(open);
}

// A login code goes to Telegram where the person is signed in somewhere, and to the telephone where not.
function showSms() {
  const { login_code: code } = state.me;
  const inTelegram = [...state.messages.values()].some(({ from_id: from, text }) => from === SERVICE && text.includes(code));
  const news = code && state.loaded && !inTelegram;
  $('sms').hidden = !news;
  if (news && $('sms').dataset.code !== code) {
    $('sms').dataset.code = code;
    $('sms').replaceChildren('✉ SMS: Telegram login code ', codeButton(code));
  }
}

const codeButton = (code) =>
  make('button', { type: 'button', className: 'code', title: 'Copy', onclick: () => copy(code) }, code);

// A chat that has no messages yet.
function newChat(id) {
  const account = [...state.bots, ...state.people].find((other) => other.id === id);
  return account && { id, name: nameOf(account), username: account.username, messages: [] };
}

// How many messages came in each chat since it was last looked at; the open one is being looked at.
function unreadOf(chats, open) {
  const key = `seen ${state.me.phone}`;
  const seen = stored(key) ?? {};
  const unread = new Map();
  for (const chat of chats) {
    const last = chat.messages.at(-1).id;
    // Ids begin anew after a reset.
    const known = seen[chat.id] > Math.max(...state.messages.keys()) ? 0 : (seen[chat.id] ?? 0);
    if (chat.id === open?.id && !document.hidden) seen[chat.id] = last;
    else unread.set(chat.id, chat.messages.filter((message) => !message.out && message.id > known).length);
  }
  store(key, seen);
  return unread;
}

// ---------------------------------------------------------------- a chat

// The others belong to a keyboard, which is shown where one types.
const isInline = ({ kind }) => kind === 'callback' || kind === 'url';

// Who looks at the end of a chat goes on looking at its end, whatever comes and however little room a keyboard leaves.
let atEnd = true;

const stay = () => {
  if (atEnd) $('scroll').scrollTop = $('scroll').scrollHeight;
};

$('scroll').addEventListener('scroll', ({ target }) => {
  atEnd = target.scrollHeight - target.scrollTop - target.clientHeight < 80;
});
new ResizeObserver(stay).observe($('scroll'));

function showChat(chat) {
  const account = newChat(chat.id) ?? chat;
  dress($('chat-avatar'), chat);
  $('chat-name').textContent = chat.name;
  $('chat-handle').textContent = chat.id === SERVICE ? 'service notifications' : handle({ ...account, id: chat.id });
  $('back').href = at(state.me);

  const scroll = $('scroll');
  const another = scroll.dataset.chat !== `${state.me.phone}/${chat.id}`;
  if (another) atEnd = true;
  scroll.dataset.chat = state.loaded ? `${state.me.phone}/${chat.id}` : '';
  // A screen reader reads what comes, not the whole chat.
  scroll.ariaBusy = String(another);
  if (another) $('messages').replaceChildren();

  const messages = chat.messages.slice(-state.shown);
  $('earlier').hidden = messages.length === chat.messages.length;
  let before;
  fill($('messages'), messages.map((message) => {
    const first = before !== dayOf(message.date);
    before = dayOf(message.date);
    const original = message.reply_to ? state.messages.get(message.reply_to) : null;
    const busy = message.buttons.flat().map(({ text }) => text).filter((text) => state.busy.has(`${message.id}/${text}`));
    const quoted = message.reply_to ? { name: original?.out ? nameOf(state.me) : chat.name, text: original ? spoken(original) : 'a message' } : null;
    return { ...message, chat: undefined, day: first ? before : null, quoted, busy };
  }), (message) => message.id, (message) => bubble(message, !another));
  showBottom(chat);
  stay();
  if (another) setTimeout(() => (scroll.ariaBusy = 'false'), 300);
}

// A message in one line.
const spoken = ({ text, contact }) => text || (contact ? `☎ ${contact.first_name}` : '');

function bubble(message, arrives) {
  const edited = message.edited ? 'edited ' : '';
  const inline = message.buttons.map((row) => row.filter(isInline)).filter((row) => row.length > 0);
  return make('li', { className: `${message.out ? 'out' : 'in'}${arrives ? ' arrives' : ''}` },
    message.day ? make('p', { className: 'day' }, message.day) : null,
    make('div', { className: 'bubble' },
      message.forwarded ? make('p', { className: 'soft when' }, 'Forwarded') : null,
      message.quoted ? make('blockquote', {}, make('strong', {}, message.quoted.name), make('span', {}, message.quoted.text)) : null,
      make('p', { className: 'text', dir: 'auto' }, ...textOf(message)),
      message.contact ? make('p', {}, '☎ ', make('strong', {}, message.contact.first_name), ` ${message.contact.phone}`) : null,
      make('p', { className: 'when' }, edited, make('time', { dateTime: new Date(message.date).toISOString() }, clock.format(message.date)))),
    ...inline.map((row) => make('div', { className: 'buttons' }, ...row.map((button) =>
      make('button', {
        type: 'button',
        disabled: message.busy.includes(button.text),
        onclick: () => tap(message.id, button.text),
      }, button.kind === 'url' ? `${button.text} ↗` : button.text)))),
    message.from_id === SERVICE ? null
      : make('button', { type: 'button', className: 'reply icon', title: 'Reply', ariaLabel: 'Reply to this message', onclick: () => replyTo(message.id) }, '↩'));
}

// A message's text, with links into Telegram and Telegram's login codes to press; all else stays text.
function textOf({ text, from_id: from }) {
  const host = location.host.replaceAll('.', '\\.');
  const links = `(?:https?://)?t\\.me/\\w{5,32}(?:\\?\\S*)?|https?://${host}/\\w{5,32}(?:\\?\\S*)?`;
  const pattern = from === SERVICE ? /\b\d{5,6}\b/g : new RegExp(`(?<![\\w./])(?:${links})`, 'g');
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(pattern)) {
    const press = from === SERVICE
      ? codeButton(found)
      : make('button', { type: 'button', className: 'link', onclick: () => openLink(found).catch(problem) }, found);
    parts.push(text.slice(end, index), press);
    end = index + found.length;
  }
  return [...parts, text.slice(end)];
}

// What is below the messages: the bot's keyboard and a line to write in, or one big button.
function showBottom(chat) {
  const bot = isBot(chat.id);
  const fresh = bot && state.loaded && chat.messages.length === 0;
  const service = chat.id === SERVICE;
  const blocked = state.me.blocked.includes(chat.id);
  $('block').hidden = !bot || fresh;
  $('block').textContent = blocked ? 'Unblock' : 'Block';
  $('block').onclick = () => block(chat, !blocked).catch(problem);

  const big = $('big');
  big.hidden = service || !(fresh || blocked);
  big.textContent = blocked ? 'Unblock' : 'Start';
  big.onclick = () => (blocked ? block(chat, false) : send(chat.id, '/start')).catch(problem);
  $('bottom-note').hidden = !service;
  $('bottom-note').textContent = 'Nobody reads answers here.';
  $('composer').hidden = service || !big.hidden;

  const offered = service || !big.hidden ? null : keyboardOf(chat);
  $('keyboard').hidden = !offered;
  fill($('keyboard'), (offered?.rows ?? []).map((row, n) => ({ n, row, id: offered.id })), ({ n }) => n, ({ row, id }) =>
    make('div', { className: 'buttons' }, ...row.map((button) =>
      make('button', {
        type: 'button',
        title: button.kind === 'request_phone' ? 'Sends your phone number' : '',
        onclick: () => tap(id, button.text),
      }, button.text))));

  const answered = state.messages.get(state.replyTo);
  $('replying').hidden = !answered || !big.hidden || service;
  if (answered) {
    $('replying').querySelector('strong').textContent = answered.out ? nameOf(state.me) : chat.name;
    $('replying').querySelector('span > span').textContent = spoken(answered);
  }
}

// The keyboard that the other side offers in place of typing: the newest, unless it was taken away, or was for one answer
// which was given.
function keyboardOf(chat) {
  const newest = chat.messages.findLast((message) => message.keyboard);
  const answered = chat.messages.some((message) => message.out && message.id > newest?.id);
  if (!newest || newest.keyboard === 'removed' || (newest.keyboard === 'one_time' && answered)) return null;
  return { id: newest.id, rows: newest.buttons };
}

function replyTo(id) {
  state.replyTo = id;
  route();
  if (id) $('text').focus();
}

$('no-reply').onclick = () => replyTo(null);
$('earlier').onclick = () => {
  const { scrollHeight } = $('scroll');
  state.shown += PAGE;
  route();
  $('scroll').scrollTop += $('scroll').scrollHeight - scrollHeight;
};

// ---------------------------------------------------------------- what a person does

async function send(to, text) {
  const reply = state.replyTo ? { reply_to: state.replyTo } : {};
  await call('POST', mine('send'), { to, text, ...reply });
  state.replyTo = null;
}

$('composer').addEventListener('submit', async (event) => {
  event.preventDefault();
  const field = $('text');
  const text = field.value.trim();
  if (!text) return;
  field.value = '';
  grow();
  try {
    await send(state.chat, text);
    route();
  } catch (error) {
    field.value = text;
    problem(error);
  }
});

$('text').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $('composer').requestSubmit();
  } else if (event.key === 'Escape' && state.replyTo) {
    replyTo(null);
  }
});
$('text').addEventListener('input', grow);

function grow() {
  const field = $('text');
  field.style.height = '';
  if (field.scrollHeight > field.clientHeight) field.style.height = `${field.scrollHeight + 2}px`;
}

async function tap(id, text) {
  const key = `${id}/${text}`;
  state.busy.add(key);
  route();
  try {
    const { answer, alert, url } = await call('POST', mine('tap'), { message_id: id, button: text });
    if (url) await follows(url);
    else if (answer && alert) say(answer);
    else if (answer) toast(answer);
  } catch (error) {
    problem(error);
  } finally {
    state.busy.delete(key);
    route();
  }
}

// Where a link button leads: into the phone, or, once the person has seen where to, out of it.
async function follows(url) {
  const to = new URL(/^[a-z]+:/i.test(url) ? url : `http://${url}`);
  if (to.host === 't.me' || to.host === location.host) return openLink(to.href);
  const web = ['http:', 'https:'].includes(to.protocol);
  say(web ? `Open ${to.href} ?` : `A link that a browser does not open: ${to.href}`, web ? to.href : null);
}

async function openLink(link) {
  const { chat } = await call('POST', mine('open'), { link });
  location.hash = at(state.me, chat.id);
}

const block = (chat, blocked) => call('POST', mine('block'), { who: chat.id, blocked });

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${text} copied`);
  } catch {
    toast(text);
  }
}

$('new-chat').onclick = () => {
  const others = [...state.bots, ...state.people].filter((other) => other.id !== state.me.id);
  fill($('new-chat-list'), others, (other) => other.id, (other) =>
    make('li', {}, make('a', { className: 'row', href: at(state.me, other.id), onclick: () => $('new-chat-dialog').close() },
      avatar(other), lines(nameOf(other), handle(other)))));
  $('new-chat-none').hidden = others.length > 0;
  $('new-chat-dialog').showModal();
};

$('paste-link').onclick = () => $('paste-dialog').showModal();
onSubmit($('paste-form'), async (form) => {
  await openLink(form.elements.link.value.trim());
  form.reset();
  $('paste-dialog').close();
});

// ---------------------------------------------------------------- telling

let fading;

function toast(text) {
  const shown = $('toast');
  clearTimeout(fading);
  shown.textContent = text;
  shown.classList.add('shown');
  fading = setTimeout(() => shown.classList.remove('shown'), 4000);
}

const problem = (error) => toast(worded(error));

function say(text, link = null) {
  $('alert-text').textContent = text;
  $('alert-link').hidden = !link;
  if (link) $('alert-link').href = link;
  $('alert').showModal();
}

$('alert-link').onclick = () => $('alert').close();
for (const button of document.querySelectorAll('[data-close]')) {
  button.onclick = () => button.closest('dialog').close();
}

// Runs `act` when a form is sent, and shows beside it why not.
function onSubmit(form, act) {
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = form.querySelector('button.main');
    const shown = form.querySelector('.problem');
    button.disabled = true;
    shown.textContent = '';
    try {
      await act(form);
    } catch (error) {
      shown.textContent = worded(error);
    } finally {
      button.disabled = false;
    }
  });
}

follow();
