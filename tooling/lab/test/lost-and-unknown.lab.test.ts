import { RequestType } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { disk, legsEqual, type Machine, mirrorTable, regionsThatDiffer } from '../src/index.js';
import type { FaultLine, RequestFault, RequestFaultKind } from '../src/request-faults.js';
import { type Daemon, startSingled } from '../src/singled.js';
import { decodeDiskLog, useLab } from './support.js';

/** What the kernel does when answers get lost, and when a log is unknown: every request type suffers each fault once, in a mirror of its own. */
const lab = useLab();

const REGION_SECTORS = 128; // 64 KiB
const REGIONS = 6;
const MIRROR_SECTORS = REGIONS * REGION_SECTORS;
const LOG_SECTORS = 16;

const KINDS = ['loseReply', 'loseRequest', 'unknown'] as const;

/** Which request of its type suffers: not the first where a later one finds the mirror deeper in its work. */
const NTH: Readonly<Partial<Record<keyof typeof RequestType, number>>> = {
  CTR: 1,
  DTR: 1,
  PRESUSPEND: 1,
  POSTSUSPEND: 1,
  RESUME: 1,
  GET_REGION_SIZE: 1,
  IN_SYNC: 3,
  FLUSH: 2,
  MARK_REGION: 2,
  CLEAR_REGION: 2,
  GET_RESYNC_WORK: 3,
  SET_REGION_SYNC: 2,
  GET_SYNC_COUNT: 2,
  STATUS_INFO: 1,
  IS_REMOTE_RECOVERING: 1,
};

/** In userspace/dm-log-userspace-base.c of 6.1 nobody sends these: IS_CLEAN's answer is a constant, STATUS_TABLE's is the stored table line. */
const NEVER_ASKED = ['IS_CLEAN', 'STATUS_TABLE'];

interface Patient {
  readonly name: string;
  readonly request: string;
  readonly kind: RequestFaultKind;
  readonly log: 'core' | 'disk';
  readonly fault: RequestFault;
  /** Where its legs begin on the two disks. */
  readonly startSector: number;
}

const patients: Patient[] = (['core', 'disk'] as const)
  .flatMap((log) =>
    // A request that is lost never reaches a log: one log type stands for both.
    KINDS.filter((kind) => kind !== 'loseRequest' || log === 'disk').flatMap((kind) =>
      Object.entries(NTH).map(([request, nth]) => {
        const name = `${log}-${kind}-${request}`;
        const type = RequestType[request as keyof typeof RequestType];
        return { name, request, kind, log, fault: { type, nth, uuid: name }, startSector: 0 };
      }),
    ),
  )
  .map((patient, index) => ({ ...patient, startSector: index * MIRROR_SECTORS }));

/** IS_REMOTE_RECOVERING is asked while a resync runs, and of one mirror in 250 ms: these legs are slow enough that all get their turn. */
const SLOW_LEG_MS = 300;
const isSlow = ({ request }: Patient) => request === 'IS_REMOTE_RECOVERING';

function tableOf(machine: Machine, patient: Patient): string {
  const { name, log, startSector } = patient;
  const legs = ['leg0', 'leg1'].map((leg) =>
    isSlow(patient)
      ? { device: `/dev/mapper/slow-${leg}-${name}`, offsetSectors: 0 }
      : { device: machine.device(leg), offsetSectors: startSector },
  );
  const args = log === 'disk' ? [`/dev/mapper/log-${name}`, REGION_SECTORS] : [REGION_SECTORS];
  const features = ['handle_errors'] as const;
  return mirrorTable({
    lengthSectors: MIRROR_SECTORS,
    log: { kind: 'userspace', uuid: name, type: log, args },
    legs,
    features,
  });
}

