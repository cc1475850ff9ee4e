import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  buildProgram,
  type Cluster,
  clusterUsable,
  LineClient,
  type LineError,
  startCluster,
  waitUntil,
} from '../src/index.js';
import type { EchoEvent, EchoMethods } from './echo.js';

const describeCluster = clusterUsable() ? describe : describe.skip;
const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const sharedMemoryOf = (pid: number): string[] =>
  readdirSync('/dev/shm').filter(
    (name) => name.startsWith(`qb-${pid}-`) || name.startsWith(`qb-corosync-${pid}-`),
  );
const namespaces = (): string[] => (existsSync('/run/netns') ? readdirSync('/run/netns') : []);

describeCluster('a cluster of three nodes', () => {
  let cluster: Cluster;
  let program: { path: string; remove(): void };

  beforeAll(async () => {
    [cluster, program] = await Promise.all([
      startCluster({ nodes: 3 }),
      buildProgram(path('echo.ts'), path('../build')),
    ]);
  });

  afterAll(async () => {
    program?.remove();
    await cluster?.destroy();
  });

  it('has quorum', async () => {
    const { stdout } = await cluster.node(2).exec('corosync-quorumtool', ['-s']);
    expect(stdout).toMatch(/Nodes:\s+3/);
    expect(stdout).toMatch(/Quorate:\s+Yes/);
  });

  it('loses a node whose cable is cut, and gets it back', async () => {
    await cluster.cut(3);
    await Promise.all([cluster.membership([1, 2]), cluster.membership([3])]);
    await cluster.heal(3);
    await cluster.membership();
  });

  it('is split into sides, and united', async () => {
    await cluster.partition([[1], [2, 3]]);
    await Promise.all([cluster.membership([1]), cluster.membership([2, 3])]);
    await cluster.healAll();
    await cluster.membership();
  });

  it('loses a node whose corosync is paused, stopped or killed, and gets it back', async () => {
    cluster.pauseCorosync(1);
    await cluster.membership([2, 3]);
    cluster.resumeCorosync(1);
    await cluster.membership([1, 2, 3]);
    await cluster.stop(2);
    await cluster.membership();
    await cluster.restart(2);
    const pid = cluster.node(3).pid!;
    expect(sharedMemoryOf(pid)).not.toEqual([]);
    await cluster.kill(3);
    expect(sharedMemoryOf(pid)).toEqual([]);
    await cluster.membership([1, 2]);
    await cluster.restart(3);
    expect(cluster.node(1).members()).toEqual([1, 2, 3]);
  });

  it('runs programs in a node, with requests, errors and events', async () => {
    const client = cluster.node(2).client<EchoMethods, EchoEvent>(program.path);
    expect(await client.request('addresses')).toContain('10.77.0.2');
    expect(await client.request('echo', { text: 'hello' })).toBe('hello');
    await client.until('the echo is told', (events) => events.some(({ said }) => said === 'hello'));
    const error = (await client.request('fail').catch((thrown: unknown) => thrown)) as LineError;
    expect(error).toMatchObject({ message: 'planted', code: 'ERR_PLANTED' });
    await client.kill();
    await expect(client.request('addresses')).rejects.toThrow('has ended');
  });

  it('ends a program whose client goes away', async () => {
    const client = new LineClient<EchoMethods, EchoEvent>(
      cluster.node(1).spawn(process.execPath, [program.path], { stdio: 'pipe' }),
    );
    await client.request('echo', { text: 'up' });
    client.child.stdin!.end();
    expect((await client.exited).code).toBe(0);
  });
});

describeCluster('the end of a cluster', () => {
  it('leaves nothing behind, whatever state its nodes are in', async () => {
    const cluster = await startCluster({ nodes: 2 });
    const pids = cluster.nodes.map(({ pid }) => pid!);
    const names = cluster.nodes.map(({ namespace }) => namespace);
    const sleeper = cluster.node(1).spawn('sleep', ['1000']);
    cluster.pauseCorosync(1);
    await cluster.destroy();
    await cluster.destroy();
    expect(pids.flatMap(sharedMemoryOf)).toEqual([]);
    expect(namespaces().filter((name) => names.includes(name))).toEqual([]);
    expect(existsSync(cluster.directory)).toBe(false);
    await waitUntil('the program ends', () => sleeper.signalCode === 'SIGKILL', 20_000);
  });

  it('comes with the end of the process, and what a killed one left is removed by the next', async () => {
    const program = await buildProgram(path('owner.ts'), path('../build'));
    try {
      for (const signal of ['SIGINT', 'SIGKILL'] as const) {
        const owner = new LineClient<{ exit(): void }, { namespace: string; directory: string; pid: number }>(
          spawn(process.execPath, [program.path], { stdio: 'pipe' }),
        );
        await owner.until('its cluster is up', (events) => events.length === 1);
        const { namespace, directory, pid } = owner.events[0]!;
        expect(namespaces()).toContain(namespace);
        owner.child.kill(signal);
        expect((await owner.exited).signal).toBe(signal);
        await waitUntil('its corosync ends', () => !existsSync(`/proc/${pid}`), 20_000);
        if (signal === 'SIGKILL') await (await startCluster({ nodes: 1 })).destroy();
        expect(namespaces()).not.toContain(namespace);
        expect(existsSync(directory)).toBe(false);
        expect(sharedMemoryOf(pid)).toEqual([]);
      }
    } finally {
      program.remove();
    }
  });
});
