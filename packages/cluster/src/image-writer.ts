import { RegionBitmap } from '@dmlog/bitmap';
import { adoptBits, BITMAP_OFFSET, imageBytes, type SyncMode } from '@dmlog/log';
import type { ClusterEffects } from './cluster-effects.js';
import { type Entry, EntryType, runEntries } from './entries.js';
import { ImageKeeper } from './image-keeper.js';
import type { Member } from './member.js';

/** After a failed read or write, the next attempt comes this much later. */
const RETRY_MS = 1000;

export interface ImageWriterInit {
  readonly regionCount: number;
  readonly syncMode: SyncMode;
  /** Unit of writes, in bytes. */
  readonly blockBytes: number;
  /** Memory that outlives the process for what the image may lack, with what an earlier one left. */
  readonly kept?: { readonly clearsYoung: RegionBitmap; readonly clearsOld: RegionBitmap } | null;
}

/** Why the image is being read. */
type Reading = 'no' | 'founding' | 'taking over';

/**
 * The disk image as one member sees it: reads it when it founds the log or takes the image over from a writer that is gone, keeps it while it is the writer (design
 * rule 17), and otherwise remembers which clears the writer may not have written yet.
 */
export class ImageWriter {
  keeper: ImageKeeper | null = null;
  /** The image is of a kind that must not be overwritten, or its device cannot be used. */
  refused = false;
  deviceStatus: 'A' | 'D' = 'A';
  /** The image is about to be handed over: no write is begun. */
  paused = false;
  readonly #init: ImageWriterInit;
  #reading: Reading = 'no';
  /** What is being read may be older than what somebody else has written: it is read again. */
  #readIsVoid = false;
  /** The log is to be founded on the image, which could not be read at once. */
  #isToFound = false;
  /** The state knows all that was on the image when it was read last: nothing that is dirty there now is news. */
  #knowsAll = false;
  /** Memory that was read into; becomes the keeper's. */
  #image: Uint8Array | null = null;
  #adopting = 0;
  #retryAtMs = 0;
  #nowMs = 0;
  #failed = 0;
  /** Of whatever keeper: a state that is replaced does not end a write. */
  #writeUnderWay = false;
  /** Regions cleared in the state, perhaps not on the image: two generations, the older of which ends at `#olderUpTo`. */
  #younger: RegionBitmap;
  #older: RegionBitmap;
  #olderUpTo = 0;
  /** Regions that became dirty in this step. */
  readonly #dirtied = new Set<number>();

