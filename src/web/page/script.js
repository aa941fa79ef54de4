// What the page does. It asks over one WebSocket; pictures come by GET.

const KEPT_LINES = 1000;
const FIRST_LINES = 200;
const LOOK_MS = 2000;
const UNAUTHORIZED = -32017;

const rows = new Map();
const waiting = new Map();
let socket = null;
let opened = false;
let nextId = 1;
let retryMs = 500;
let chosen = '';
let following = null;
let wanted = 0;
let paused = false;
let held = [];
let lostLines = 0;
let drawn = null;
let drawnDown = null;
let afterToken = null;

const token = () => sessionStorage.getItem('nought-token') || '';

function verdict(text, how) {
  say($('verdict'), text);
  mark($('verdict'), 'data-kind', how);
}

// ---- the connection ---------------------------------------------------------------------

function connect() {
  const protocols = ['nought'];
  if (token()) protocols.push(`nought.token.${token()}`);
  opened = false;
  const own = new WebSocket(`ws://${location.host}/`, protocols);
  socket = own;
  own.onopen = () => { opened = true; retryMs = 500; begin(own); };
  own.onmessage = (event) => { if (socket === own) take(JSON.parse(event.data)); };
  own.onclose = () => { if (socket === own) ended(); };
}

function reconnect() {
  const old = socket;
  socket = null;
  if (old) old.close();
  forsake();
  connect();
}

function forsake() {
  const gone = { message: 'the connection ended; what was asked for may have been done' };
  for (const { reject } of waiting.values()) reject(gone);
  waiting.clear();
  following = null;
}

async function ended() {
  linked('no connection', 'bad');
  forsake();
  if (!opened && await refused()) return;
  setTimeout(connect, retryMs);
  retryMs = Math.min(retryMs * 2, 15000);
}

// Why a WebSocket was refused is kept from scripts: an ordinary request says it.
async function refused() {
  try {
    const answer = await fetch('/graph.svg', { headers: authorization() });
    if (answer.status !== 401) return false;
    const { error } = await answer.json();
    askToken(error.message, reconnect);
    return true;
  } catch {
    return false;
  }
}

function authorization() {
  return token() ? { Authorization: `Bearer ${token()}` } : {};
}

function call(method, params) {
  return new Promise((resolve, reject) => {
    if (!socket || socket.readyState !== WebSocket.OPEN) {
      reject({ message: 'there is no connection to the supervisor' });
      return;
    }
    const id = nextId;
    nextId += 1;
    waiting.set(id, { resolve, reject });
    socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
  });
}

function take(message) {
  if (message.method === 'nought_subscribeLogs') {
    if (following === message.params.subscription) lines(message.params.result);
    return;
  }
  const asked = waiting.get(message.id);
  waiting.delete(message.id);
  if (!asked) return;
  if (message.error) asked.reject(message.error);
  else {
    // The lines of a subscription may come with the next message.
    if (asked.first) asked.first(message.result);
    asked.resolve(message.result);
  }
}

async function begin(own) {
  linked('live', 'good');
  // It may be another supervisor.
  drawn = null;
  drawnDown = null;
  try {
    about(await call('nought_info', {}));
    follow();
    await look();
  } catch (error) {
    if (own === socket) verdict(error.message, 'bad');
  }
}

function linked(text, how) {
  say($('link'), text);
  mark($('link'), 'data-kind', how);
}

function about(info) {
  say($('about'), `${info.version}, pid ${info.pid}, guarantee ${info.guarantee}`);
  if (info.http_token) say($('ask-file'), info.http_token);
}

// ---- services ---------------------------------------------------------------------------

async function look() {
  const { services } = await call('nought_list', { memory: true });
  const names = new Set(services.map((service) => service.name));
  for (const [name, row] of rows) {
    if (!names.has(name)) { row.row.remove(); rows.delete(name); }
  }
  services.forEach((service, at) => show(service, at));
  const up = services.filter((service) => kind(service.state) === 'good').length;
  say($('count'), `${up} of ${services.length} up or done`);
  sources([...names]);
  pictures(services);
}

