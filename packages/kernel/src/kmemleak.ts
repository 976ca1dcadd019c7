/**
 * The kernel's search for memory that nobody can reach: every block is known by its address; a scan looks for words that point
 * into one, from the roots on, and what no word points to is a leak.
 *
 * ```
 *   white   too few words point to it                        reported, when it is old enough
 *   grey    enough do, or it is no leak whatever (count 0)   what it holds is scanned
 *   black   it is no leak and holds nothing (count −1)       neither
 * ```
 *
 * The roots are the data sections of modules and the stacks of tasks. Blocks that the kernel itself allocated are grey: the
 * structures that hold them are the host's, so that no word in simulated memory has to. Blocks of a module must be reachable,
 * as on Linux. Pages of the page allocator are neither known nor scanned, as there. Scans are made when asked for: no thread
 * makes them.
 *
 * @linux mm/kmemleak.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { PhysicalMemory, VirtualClock } from '@pagelab/hw';
import { RangeTree } from '@pagelab/lib';
import { SLAB_NOLEAKTRACE } from '@pagelab/slab';
import type { DirectMap, SlabObserver } from '@pagelab/slab';
import { crc32 } from './crc32.ts';
import type { Kernel } from './kernel.ts';
import { leakText } from './kmemleak-text.ts';

/** Blocks younger than this are not reported, in ms. @linux mm/kmemleak.c:MSECS_MIN_AGE */
const MSECS_MIN_AGE = 5000;
const JIFFY_MS = 4;

/** A block that is known. @linux mm/kmemleak.c:kmemleak_object */
export interface KmemleakObject {
  /** Its address, or per-CPU pointer. */
  readonly pointer: number;
  readonly size: number;
  readonly isPercpu: boolean;
  /** Words that must point to it; 0: it is no leak; −1: nor is it scanned. */
  minCount: number;
  /** Words that the scan found. */
  count: number;
  isReported: boolean;
  noScan: boolean;
  /** CRC of what it held at the last scan. */
  checksum: number;
  /** When it was allocated, in jiffies of 4 ms since boot; and by whom. */
  readonly jiffies: number;
  readonly comm: string;
  readonly pid: number;
  /** Functions that were being called, the innermost first. */
  readonly trace: readonly string[];
}

/** A leak. */
export interface KmemleakReport {
  readonly address: number;
  readonly size: number;
  /** Whether `address` is a per-CPU pointer. */
  readonly isPercpu: boolean;
  /** Milliseconds since it was allocated. */
  readonly ageMs: number;
  readonly comm: string;
  readonly pid: number;
  readonly backtrace: readonly string[];
  /** As `/sys/kernel/debug/kmemleak` has it. */
  readonly text: string;
}

export class Kmemleak implements SlabObserver {
  /** Whether blocks are noted. Once off it stays off. */
  enabled = true;
  /** Whether stacks are roots. */
  scansStacks = true;
  /** Whose blocks they are that are allocated now: a module's must be reachable. */
  owner: 'kernel' | 'module' = 'kernel';

  readonly #clock: VirtualClock;
  readonly #ram: PhysicalMemory;
  readonly #memory: DirectMap;
  #kernel: Kernel | null = null;
  readonly #objects = new RangeTree<KmemleakObject>();
  readonly #percpu = new RangeTree<KmemleakObject>();
  #gray: KmemleakObject[] = [];
  #lastScan = 0;

  constructor(clock: VirtualClock, ram: PhysicalMemory, memory: DirectMap) {
    this.#clock = clock;
    this.#ram = ram;
    this.#memory = memory;
  }

  /** The kernel that it is of, once that is there. */
  attach(kernel: Kernel): void {
    this.#kernel = kernel;
  }

  /** Runs what allocates for the kernel itself, whoever asked for it. */
  ofKernel<T>(body: () => T): T {
    const { owner } = this;
    this.owner = 'kernel';
    try {
      return body();
    } finally {
      this.owner = owner;
    }
  }