  constructor(init: ImageWriterInit) {
    this.#init = init;
    const bitmap = () => new RegionBitmap(init.regionCount, { searchZeros: false });
    this.#younger = init.kept?.clearsYoung ?? bitmap();
    this.#older = init.kept?.clearsOld ?? bitmap();
    // Up to where the image has them is not known any more.
    for (let r = this.#older.nextOne(0); r >= 0; r = this.#older.nextOne(r + 1)) this.#younger.set(r);
    this.#empty(this.#older);
  }

  get imageBytes(): number {
    return imageBytes(this.#init.regionCount, this.#init.blockBytes);
  }

  get needsTick(): boolean {
    return this.#retryAtMs > 0 || (this.keeper !== null && !this.keeper.idle);
  }

  /** The image is in order, and this member does nothing to it. */
  get isQuiet(): boolean {
    return this.keeper !== null && !this.#writeUnderWay && this.#reading === 'no';
  }

  // What the state says

  /** A node that was taken for dead is back: if it was the writer, a write of it may have reached the image meanwhile. */
  returned(): void {
    this.mistrust();
  }

  /** Such a write has ended just now. */
  wroteLate(): void {
    this.mistrust();
  }

  dirtied(region: number): void {
    this.keeper?.dirtied(region);
    this.#dirtied.add(region);
  }

  /** The state is as safe as it gets. Only now the clears before this node's last step may be forgotten: who restores the step before needs them. */
  kept(): void {
    for (const region of this.#dirtied) {
      if (this.#younger.count > 0) this.#younger.clear(region);
      if (this.#older.count > 0) this.#older.clear(region);
    }
    this.#dirtied.clear();
  }

  cleaned(region: number): void {
    this.keeper?.cleaned(region);
    this.#dirtied.delete(region);
    this.#younger.set(region);
  }

  /** The state was replaced: what was known of the image is void, unless the state was `founded` on it. */
  forget(founded = false): void {
    const image = this.#image;
    this.letGo();
    if (founded) this.#image = image;
    this.#empty(this.#younger);
    this.#empty(this.#older);
  }

  /** Somebody else may have written the image since it was read, with what he knew: it is read again, and written where it differs from the state. */
  mistrust(): void {
    this.#knowsAll ||= this.keeper !== null;
    this.keeper = null;
    this.#image = null;
    this.#readIsVoid = this.#reading !== 'no';
  }

  /** The group is gone; the state may be found again. */
  letGo(): void {
    this.mistrust();
    this.#knowsAll = false;
    this.#isToFound = false;
    this.#adopting = 0;
    // Positions may be other ones when the state is found again: what is old by the count of today is young again.
    for (let r = this.#older.nextOne(0); r >= 0; r = this.#older.nextOne(r + 1)) this.#younger.set(r);
    this.#empty(this.#older);
    this.#olderUpTo = 0;
  }

  // Founding and taking over

  found(effects: ClusterEffects): void {
    this.#isToFound = true;
    this.#read('founding', effects);
  }

  /** After each change: begins what this member, as the writer or not, has to do now. */
  step(member: Member, effects: ClusterEffects): void {
    const { state } = member;
    if (this.#isToFound && member.phase === 'founding') return this.#read('founding', effects);
    if (state === null || member.phase !== 'active') return;
    this.#noteClears(member, state.position);
    if (member.writer !== member.self.nodeId) {
      this.keeper = null;
      this.#image = null;
      this.#knowsAll = false;
      return;
    }
    if (this.refused) return;
    if (this.keeper === null) {
      if (this.#adopting > 0) return;
      if (this.#image === null) return this.#read('taking over', effects);
      this.#keep(member);
    }
    this.keeper?.advance(state.position);
    this.#write(state.position, effects);
    this.#tell(member);
  }

  /**
   * The image was read, or could not be (`errno` > 0). While founding, returns the bits to begin with (null: none) in `found`; while taking over,
   * `entries` to submit.
   */
  imageRead(
    image: Uint8Array,
    errno: number,
    member: Member,
  ): { found?: RegionBitmap | null; entries?: Entry[]; problem?: string } {
    const [reading, isVoid] = [this.#reading, this.#readIsVoid];
    this.readInVain();
    if (isVoid) return {};
    if (reading === 'founding') return this.#founded(image, errno);
    if (reading !== 'taking over' || member.state === null) return {};
    if (errno !== 0) {
      this.deviceStatus = 'D';
      this.#retryAtMs = this.#nowMs + RETRY_MS;
      this.#failed = member.state.position;
      this.#tell(member);
      return { problem: 'the log device cannot be read' };
    }
    this.#image = image;
    // Who hands over knows of every mark that it has written.
    const knowsAll = member.state.handedOver || this.#knowsAll;
    this.#knowsAll = false;
    const found = knowsAll ? null : this.#unknownDirty(image, member.state.clean);
    if (found === null) return {};
    return { entries: runEntries(EntryType.FOUND_DIRTY, found) };
  }

  /** The number of the last message with what {@link imageRead} found: the image is kept from then on. */
  adoptAfter(number: number): void {
    this.#adopting = number;
  }

  applied(number: number): void {
    if (number === 0 || number !== this.#adopting) return;
    this.#adopting = 0;
  }

  /** A read has ended after the group was left: what it was for is void. */
  readInVain(): void {
    this.#reading = 'no';
    this.#readIsVoid = false;
  }

  /** A write has ended after the group was left. */
  writtenInVain(): void {
    this.#writeUnderWay = false;
  }

  /** False for a write that was begun for another state, or before somebody else took the image over: what it has put there may be wrong by now. */
  written(errno: number, member: Member, effects: ClusterEffects): boolean {
    this.#writeUnderWay = false;
    const { keeper } = this;
    if (member.state === null) return false;
    const { position } = member.state;
    if (keeper === null || !keeper.writing) {
      this.step(member, effects);
      return false;
    }
    keeper.written(errno === 0, position);
    this.deviceStatus = errno === 0 ? 'A' : 'D';
    this.#failed = errno === 0 ? 0 : position;
    this.#retryAtMs = errno === 0 ? 0 : this.#nowMs + RETRY_MS;
    this.step(member, effects);
    this.#tell(member);
    return true;
  }

  tick(nowMs: number, member: Member, effects: ClusterEffects): void {
    this.#nowMs = nowMs;
    if (nowMs < this.#retryAtMs) return;
    this.#retryAtMs = 0;
    this.step(member, effects);
  }

  /** Everything is on the image, up to now. */
  isComplete(member: Member): boolean {
    if (this.refused || member.writer !== member.self.nodeId) return true;
    return this.keeper?.idle === true && this.keeper.clears >= (member.state?.position ?? 0);
  }

  #founded(image: Uint8Array, errno: number): { found: RegionBitmap | null; problem?: string } {
    if (errno !== 0) {
      // Nothing is in sync; every block has to be written.
      this.deviceStatus = 'D';
      image.fill(0);
      image.fill(0xff, BITMAP_OFFSET);
      this.#image = image;
      return { found: null, problem: 'the log device cannot be read: no region is taken to be in sync' };
    }
    const clean = new RegionBitmap(this.#init.regionCount, { searchOnes: false });
    const refusal = adoptBits(image, this.#init.regionCount, this.#init.syncMode, clean);
    if (refusal !== null) {
      this.refused = true;
      this.deviceStatus = 'D';
      return { found: null, problem: refusal };
    }
    this.#image = image;
    return { found: clean };
  }

  #keep(member: Member): void {
    const { state } = member;
    if (state === null || this.#image === null) return;
    this.keeper = new ImageKeeper(this.#image, this.#init.blockBytes, state.clean);
    this.#image = null;
  }

  #read(why: Reading, effects: ClusterEffects): void {
    if (this.#reading !== 'no' || this.#retryAtMs > 0 || this.#writeUnderWay) return;
    this.#reading = why;
    this.#isToFound = false;
    effects.readImage = true;
  }

  #write(position: number, effects: ClusterEffects): void {
    if (this.#retryAtMs > 0 || this.#writeUnderWay || this.paused) return;
    if (this.keeper?.begin(position, true) !== true) return;
    this.#writeUnderWay = true;
    effects.write = true;
  }

  #tell(member: Member): void {
    const marks = this.keeper?.marks ?? member.disk.marks;
    const clears = this.keeper?.clears ?? member.disk.clears;
    const known = member.disk;
    if (marks === known.marks && clears === known.clears && this.#failed === known.failed) return;
    member.wroteDisk({ marks, clears, failed: this.#failed });
  }

  /** The writer has said how far its clears are: what is older is on the image. */
  #noteClears(member: Member, position: number): void {
    if (this.#olderUpTo > 0 && member.disk.clears < this.#olderUpTo) return;
    if (this.#older.count === 0 && this.#younger.count === 0) return;
    const older = this.#older;
    this.#empty(older);
    this.#older = this.#younger;
    this.#younger = older;
    this.#olderUpTo = position;
  }

  /** Costs as much as there is to clear. */
  #empty(bitmap: RegionBitmap): void {
    for (let r = bitmap.nextOne(0); r >= 0; r = bitmap.nextOne(r + 1)) bitmap.clear(r);
  }

  /** Regions that the image calls dirty, the state clean, and no clear explains: marks of a dead node that only the dead writer got. Null if there are none. */
  #unknownDirty(image: Uint8Array, clean: RegionBitmap): RegionBitmap | null {
    const onImage = new RegionBitmap(this.#init.regionCount);
    onImage.load(image.subarray(BITMAP_OFFSET));
    const found = new RegionBitmap(this.#init.regionCount);
    found.copyFrom(clean);
    found.andNot(onImage);
    found.andNot(this.#younger);
    found.andNot(this.#older);
    return found.count === 0 ? null : found;
  }
}