// Anew when what they show has changed; a shutdown when something goes down.
function pictures(services) {
  const told = (some) => some.map((s) => `${s.name} ${s.state} ${s.generation}`).join('\n');
  const all = told(services);
  const down = told(services.filter((s) => ['stopping', 'down', 'lingering'].includes(s.state)));
  if (all !== drawn) { drawn = all; draw('graph'); draw('timeline'); }
  if (!$('shutdown').hidden && down !== drawnDown) { drawnDown = down; draw('shutdown'); }
}

function show(service, at) {
  const own = rows.get(service.name) || makeRow(service.name);
  say(own.state, service.state);
  mark(own.state, 'data-kind', kind(service.state));
  const ran = ['failed', 'backoff', 'down', 'done', 'lingering'].includes(service.state);
  const fields = {
    since: since(service.since_ms), why: service.detail || (ran ? exit(service.last_exit) : ''),
    pid: service.pid ? String(service.pid) : '', restarts: String(service.restarts),
    processes: String(service.processes), memory: bytes(service.memory_bytes),
    guarantee: service.guarantee,
  };
  for (const [name, text] of Object.entries(fields)) {
    say(own[name], text);
    mark(own[name], 'data-empty', text === '' ? 'yes' : 'no');
  }
  const down = ['down', 'failed', 'done', 'lingering'].includes(service.state);
  own.start.disabled = own.busy || !down;
  own.stop.disabled = own.busy || service.state === 'down' || service.state === 'stopping';
  own.restart.disabled = own.busy || down || service.state === 'stopping';
  if ($('rows').children[at] !== own.row) $('rows').insertBefore(own.row, $('rows').children[at] || null);
}

function makeRow(name) {
  const own = { busy: false };
  const button = (text, label) => element('button', { type: 'button', 'aria-label': `${label} ${name}` }, text);
  const cell = (label, kind) => element('td', { class: kind, 'data-label': label });
  own.name = element('button', { type: 'button', class: 'name', 'aria-pressed': 'false' }, name);
  own.state = element('span', { class: 'state' });
  own.since = cell('since', 'number');
  own.why = cell('why', 'why');
  own.pid = cell('pid', 'number');
  own.restarts = cell('restarts', 'number');
  own.processes = cell('processes', 'number');
  own.memory = cell('memory', 'number');
  own.guarantee = cell('guarantee', '');
  own.start = button('Start', 'Start');
  own.stop = button('Stop', 'Stop');
  own.restart = button('Restart', 'Restart');
  own.row = element('tr', { 'data-service': name },
    element('th', { scope: 'row' }, own.name), element('td', {}, own.state),
    own.since, own.why, own.pid, own.restarts, own.processes, own.memory, own.guarantee,
    element('td', { class: 'act' }, own.start, own.stop, own.restart));
  own.name.onclick = () => choose(chosen === name ? '' : name);
  for (const verb of ['start', 'stop', 'restart']) own[verb].onclick = () => act(verb, name);
  rows.set(name, own);
  return own;
}

function choose(name) {
  chosen = name;
  for (const [other, own] of rows) {
    mark(own.row, 'data-chosen', other === name ? 'yes' : 'no');
    mark(own.name, 'aria-pressed', String(other === name));
  }
  $('source').value = name;
  follow();
  receipts();
}

