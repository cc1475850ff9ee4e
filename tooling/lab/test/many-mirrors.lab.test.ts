import { expect, it } from 'vitest';
import { mirrorTable } from '../src/index.js';
import { startSingled } from '../src/singled.js';
import { useLab } from './support.js';

const lab = useLab();

const LEG_BYTES = 8 << 20;
const SECTORS = LEG_BYTES / 512;
const REGION_SECTORS = 32; // 16 KiB: 512 regions
const REGION_COUNT = SECTORS / REGION_SECTORS;
/** Half of them keep their log in memory, half on a device. */
const MIRRORS = Array.from({ length: 8 }, (_, index) => ({
  name: `m${index}`,
  legs: [`/dev/ram${2 * index}`, `/dev/ram${2 * index + 1}`] as const,
  log: {
    kind: 'userspace',
    uuid: `many-${index}`,
    type: index < 4 ? 'core' : 'disk',
    args: index < 4 ? [REGION_SECTORS] : [`/dev/ram${16 + index - 4}`, REGION_SECTORS],
  } as const,
}));

it('serves 8 mirrors at once under verified writes and a full resync, and their legs are equal', async () => {
  const machine = await lab().boot({ memoryMiB: 512, modules: [`brd rd_nr=20 rd_size=${LEG_BYTES / 1024}`] });
  const singled = await startSingled(machine, { args: ['--log-level', 'info'] });
  const fill = MIRRORS.map(
    ({ legs: [truth] }) => `dd if=/dev/urandom of=${truth} bs=1M count=8 oflag=direct`,
  );
  await machine.run(fill.join(' && '));
  // At a hundredth of its speed, until all write: none must be in sync before. (kcopyd's throttle, drivers/md/dm-raid1.c.)
  const throttle = (percent: number) =>
    machine.run(`echo ${percent} >/sys/module/dm_mirror/parameters/raid1_resync_throttle`);
  await machine.run('modprobe dm-mirror');
  await throttle(1);
  const create = MIRRORS.map(({ name, legs, log }) => {
    const table = mirrorTable({ lengthSectors: SECTORS, log, legs, features: ['handle_errors'] });
    return `dmsetup create ${name} --table '${table}'`;
  });
  await machine.run(create.join(' && '));
  const jobs = MIRRORS.map(
    ({ name }, index) => `--name=${name} --filename=/dev/mapper/${name} --randseed=${index}`,
  );
  const fio = await machine.start(
    'fio --rw=randwrite --bs=4k --size=8m --io_size=2m --direct=1 --ioengine=libaio --iodepth=4 --thread ' +
      `--verify=crc32c --do_verify=1 --verify_fatal=1 --output-format=json ${jobs.join(' ')}`,
  );
  const before = await Promise.all(MIRRORS.map(({ name }) => machine.dmStatus(name)));
  expect(before.filter(({ inSyncCount }) => inSyncCount < REGION_COUNT).length).toBeGreaterThanOrEqual(
    MIRRORS.length / 2,
  );
  expect(fio.running).toBe(true);
  await throttle(100);

  expect(await fio.exited, fio.output()).toBe(0);
  const printed = fio.output();
  const report = JSON.parse(printed.slice(printed.indexOf('{'), printed.lastIndexOf('}') + 1)) as {
    jobs: { error: number; write: { total_ios: number }; read: { total_ios: number } }[];
  };
  expect(report.jobs.map(({ error }) => error)).toEqual(MIRRORS.map(() => 0));
  for (const { write, read } of report.jobs) {
    expect(write.total_ios).toBe((2 << 20) / 4096);
    // Each block is read back and its checksum compared.
    expect(read.total_ios).toBeGreaterThanOrEqual(write.total_ios);
  }
  for (const { name } of MIRRORS) {
    expect(await machine.waitInSync(name, 120_000)).toMatchObject({
      regionCount: REGION_COUNT,
      legHealth: 'AA',
    });
  }
  const { logs, transport } = await singled.status();
  expect(logs.map(({ state, inSyncCount }) => [state, inSyncCount])).toEqual(
    MIRRORS.map(() => ['live', REGION_COUNT]),
  );
  expect(transport).toMatchObject({ overruns: 0, handlerFaults: 0, malformed: 0, unknownLogs: 0, silent: 0 });
  for (const { name } of MIRRORS) await machine.dmRemove(name);
  const compare = MIRRORS.map(({ legs }) => `cmp ${legs.join(' ')}`);
  await machine.run(compare.join(' && '));
  expect((await singled.status()).logs).toEqual([]);
  await singled.stop();
  await machine.halt();
});
