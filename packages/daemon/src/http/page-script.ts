/**
 * The script of the status page, as browsers run it. It polls what the daemon says and draws it; whatever comes from the daemon becomes text, never markup.
 */
export const PAGE_SCRIPT = `'use strict';
const POLL_MS = 1000, EVENTS_MAX = 200, CELL_PX = 9;
const element = (id) => document.getElementById(id);
const view = { log: null, from: 0, to: null, regions: null, columns: 1 };
let before = null, now = null, polling = null;

const get = async (path) => {
  const response = await fetch(path, { cache: 'no-store' });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
};
const bytes = (n) => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return (Number.isInteger(n) ? n : n.toFixed(1)) + ' ' + units[unit];
};
const count = (n) => n.toLocaleString('en');
const time = (s) => s < 1e-3 ? Math.round(s * 1e6) + ' µs' : s < 1 ? (s * 1e3).toFixed(1) + ' ms' : s.toFixed(1) + ' s';
// A node that does not take part in a clustered log knows nothing of its regions.
const known = (log) => !log.cluster || log.cluster.digest !== null;
const percent = (log) => !known(log) ? '–' : log.inSyncCount >= log.regionCount ? '100 %' : (Math.floor(log.inSyncCount / log.regionCount * 1e4) / 100).toFixed(2) + ' %';
const failed = (log) => log.deviceStatus === 'D' || log.deviceStatus === 'F';

/** Fills a table; cells that keep their text are not touched, so that nothing flickers and a selection stays. */
function fill(table, columns, rows, decorate) {
  const head = table.tHead, body = table.tBodies[0];
  if (head.rows.length === 0 || head.rows[0].cells.length !== columns.length) {
    head.replaceChildren();
    const row = head.insertRow();
    for (const [title, , number] of columns) {
      const cell = document.createElement('th');
      cell.textContent = title;
      cell.scope = 'col';
      if (number) cell.className = 'number';
      row.append(cell);
    }
    body.replaceChildren();
  }
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((item, i) => {
    const row = body.rows[i] ?? body.insertRow();
    columns.forEach(([, read, number], j) => {
      const cell = row.cells[j] ?? row.insertCell();
      const text = String(read(item));
      if (cell.textContent !== text) cell.textContent = text;
      if (number) cell.className = 'number';
    });
    decorate?.(row, item);
  });
}

function rate(log, read) {
  const old = before?.status.logs.find((other) => other.luid === log.luid && other.uuid === log.uuid);
  if (!old) return null;
  return Math.max(0, read(log) - read(old)) / ((now.at - before.at) / 1000);
}
const shown = (value, format) => value === null ? '–' : format(value);
const resync = (log) => !known(log) || log.inSyncCount >= log.regionCount ? null : rate(log, (each) => each.inSyncCount * each.regionSizeSectors * 512);
const left = (log) => {
  const speed = resync(log);
  return speed ? time((log.regionCount - log.inSyncCount) * log.regionSizeSectors * 512 / speed) : '–';
};

const LOG_COLUMNS = [
  ['Name', (log) => log.dmName ?? '–'], ['UUID', (log) => log.uuid], ['Type', (log) => log.type], ['State', (log) => log.state],
  ['Size', (log) => bytes(log.targetSectors * 512), true], ['In sync', percent, true], ['Dirty', (log) => known(log) ? count(log.dirtyCount) : '–', true],
  ['Resync', (log) => shown(resync(log), (n) => bytes(Math.round(n)) + '/s'), true], ['Left', left, true],
  ['Requests/s', (log) => shown(rate(log, (each) => each.requests), (n) => n.toFixed(0)), true],
  ['Log device', (log) => log.logDevice ?? '–'], ['Health', (log) => ({ A: 'alive', D: 'DEVICE FAILED', F: 'FLUSH FAILED' })[log.deviceStatus] ?? '–'],
];
const REQUEST_COLUMNS = [
  ['Request', (type) => type.type], ['Per second', (type) => {
    const old = before?.requests.types.find((other) => other.type === type.type);
    return old ? ((type.requests - old.requests) / ((now.at - before.at) / 1000)).toFixed(0) : '–';
  }, true],
  ['Total', (type) => count(type.requests), true], ['Errors', (type) => count(type.errors), true],
  ['Median', (type) => quantile(type, 0.5), true], ['99 %', (type) => quantile(type, 0.99), true],
];
const MEMBER_COLUMNS = [
  ['Node', (m) => m.nodeId], ['Presence', (m) => m.presence], ['Marks', (m) => count(m.marks), true], ['Leases', (m) => count(m.leases), true], ['Boot', (m) => m.bootId],
];
function quantile({ buckets }, share) {
  const total = buckets.reduce((sum, n) => sum + n, 0), bounds = now.requests.boundsSeconds;
  let seen = 0;
  const at = buckets.findIndex((n) => (seen += n) >= total * share);
  return total === 0 ? '–' : at < bounds.length ? '≤ ' + time(bounds[at]) : '> ' + time(bounds.at(-1));
}

const chosen = () => now?.status.logs.find((log) => log.luid === view.log) ?? null;
function choose(log) {
  if (view.log === log.luid) return;
  Object.assign(view, { log: log.luid, from: 0, to: null, regions: null });
}

async function look() {
  const [status, requests] = await Promise.all([get('api/status'), get('api/requests')]);
  const at = performance.now();
  if (now && at - now.at > POLL_MS / 2) before = now;
  now = { status, requests, at };
  if (chosen() === null && status.logs.length > 0) choose(status.logs[0]);
  const log = chosen();
  if (log) {
    const canvas = element('map');
    view.columns = Math.max(8, Math.floor(canvas.clientWidth / CELL_PX));
    const cells = view.columns * Math.max(1, Math.floor(canvas.clientHeight / CELL_PX));
    const to = Math.min(view.to ?? log.regionCount, log.regionCount), from = Math.min(view.from, Math.max(0, to - 1));
    view.regions = await get('api/regions?' + new URLSearchParams({ log: log.luid, from, to, cells }));
  }
}

function draw() {
  const { version, pid, uptimeSeconds, transport, logs } = now.status;
  element('daemon').textContent = version + ', pid ' + pid + ', up ' + time(uptimeSeconds) + ', transport ' + transport.name +
    (transport.overruns > 0 ? ', ' + transport.overruns + ' OVERRUNS' : '');
  fill(element('logs'), LOG_COLUMNS, logs, (row, log) => {
    row.setAttribute('aria-selected', log.luid === view.log);
    row.classList.toggle('bad', failed(log));
    row.onclick = () => { choose(log); poll(); };
  });
  fill(element('requests'), REQUEST_COLUMNS, now.requests.types);
  const log = chosen(), cluster = log?.cluster;
  element('cluster').hidden = !cluster;
  if (cluster) {
    element('place').textContent = cluster.nodeId === null ? 'this node is not in its group' : 'node ' + cluster.nodeId + ', ' + (cluster.quorate ? 'quorate' : 'WITHOUT QUORUM') +
      ', ' + cluster.phase + ', writer ' + (cluster.writer ?? '–') + ', position ' + count(cluster.position) + ', ' + count(cluster.staleCount + cluster.givenUpCount) + ' regions in doubt';
    fill(element('members'), MEMBER_COLUMNS, cluster.members);
  }
  drawMap(log);
}

function drawMap(log) {
  const canvas = element('map'), regions = view.regions;
  const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const paint = canvas.getContext('2d'), style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue('--' + name).trim();
  paint.scale(scale, scale);
  paint.fillStyle = colour('empty');
  paint.fillRect(0, 0, width, height);
  if (!log || !regions) { element('range').textContent = 'no log'; return; }
  if (!known(log)) { element('range').textContent = 'not known while this node does not take part in the log'; return; }
  const columns = view.columns, size = width / columns;
  const rows = Math.max(1, Math.ceil(regions.inSync.length / columns)), tall = Math.min(size, height / rows);
  regions.inSync.forEach((inSync, i) => {
    const n = sizeOf(i), x = (i % columns) * size, y = Math.floor(i / columns) * tall;
    const dirty = inSync - regions.clean[i], stale = n - inSync;
    const box = (name, share) => { paint.fillStyle = colour(name); paint.fillRect(x, y + (tall - 1) * (1 - share), size - 1, (tall - 1) * share); };
    box('clean', 1);
    // A single region among a million must be seen.
    if (dirty + stale > 0) box('dirty', Math.max(0.35, (dirty + stale) / n));
    if (stale > 0) box('stale', Math.max(0.25, stale / n));
    if (regions.recovering !== null && cellOf(regions.recovering) === i) box('work', 1);
  });
  const bad = regions.inSync.reduce((sum, n, i) => sum + sizeOf(i) - n, 0), dirty = regions.clean.reduce((sum, n, i) => sum + sizeOf(i) - n, 0) - bad;
  const text = (log.dmName ?? log.uuid) + ': regions ' + count(regions.from) + ' to ' + count(regions.to - 1) + ' of ' + count(regions.regionCount) + ', ' +
    count(regions.regionsPerCell) + ' in a cell; ' + count(dirty) + ' dirty, ' + count(bad) + ' out of sync';
  if (element('range').textContent !== text) element('range').textContent = text;
  canvas.setAttribute('aria-label', 'Map of ' + text);
  canvas.dataset.cells = regions.inSync.length;
}
const sizeOf = (cell) => Math.min(view.regions.regionsPerCell, view.regions.to - view.regions.from - cell * view.regions.regionsPerCell);
const cellOf = (region) => Math.floor((region - view.regions.from) / view.regions.regionsPerCell);

function zoom(middle, factor) {
  const log = chosen();
  if (!log) return;
  const to = view.to ?? log.regionCount, length = Math.max(1, Math.min(log.regionCount, Math.round((to - view.from) * factor)));
  const from = Math.max(0, Math.min(log.regionCount - length, Math.round(middle - length / 2)));
  Object.assign(view, { from, to: from + length });
  poll();
}
function move(share) {
  const log = chosen();
  if (!log) return;
  const length = (view.to ?? log.regionCount) - view.from;
  const from = Math.max(0, Math.min(log.regionCount - length, view.from + Math.round(length * share)));
  Object.assign(view, { from, to: from + length });
  poll();
}
function step(by) {
  const logs = now?.status.logs ?? [];
  if (logs.length === 0) return;
  const at = logs.findIndex((log) => log.luid === view.log);
  choose(logs[Math.max(0, Math.min(logs.length - 1, at + by))]);
  poll();
}
const middle = () => (view.from + (view.to ?? chosen()?.regionCount ?? 0)) / 2;
const KEYS = {
  ArrowUp: () => step(-1), ArrowDown: () => step(1), ArrowLeft: () => move(-0.5), ArrowRight: () => move(0.5),
  '+': () => zoom(middle(), 0.5), '=': () => zoom(middle(), 0.5), '-': () => zoom(middle(), 2),
  0: () => { Object.assign(view, { from: 0, to: null }); poll(); },
};
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});
function cellAt(event) {
  const canvas = element('map'), regions = view.regions;
  if (!regions) return null;
  const rows = Math.max(1, Math.ceil(regions.inSync.length / view.columns)), size = canvas.clientWidth / view.columns, tall = Math.min(size, canvas.clientHeight / rows);
  const cell = Math.floor(event.offsetY / tall) * view.columns + Math.floor(event.offsetX / size);
  return cell < regions.inSync.length ? cell : null;
}
element('map').addEventListener('click', (event) => {
  const cell = cellAt(event);
  if (cell !== null) zoom(view.regions.from + (cell + 0.5) * view.regions.regionsPerCell, 0.125);
});
element('map').addEventListener('mousemove', (event) => {
  const cell = cellAt(event);
  if (cell === null) { element('cell').textContent = ''; return; }
  const from = view.regions.from + cell * view.regions.regionsPerCell, n = sizeOf(cell), inSync = view.regions.inSync[cell], clean = view.regions.clean[cell];
  element('cell').textContent = (n === 1 ? 'region ' + count(from) : 'regions ' + count(from) + ' to ' + count(from + n - 1)) + ': ' + count(clean) + ' clean, ' + count(inSync - clean) + ' dirty, ' + count(n - inSync) + ' out of sync';
});

/** One look at a time; another one that is wished for meanwhile follows. */
let again = false;
async function poll() {
  if (polling) { again = true; return; }
  polling = look().then(draw, (error) => {
    element('daemon').textContent = 'the daemon does not answer: ' + error.message;
    view.regions = null;
  });
  await polling;
  polling = null;
  if (again) { again = false; await poll(); }
}
setInterval(() => { if (!document.hidden) poll(); }, POLL_MS);
window.addEventListener('resize', poll);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', poll);
new EventSource('api/events').onmessage = ({ data }) => {
  const event = JSON.parse(data), item = document.createElement('li'), name = document.createElement('b');
  name.textContent = event.event;
  item.append(event.time.slice(11, 19) + ' ', name, ' ' + (event.name ?? event.uuid) + ': ' + event.message);
  element('events').prepend(item);
  while (element('events').children.length > EVENTS_MAX) element('events').lastChild.remove();
};
poll();
`;