/** One mirror's life, with `$1` its name; every line that a fault delays is delayed for this mirror only. */
const STORY = `
set -e
m=$1 d=/dev/mapper/$1 p=/run/tmp/$1.data
create() { dmsetup create $m < /run/tmp/$m.table; }
verified_write() {
  dd if=/dev/urandom of=$p bs=64k count=$2 status=none
  dd if=$p of=$d bs=64k seek=$1 oflag=direct status=none
  dd if=$d bs=64k skip=$1 count=$2 iflag=direct status=none | cmp - $p
}
case $2 in
live)
  create || { echo "create failed"; create; }
  # Asked at writes above the hint: the last region is recovered last.
  case $m in *IS_REMOTE_RECOVERING) verified_write 5 1 ;; esac
  dmsetup wait $m
  verified_write 2 2
  dmsetup suspend $m
  dmsetup resume $m
  # The full count tells the kernel that nothing is being recovered: no question before the write, and no turn to wait for.
  dmsetup status $m > /dev/null
  verified_write 1 3
  dmsetup status $m
  ;;
remove)
  dmsetup remove $m
  # A second life: whatever the daemon may have kept of the first does not stand in its way.
  case $m in *unknown-*TR|*unknown-*SUSPEND|*unknown-RE*|*unknown-GET_REGION*) create; dmsetup wait $m; dmsetup remove $m ;; esac
  ;;
esac
echo "fine: $m"
`;

/** Plays a part of the story in all mirrors at once; returns what each said. */
async function playAll(machine: Machine, part: 'live' | 'remove'): Promise<Map<string, string>> {
  const names = patients.map(({ name }) => name).join(' ');
  const { stdout } = await machine.run(
    `for m in ${names}; do sh /run/tmp/story.sh $m ${part} > /run/tmp/$m.said 2>&1 & done; wait
     for m in ${names}; do echo "== $m"; cat /run/tmp/$m.said; done`,
    { timeoutMs: 160_000 },
  );
  const said = new Map<string, string>();
  for (const text of stdout.split('== ').slice(1)) said.set(text.slice(0, text.indexOf('\n')), text);
  return said;
}

async function prepare(machine: Machine): Promise<void> {
  await machine.run('cat > /run/tmp/story.sh', { input: STORY });
  const script = patients.flatMap((patient, index) => {
    const lines = [`echo '${tableOf(machine, patient)}' > /run/tmp/${patient.name}.table`];
    if (isSlow(patient))
      for (const leg of ['leg0', 'leg1']) {
        const slow = `0 ${MIRROR_SECTORS} delay ${machine.device(leg)} ${patient.startSector} ${SLOW_LEG_MS}`;
        lines.push(`echo '${slow}' | dmsetup create slow-${leg}-${patient.name}`);
      }
    if (patient.log === 'disk') {
      const log = `0 ${LOG_SECTORS} linear ${machine.device('log')} ${index * LOG_SECTORS}`;
      lines.push(`echo '${log}' | dmsetup create log-${patient.name}`);
    }
    return lines;
  });
  await machine.run(['set -e', ...script].join('\n'));
}

function faultsOf(kind: RequestFaultKind): RequestFault[] {
  return patients.filter((patient) => patient.kind === kind).map(({ fault }) => fault);
}

/** Waits until what lazy clear holds back has become clean. */
async function allClean(singled: Daemon): Promise<void> {
  const dirty = async () =>
    (await singled.status()).logs.filter((log) => log.state === 'live' && log.dirtyCount > 0);
  await expect.poll(dirty, { timeout: 60_000, interval: 1000 }).toEqual([]);
}

