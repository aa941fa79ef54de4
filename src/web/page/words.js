'use strict';
// Data to words and elements. Whatever services say becomes text, never markup.

const $ = (id) => document.getElementById(id);

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

function duration(ms) {
  const s = ms / 1000;
  if (s < 1) return `${Number(ms.toFixed(ms < 10 ? 2 : 1))} ms`;
  if (s < 60) return `${Number(s.toFixed(2))} s`;
  const whole = Math.floor(s);
  if (s < 3600) return `${Math.floor(whole / 60)}m ${whole % 60}s`;
  if (s < 86400) return `${Math.floor(whole / 3600)}h ${Math.floor(whole % 3600 / 60)}m`;
  return `${Math.floor(whole / 86400)}d ${Math.floor(whole % 86400 / 3600)}h`;
}

function since(ms) {
  return ms < 1000 ? 'now' : duration(Math.floor(ms / 1000) * 1000);
}

function bytes(count) {
  if (count === null || count === undefined) return '';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (count >= 1024 && at < units.length - 1) { count /= 1024; at += 1; }
  return `${at === 0 ? count : count.toFixed(1)} ${units[at]}`;
}

function exit(end) {
  if (!end) return '';
  if (end.signal) return `${end.signal}${end.core ? ', core dumped' : ''}`;
  return end.code === undefined ? '' : `exit code ${end.code}`;
}

const KINDS = {
  up: 'good', done: 'good', listening: 'good', verified: 'good',
  blocked: 'warn', starting: 'warn', stopping: 'warn', backoff: 'warn', unverified: 'warn',
  failed: 'bad', lingering: 'bad',
};

function kind(word) {
  return KINDS[word] || 'none';
}

function process(one) {
  const what = one.argv && one.argv.length ? one.argv.join(' ') : one.comm || '';
  return `pid ${one.pid}${what ? ' ' + what : ''}${one.state ? ', state ' + one.state : ''}`;
}

// One line: what a stop proved.
function proven(receipt) {
  const parts = [`${receipt.service}: ${receipt.verdict}: stopped in ${duration(receipt.elapsed_ms)}`];
  const end = exit(receipt.exit);
  if (end) parts[0] += ` (${end})`;
  const killed = (receipt.killed || []).length + (receipt.escaped || []).length;
  if (killed) parts.push(`${killed} ${killed === 1 ? 'process' : 'processes'} killed`);
  if (receipt.verdict === 'verified') parts.push('nothing left');
  if (receipt.reason) parts.push(receipt.reason);
  const survivors = (receipt.survivors || []).map((one) => `\n  ${process(one)}`);
  return parts.join(', ') + survivors.join('');
}

function rung(one) {
  const words = [`${one.at_ms.toFixed(3)} ms  ${one.rung}`];
  if (one.signal) words.push(one.to ? `${one.signal} to ${one.to}` : one.signal);
  if (one.error) words.push(`failed to ${one.error.doing}: ${one.error.why}`);
  return words.join('  ');
}

// A receipt: the line, and behind it what it rests on.
function receipt(one) {
  const fields = [
    ['verdict', one.verdict], ['cause', one.cause], ['generation', one.generation],
    ['exit', exit(one.exit)],
    ['guarantee', `${one.guarantee.containment} ${one.guarantee.scan}`],
    ['began', one.began_at || ''], ['took', duration(one.elapsed_ms)], ['reason', one.reason || ''],
    ['waited for', one.waited_for || ''],
    ['rungs', (one.rungs || []).map(rung).join('\n')],
    ['killed', (one.killed || []).map(process).join('\n')],
    ['escaped', (one.escaped || []).map(process).join('\n')],
    ['survivors', (one.survivors || []).map(process).join('\n')],
    ['kept', (one.kept || []).map(process).join('\n')],
  ];
  const list = element('dl', {});
  for (const [name, value] of fields) {
    if (value !== '') list.append(element('dt', {}, name), element('dd', {}, value));
  }
  const when = one.ended_at || one.began_at || '';
  const verdict = element('span', { class: 'state', 'data-kind': kind(one.verdict) }, one.verdict);
  const summary = element('summary', {}, verdict, ` ${one.cause}, ${duration(one.elapsed_ms)} `,
    element('span', { class: 'dim' }, when.replace('T', ' ').replace(/\.\d+Z$/, ' UTC')));
  return element('details', {}, summary, list);
}

function line(record) {
  const shown = `${record.time.slice(11, 23)} ${record.service}: ${record.text}`;
  return element('div', { class: record.stream === 'stderr' ? 'stderr' : 'stdout' }, shown);
}