  /** In jiffies since boot. */
  get jiffies(): number {
    return Math.floor(this.#clock.now / (JIFFY_MS * 1e6));
  }

  // --------------------------------------------------------------------------------------------------- what is known

  /** Of the slab layer. */
  alloc(object: VirtAddr, size: number, flags: number): void {
    if (!this.enabled || (flags & SLAB_NOLEAKTRACE) !== 0) return;
    // The kernel fills in the objects it takes; here the host's structures have what would be in them. What must not stay is
    // the pointer to the next free object, which would look like a reference.
    if (this.owner === 'kernel') this.#memory.fill(object, size, 0);
    this.add(object, size, 1);
  }

  free(object: VirtAddr): void {
    this.remove(object);
  }

  /** Notes a block of the owner. @param minCount words that must point to a module's @linux mm/kmemleak.c:kmemleak_alloc */
  add(pointer: number, size: number, minCount: number, isPercpu = false): void {
    if (!this.enabled || pointer === 0) return;
    const tree = isPercpu ? this.#percpu : this.#objects;
    // A block that was freed behind our back gives way.
    if (tree.overlaps(pointer, pointer + size)) tree.removeRange(pointer, pointer + size);
    const kernel = this.#kernel;
    const task = kernel?.current ?? null;
    const ofModule = this.owner === 'module';
    tree.insert(pointer, pointer + size, {
      pointer,
      size,
      isPercpu,
      minCount: ofModule ? minCount : 0,
      count: 0,
      isReported: false,
      noScan: false,
      checksum: 0,
      jiffies: this.jiffies,
      comm: ofModule ? 'insmod' : (task?.process.comm ?? 'swapper/0'),
      pid: ofModule ? (kernel?.modulePid ?? 0) : (task?.pid ?? 0),
      trace: kernel?.callTrace.save() ?? [],
    });
  }

  /** Forgets a block. @linux mm/kmemleak.c:kmemleak_free */
  remove(pointer: number, isPercpu = false): void {
    const tree = isPercpu ? this.#percpu : this.#objects;
    if (tree.get(pointer)?.pointer === pointer) tree.remove(pointer);
  }

  /** Paints a block: 0 grey, −1 black. @linux mm/kmemleak.c:paint_ptr */
  paint(pointer: number, minCount: 0 | -1): boolean {
    const object = this.#objects.get(pointer) ?? this.#percpu.get(pointer);
    if (object === undefined || object.pointer !== pointer) return false;
    object.minCount = minCount;
    if (minCount < 0) object.noScan = true;
    return true;
  }

  /** Never scans a block, to which words may point all the same. @linux mm/kmemleak.c:kmemleak_no_scan */
  noScan(pointer: number): boolean {
    const object = this.#objects.get(pointer);
    if (object === undefined || object.pointer !== pointer) return false;
    object.noScan = true;
    return true;
  }

  // --------------------------------------------------------------------------------------------------------- a scan

  /**
   * Looks for unreachable blocks. One whose contents changed since the last scan, a new one among them, waits for the next.
   *
   * @returns how many are new
   * @linux mm/kmemleak.c:kmemleak_scan
   */
  scan(): number {
    const kernel = this.#kernel!;
    this.#lastScan = this.jiffies;
    this.#gray = [];
    this.#forEach((object) => {
      object.count = 0;
      if (isGray(object)) this.#gray.push(object);
    });
    for (const { data } of kernel.modules.values()) for (const { address, bytes } of data) this.#scanBlock(address, bytes);
    if (this.scansStacks) for (const { begin, end } of this.#stacks(kernel)) this.#scanBlock(begin, end - begin);
    this.#scanGray();
    this.#forEach((object) => {
      if (!isWhite(object) || !this.#checksumChanged(object)) return;
      object.count = object.minCount;
      this.#gray.push(object);
    });
    this.#scanGray();
    let found = 0;
    this.#forEach((object) => {
      if (!this.#isLeak(object) || object.isReported) return;
      object.isReported = true;
      found += 1;
    });
    if (found > 0) kernel.log.print(`kmemleak: ${found} new suspected memory leaks (see /sys/kernel/debug/kmemleak)`);
    return found;
  }

  #stacks(kernel: Kernel): { begin: VirtAddr; end: VirtAddr }[] {
    const stacks = [...kernel.tasks.values()].map(({ objects }) => objects.stack);
    if (kernel.moduleThread !== null) stacks.push(kernel.moduleThread.stack);
    return stacks.filter((stack) => stack !== null);
  }

  #scanGray(): void {
    // The list grows while it is worked off.
    for (let i = 0; i < this.#gray.length; i++) {
      const object = this.#gray[i]!;
      if (object.noScan) continue;
      for (const at of this.#copies(object)) this.#scanBlock(at, object.size);
    }
    this.#gray = [];
  }

  /** Where a block lies: one of per-CPU memory once for each CPU. */
  #copies({ pointer, isPercpu }: KmemleakObject): VirtAddr[] {
    const { percpu } = this.#kernel!;
    return isPercpu ? Array.from({ length: percpu.nrUnits }, (_, cpu) => percpu.ptr(pointer, cpu)) : [pointer];
  }

  /** Counts the words of a block that point to another. @linux mm/kmemleak.c:scan_block */
  #scanBlock(start: VirtAddr, size: number): void {
    const { i32 } = this.#ram;
    const { wordBytes } = this.#memory;
    const end = start + size;
    let at = Math.ceil(start / wordBytes) * wordBytes;
    while (at + wordBytes <= end) {
      const inPage = at & (PAGE_SIZE - 1);
      const run = Math.min(PAGE_SIZE - inPage, end - at);
      let word = this.#hostByte(at) >>> 2;
      if (word >= 0) {
        const step = wordBytes / 4;
        for (let done = 0; done + wordBytes <= run; done += wordBytes, word += step) {
          const low = i32[word]! >>> 0;
          this.#point(step === 1 ? low : i32[word + 1]! * 2 ** 32 + low);
        }
      }
      at += run;
    }
  }

  /** A word may be a pointer, to anywhere in a block. @linux mm/kmemleak.c:pointer_update_refs */
  #point(pointer: number): void {
    if (pointer === 0) return;
    const object = this.#objects.get(pointer) ?? this.#percpu.get(pointer);
    if (object === undefined || !isWhite(object)) return;
    object.count += 1;
    if (isGray(object)) this.#gray.push(object);
  }

  /** @linux mm/kmemleak.c:update_checksum */
  #checksumChanged(object: KmemleakObject): boolean {
    const before = object.checksum;
    object.checksum = this.#copies(object).reduce((sum, at) => sum ^ crc32(this.bytes(at, object.size)), 0) >>> 0;
    return object.checksum !== before;
  }

  #isLeak(object: KmemleakObject): boolean {
    return isWhite(object) && object.jiffies + MSECS_MIN_AGE / JIFFY_MS <= this.#lastScan;
  }

  /** Bytes of kernel memory. */
  bytes(address: VirtAddr, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let done = 0, run: number; done < length; done += run) {
      run = Math.min(PAGE_SIZE - ((address + done) & (PAGE_SIZE - 1)), length - done);
      const host = this.#hostByte(address + done);
      if (host >= 0) bytes.set(this.#ram.u8.subarray(host, host + run), done);
    }
    return bytes;
  }

  #hostByte(address: VirtAddr): number {
    const pa = this.#kernel!.vm.vmalloc.physAddr(address);
    return pa < 0 ? -1 : this.#ram.frameWord(Math.floor(pa / PAGE_SIZE)) * 4 + (pa % PAGE_SIZE);
  }

  #forEach(visit: (object: KmemleakObject) => void): void {
    this.#objects.forEach(visit);
    this.#percpu.forEach(visit);
  }

  // ------------------------------------------------------------------------------------------------------- its file

  /** The leaks found so far that still are. */
  reports(): KmemleakReport[] {
    const kernel = this.#kernel!;
    const found: KmemleakReport[] = [];
    this.#forEach((object) => {
      if (!object.isReported || !this.#isLeak(object)) return;
      const { pointer: address, size, isPercpu, comm, pid, trace: backtrace } = object;
      const ageMs = (this.jiffies - object.jiffies) * JIFFY_MS;
      const [first] = this.#copies(object);
      const text = leakText(object, kernel.config.kernel, ageMs, this.bytes(first!, Math.min(size, 32)));
      found.push({ address, size, isPercpu, ageMs, comm, pid, backtrace, text });
    });
    return found;
  }

  /** `/sys/kernel/debug/kmemleak`. @linux mm/kmemleak.c:kmemleak_seq_show */
  read(): string {
    return this.reports()
      .map(({ text }) => text)
      .join('');
  }

  /**
   * A command: `scan`, `clear`, `dump=ADDRESS`, `stack=on|off`, `off`.
   *
   * @returns the bytes taken; −EPERM where it is off, −EINVAL for another
   * @linux mm/kmemleak.c:kmemleak_write
   */
  write(text: string): number {
    const command = text.trim();
    if (command === 'clear') this.#clear();
    else if (!this.enabled) return -Errno.EPERM;
    else if (command === 'off') this.#disable();
    else if (command === 'scan') this.scan();
    else if (command === 'stack=on' || command === 'stack=off') this.scansStacks = command === 'stack=on';
    else if (command.startsWith('dump=')) return this.#dump(command.slice(5)) < 0 ? -Errno.EINVAL : text.length;
    else return -Errno.EINVAL;
    return text.length;
  }

  /** What is reported now is no longer of interest. @linux mm/kmemleak.c:kmemleak_clear */
  #clear(): void {
    this.#forEach((object) => {
      if (object.isReported && this.#isLeak(object)) object.minCount = 0;
    });
  }

  #disable(): void {
    this.enabled = false;
    this.#objects.clear();
    this.#percpu.clear();
    this.#kernel!.log.print('kmemleak: Kernel memory leak detector disabled');
  }

  /** @linux mm/kmemleak.c:dump_str_object_info */
  #dump(text: string): number {
    const { log } = this.#kernel!;
    if (!/^(0x)?[0-9a-f]+$/i.test(text)) return -Errno.EINVAL;
    const address = Number(BigInt.asIntN(64, BigInt(text.startsWith('0x') ? text : `0x${text}`)));
    const object = this.#objects.get(address) ?? this.#percpu.get(address);
    if (object === undefined) {
      log.print(`kmemleak: Unknown object at 0x${BigInt.asUintN(64, BigInt(address)).toString(16)}`);
      return -Errno.EINVAL;
    }
    log.print(`kmemleak: Object 0x${BigInt.asUintN(64, BigInt(object.pointer)).toString(16)} (size ${object.size}):`);
    log.print(`kmemleak:   comm "${object.comm}", pid ${object.pid}, jiffies ${object.jiffies}`);
    log.print(`kmemleak:   min_count = ${object.minCount}`);
    log.print(`kmemleak:   count = ${object.count}`);
    log.print(`kmemleak:   checksum = ${object.checksum}`);
    log.print('kmemleak:   backtrace:');
    for (const name of object.trace) log.print(`     ${name}`);
    return 0;
  }
}

/** @linux mm/kmemleak.c:color_white */
function isWhite({ count, minCount }: KmemleakObject): boolean {
  return count < minCount;
}

/** @linux mm/kmemleak.c:color_gray */
function isGray({ count, minCount }: KmemleakObject): boolean {
  return minCount >= 0 && count >= minCount;
}