describe('lost replies, lost requests and unknown logs', () => {
  it('every request type suffers each: no I/O error, nothing lost, all in sync, legs equal', async () => {
    expect([...Object.keys(NTH), ...NEVER_ASKED].sort()).toEqual(Object.keys(RequestType).sort());
    const legBytes = patients.length * MIRROR_SECTORS * 512;
    const disks = {
      leg0: disk(legBytes),
      leg1: disk(legBytes),
      log: disk(patients.length * LOG_SECTORS * 512),
    };
    disks.leg0.randomize(1);
    disks.leg1.randomize(2);
    const machine = await lab().boot({ disks, memoryMiB: 384, modules: ['dm-delay'] });
    const singled = await startSingled(machine, {
      faults: {
        loseReply: faultsOf('loseReply'),
        loseRequest: faultsOf('loseRequest'),
        unknown: faultsOf('unknown'),
      },
    });
    await prepare(machine);

    const lived = await playAll(machine, 'live');
    for (const { name, request, kind, log } of patients) {
      const text = lived.get(name);
      expect(text, name).toContain(`fine: ${name}`);
      expect(text, name).toMatch(
        new RegExp(`${REGIONS}/${REGIONS} 1 AA ${log === 'core' ? '1 core' : '3 disk \\d+:\\d+ A'}\n`),
      );
      const refused = kind === 'unknown' && (request === 'CTR' || request === 'GET_REGION_SIZE');
      expect(text?.includes('create failed'), name).toBe(refused);
    }
    const live = async () => (await singled.status()).logs.filter(({ state }) => state === 'live');
    await allClean(singled);
    const byUuid = (a: { uuid: string }, b: { uuid: string }) => (a.uuid < b.uuid ? -1 : 1);
    expect(
      (await live())
        .map(({ uuid, inSyncCount, lazyCount, recovering }) => ({ uuid, inSyncCount, lazyCount, recovering }))
        .sort(byUuid),
    ).toEqual(
      patients
        .map(({ name }) => ({ uuid: name, inSyncCount: REGIONS, lazyCount: 0, recovering: null }))
        .sort(byUuid),
    );

    for (const [name, text] of await playAll(machine, 'remove'))
      expect(text, name).toContain(`fine: ${name}`);
    // A log whose DTR was answered "unknown", or that was never used because GET_REGION_SIZE was, is left over, unless its luid came again.
    const left = (await singled.status()).logs.map(({ uuid }) => uuid);
    expect(left.filter((uuid) => !/-unknown-(DTR|GET_REGION_SIZE)$/.test(uuid))).toEqual([]);
    const dmesg = await machine.dmesg();
    expect(dmesg).not.toMatch(/I\/O error|Insufficient space/);

    const lines = singled.lines() as unknown as FaultLine[];
    for (const { name, request, kind } of patients) {
      const about = lines.filter((line) => line.uuid === name);
      expect(
        about.filter(({ msg }) => msg === 'fault struck'),
        name,
      ).toHaveLength(1);
      const sameLog = kind !== 'unknown' || !['CTR', 'GET_REGION_SIZE', 'DTR'].includes(request);
      expect(
        about.filter(({ msg }) => msg === 'fault passed'),
        name,
      ).toMatchObject([{ newSeq: true, samePayload: true, sameLog }]);
    }
    await singled.stop();
    await machine.halt();
    const [leg0, leg1] = [disks.leg0.read(), disks.leg1.read()];
    const differ = patients.filter(({ startSector }) => {
      const [from, to] = [startSector * 512, (startSector + MIRROR_SECTORS) * 512];
      return !leg0.subarray(from, to).equals(leg1.subarray(from, to));
    });
    expect(differ).toEqual([]);
  }, 300_000);

  it('the daemon is killed under a light load and started again without its runtime state: the kernel reconnects, I/O goes on, nothing is wrongly in sync or clean', async () => {
    const disks = { d0: disk('16M'), d1: disk('16M'), log: disk('1M'), c0: disk('16M'), c1: disk('16M') };
    for (const [seed, leg] of [disks.d0, disks.d1, disks.c0, disks.c1].entries()) leg.randomize(seed + 1);
    const machine = await lab().boot({ disks });
    const killed = await startSingled(machine);
    await machine.dmCreate('d', bigTable(machine, 'disk', ['d0', 'd1']));
    await machine.dmCreate('c', bigTable(machine, 'core', ['c0', 'c1']));
    for (const name of ['d', 'c']) await machine.waitInSync(name);
    await allClean(killed);
    const loads = await Promise.all(['d', 'c'].map((name) => machine.start(`sh -c '${lightLoad(name)}'`)));
    const writes = () => loads.map((load) => load.output().split('verified').length - 1);
    const wroteMore = async (count: number) => {
      const before = writes();
      await expect
        .poll(() => writes().every((now, index) => now >= (before[index] as number) + count), {
          timeout: 120_000,
        })
        .toBe(true);
    };

    await wroteMore(5);
    await killed.stop('SIGKILL');
    // Nobody listens: the kernel is told so at once, and tries to reconnect every 2 s.
    await machine.run('rm -r /run/dmlog/state; sleep 3');
    const singled = await startSingled(machine);
    await wroteMore(5);
    expect(reconnects(singled)).toEqual(['LVM-c', 'LVM-d']);
    const core = (await singled.status()).logs.find(({ uuid }) => uuid === 'LVM-c');
    expect(core).toMatchObject({ state: 'live', inSyncCount: 0 });

    await machine.run('touch /run/tmp/enough');
    for (const load of loads) expect(await load.exited).toBe(0);
    // Whatever differs is dirty on the medium: nothing is wrongly clean.
    const differ = regionsThatDiffer(disks.d0, disks.d1, BIG_REGION_SECTORS * 512, BIG_REGIONS);
    const { dirtyRegions } = decodeDiskLog(disks.log.read(), BIG_REGIONS);
    expect(differ.filter((region) => !dirtyRegions.includes(region))).toEqual([]);
    // The kernel remembers "all in sync" (in_sync_hint) until RESUME: then it asks for what this daemon could not believe.
    for (const name of ['d', 'c']) {
      await machine.dmSuspend(name);
      await machine.dmResume(name);
      expect((await machine.waitInSync(name)).legHealth).toBe('AA');
    }
    for (const name of ['d', 'c']) {
      await machine.run(`for i in 0 1 2 3 4 5 6 7; do ${sameAsWritten(name)} || exit 1; done`);
      await machine.dmRemove(name);
    }
    expect((await singled.status()).logs).toEqual([]);
    expect(await machine.dmesg()).not.toMatch(/I\/O error|Insufficient space/);
    await singled.stop();
    await machine.halt();
    expect(legsEqual(disks.d0, disks.d1)).toBe(true);
    expect(legsEqual(disks.c0, disks.c1)).toBe(true);
  });
});