async function act(verb, name) {
  const own = rows.get(name);
  const words = { start: 'starting', stop: 'stopping', restart: 'restarting' };
  const focused = document.activeElement;
  own.busy = true;
  for (const other of ['start', 'stop', 'restart']) own[other].disabled = true;
  verdict(`${name}: ${words[verb]}`, 'none');
  try {
    const done = await call(`nought_${verb}`, { name });
    if (done.receipt) verdict(proven(done.receipt), kind(done.receipt.verdict));
    else if (done.already_down) verdict(`${name}: was down already`, 'none');
    else verdict(`${name}: ${done.state}`, kind(done.state));
  } catch (error) {
    failed(name, error, () => act(verb, name));
  }
  own.busy = false;
  await look().catch(() => {});
  // A button that was disabled has lost the focus to nobody.
  const left = [focused, own.start, own.stop, own.name].find((b) => b && !b.disabled && own.row.contains(b));
  if (document.activeElement === document.body && left && !$('ask').open) left.focus();
  if (chosen === name || !chosen) receipts(name);
}

function failed(name, error, again) {
  const data = error.data || {};
  const causes = (data.cause_chain || []).map((cause) => `\n  because: ${cause}`).join('');
  const hint = data.hint ? `\n  hint: ${data.hint}` : '';
  if (data.receipt) verdict(proven(data.receipt), 'bad');
  else verdict(`${name}: ${error.message}${causes}${hint}`, 'bad');
  if (error.code === UNAUTHORIZED) askToken(error.message, () => { afterToken = again; reconnect(); });
}

async function receipts(name = chosen) {
  if (!name) return;
  try {
    const answer = await call('nought_receipt', { name, last: 5 });
    const found = answer.receipts.reverse();
    say($('whose'), `of ${name}, the newest first`);
    $('receipts').replaceChildren(...(found.length ? found.map(receipt)
      : [element('p', { class: 'dim' }, 'It never stopped.')]));
  } catch (error) {
    $('receipts').replaceChildren(element('p', {}, error.message));
  }
}

// ---- the log ----------------------------------------------------------------------------

function sources(names) {
  const select = $('source');
  const known = [...select.options].slice(1).map((option) => option.value);
  if (known.join('\n') === names.join('\n')) return;
  const value = select.value;
  while (select.options.length > 1) select.remove(1);
  for (const name of names) select.append(element('option', { value: name }, name));
  select.value = names.includes(value) ? value : '';
}

async function follow() {
  wanted += 1;
  const turn = wanted;
  if (following !== null) call('nought_unsubscribeLogs', { subscription: following }).catch(() => {});
  following = null;
  held = [];
  lostLines = 0;
  $('lines').replaceChildren();
  say($('lost'), '');
  const name = $('source').value;
  const params = { lines: FIRST_LINES, records: true };
  if (name) params.name = name;
  try {
    const asked = call('nought_subscribeLogs', params);
    waiting.get(nextId - 1).first = (subscription) => {
      if (turn === wanted) following = subscription;
      else call('nought_unsubscribeLogs', { subscription }).catch(() => {});
    };
    await asked;
    if (afterToken) { const again = afterToken; afterToken = null; again(); }
  } catch (error) {
    if (turn !== wanted) return;
    const text = error.code === UNAUTHORIZED ? 'The log needs the token.' : error.message;
    $('lines').replaceChildren(element('p', { class: 'dim' }, text));
  }
}

function lines(result) {
  lostLines += result.lost;
  if (paused) {
    held = held.concat(result.records || []).slice(-KEPT_LINES);
  } else {
    append(result.records || []);
  }
  say($('lost'), lostLines ? `${lostLines} lines are kept no more` : '');
}

