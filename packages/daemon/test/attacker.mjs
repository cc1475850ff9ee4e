/**
 * What a local user without rights tries against a daemon: node attacker.mjs '{"port": …, "pid": …, "directory": …, "socket": …, "lock": …}'. Loads its
 * tools as root, becomes nobody, tries, prints one outcome per attempt: an errno name, or `done`.
 */
import { readdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';

const target = JSON.parse(process.argv[2]);
const require = createRequire(new URL('../../connector/package.json', import.meta.url));
const { RawNetlinkSocket } = require('netlink');
const NOBODY = 65534;
process.setgroups([]);
process.setgid(NOBODY);
process.setuid(NOBODY);

const outcomes = {};
const attempt = (name, act) => {
  try {
    act();
    outcomes[name] = 'done';
  } catch (error) {
    outcomes[name] = error.code;
  }
};

for (const signal of ['SIGTERM', 'SIGHUP', 'SIGSTOP', 'SIGUSR1', 'SIGKILL']) {
  attempt(`send ${signal}`, () => process.kill(target.pid, signal));
}
attempt('read its memory', () => readFileSync(`/proc/${target.pid}/mem`));
attempt('list its descriptors', () => readdirSync(`/proc/${target.pid}/fd`));
attempt('read its environment', () => readFileSync(`/proc/${target.pid}/environ`));
attempt('make the kernel kill it first', () => writeFileSync(`/proc/${target.pid}/oom_score_adj`, '1000'));
attempt('list the runtime directory', () => readdirSync(target.directory));
attempt('fill the runtime directory', () => writeFileSync(`${target.directory}/fill`, 'x'));
attempt('forge the state of a log', () => writeFileSync(`${target.directory}/state/0-0.log`, 'x'));
attempt('move the runtime directory away', () => renameSync(target.directory, `${target.directory}.away`));
attempt('remove the control socket', () => unlinkSync(target.socket));
attempt('open the lock file', () => readFileSync(target.lock));

/** The first outcome of many: each must be like it. */
const flood = async (name, count, act) => {
  const seen = new Set();
  for (let i = 0; i < count; i++) seen.add(await act());
  outcomes[name] = [...seen].join(' ');
};

const connect = () =>
  new Promise((resolve) => {
    const socket = net.connect(target.socket);
    socket.on('error', (error) => resolve(error.code));
    socket.on('connect', () => resolve('done'));
  });
await flood('flood the control socket', 500, connect);

const requests = new RawNetlinkSocket(11, { messagePeeking: false });
const frame = Buffer.from(target.frame, 'hex');
const send = (to) =>
  new Promise((resolve) => {
    requests.send(frame, to, (error) =>
      resolve(
        error === undefined ? 'done' : (/E[A-Z]+/.exec(error.code ?? error.message)?.[0] ?? String(error)),
      ),
    );
  });
await flood('flood its netlink port', 5000, () => send({ port: target.port }));
await flood('flood the connector group', 5000, () => send({ groups: 1 << 6 }));
requests.close();

// A name that anybody may take: the lock must not depend on it.
await new Promise((resolve) => {
  net
    .createServer()
    .listen(`\0${'dmlog/instance'.padEnd(107, '.')}`, resolve)
    .on('error', resolve);
});
console.log(JSON.stringify(outcomes));
// Holds on until it is told to go.
process.stdin.resume().on('end', () => process.exit(0));