const BIG_REGION_SECTORS = 1024;
const BIG_REGIONS = 32;

function bigTable(machine: Machine, type: 'core' | 'disk', legs: readonly string[]): string {
  return mirrorTable({
    lengthSectors: BIG_REGIONS * BIG_REGION_SECTORS,
    log: {
      kind: 'userspace',
      uuid: `LVM-${type[0]}`,
      type,
      args: type === 'disk' ? [machine.device('log'), BIG_REGION_SECTORS] : [BIG_REGION_SECTORS],
    },
    legs: legs.map((leg) => machine.device(leg)),
    features: ['handle_errors'],
  });
}

/** Compares place `$i` with what was written there last, if anything was; by direct I/O. */
const sameAsWritten = (name: string) =>
  `{ [ ! -e /run/tmp/${name}.$i ] || dd if=/dev/mapper/${name} bs=64k skip=$((i * 31)) count=1 iflag=direct status=none | cmp - /run/tmp/${name}.$i; }`;

/** Writes to eight places in turn, each in a region of its own, a few times a second, and reads each write back. */
const lightLoad = (name: string) => `
set -e; n=0
while [ ! -e /run/tmp/enough ]; do
  i=$((n % 8)); n=$((n + 1))
  dd if=/dev/urandom of=/run/tmp/${name}.$i bs=64k count=1 status=none
  dd if=/run/tmp/${name}.$i of=/dev/mapper/${name} bs=64k seek=$((i * 31)) oflag=direct conv=notrunc status=none
  ${sameAsWritten(name)}
  echo verified; sleep 0.2
done`;

/** The logs that the kernel has reconnected to since this daemon's start, by uuid: made anew, or found again. */
function reconnects(singled: Daemon): unknown[] {
  const lines = singled
    .lines()
    .filter(
      ({ msg, reconnected }) =>
        (msg === 'log created' && reconnected === true) || /^the kernel reconnected/.test(String(msg)),
    );
  return [...new Set(lines.map(({ uuid }) => uuid))].sort();
}