function append(records) {
  const box = $('lines');
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  box.append(...records.map(line));
  while (box.childElementCount > KEPT_LINES) box.firstElementChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

// ---- pictures and the token -------------------------------------------------------------

const PICTURES = {
  graph: 'the services, with an arrow from each to those that wait for it',
  timeline: 'a bar for each service: how long it waited, and how long it took to start',
  shutdown: 'a bar for each service: how long it waited, and what ended it',
};

async function draw(what) {
  const box = $(what);
  const failed = (why) => box.replaceChildren(element('p', { class: 'dim' }, why));
  try {
    const answer = await fetch(`/${what}.svg`, { headers: authorization() });
    const text = await answer.text();
    if (!answer.ok) {
      const json = answer.headers.get('content-type') === 'application/json';
      throw new Error(json ? JSON.parse(text).error.message : text);
    }
    const address = URL.createObjectURL(new Blob([text], { type: 'image/svg+xml' }));
    const title = /<title>([^<&]*)<\/title>/.exec(text);
    const image = new Image();
    image.alt = `${title ? title[1] : what}; ${PICTURES[what]}`;
    // In its place when it is there: what stands below does not jump.
    image.onload = () => { URL.revokeObjectURL(address); box.replaceChildren(image); };
    image.onerror = () => { URL.revokeObjectURL(address); failed('not drawn: it is no picture'); };
    image.src = address;
  } catch (error) {
    failed(error.message);
  }
}

const TABS = ['timeline', 'shutdown'];

function tab(name) {
  for (const other of TABS) {
    $(other).hidden = other !== name;
    mark($(`tab-${other}`), 'aria-selected', String(other === name));
    $(`tab-${other}`).tabIndex = other === name ? 0 : -1;
  }
  drawnDown = null;
  look().catch(() => {});
}

function askToken(why, then) {
  say($('ask-why'), `${why}.`);
  $('secret').value = '';
  $('ask').then = then;
  if (!$('ask').open) $('ask').showModal();
  $('secret').focus();
}

$('token').onclick = () => askToken('Whoever changes something, or reads the log, shows the token', reconnect);
$('cancel').onclick = () => { if (!opened) setTimeout(connect, 15000); $('ask').close(); };
$('forget').onclick = () => {
  sessionStorage.removeItem('nought-token');
  $('ask').close();
  verdict('the token is forgotten', 'none');
  reconnect();
};
$('form').onsubmit = (event) => {
  const secret = $('secret').value.trim();
  $('secret').value = '';
  // What is no token cannot be a protocol's name either.
  if (!/^[0-9a-f]{64}$/.test(secret)) {
    event.preventDefault();
    say($('ask-why'), 'That is no token: it has 64 digits, 0 to 9 and a to f.');
    return;
  }
  sessionStorage.setItem('nought-token', secret);
  verdict('', 'none');
  const then = $('ask').then;
  if (then) then();
};

// ---- keys -------------------------------------------------------------------------------

$('rows').onkeydown = (event) => {
  const all = [...$('rows').children];
  const row = event.target.closest('tr');
  const to = {
    ArrowDown: all.indexOf(row) + 1, ArrowUp: all.indexOf(row) - 1, Home: 0, End: all.length - 1,
  }[event.key];
  if (to === undefined || !all[to]) return;
  const buttons = (one) => [...one.querySelectorAll('button')];
  const column = buttons(row).indexOf(event.target);
  const target = buttons(all[to])[column];
  (target && !target.disabled ? target : buttons(all[to])[0]).focus();
  event.preventDefault();
};
for (const name of TABS) $(`tab-${name}`).onclick = () => tab(name);
$('tabs').onkeydown = (event) => {
  const at = TABS.findIndex((name) => $(name).hidden === false);
  const to = {
    ArrowRight: (at + 1) % TABS.length, ArrowLeft: (at + TABS.length - 1) % TABS.length,
    Home: 0, End: TABS.length - 1,
  }[event.key];
  // With another key they are the browser's own: Alt and an arrow go back.
  if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  tab(TABS[to]);
  $(`tab-${TABS[to]}`).focus();
  event.preventDefault();
};
$('source').onchange = () => choose($('source').value);
$('pause').onclick = () => {
  paused = !paused;
  mark($('pause'), 'aria-pressed', String(paused));
  say($('pause'), paused ? 'Go on' : 'Pause');
  if (!paused) { append(held); held = []; }
};

setInterval(() => {
  if (!document.hidden && socket && socket.readyState === WebSocket.OPEN) look().catch(() => {});
}, LOOK_MS);
connect();
