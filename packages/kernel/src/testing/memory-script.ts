/**
 * Memory scripts: lines of `operation => result` as a C program with the same operations printed them on a Linux machine, done
 * again here. Addresses are `region+page`, or `region+bBYTE`; lengths are pages, or `bBYTES`.
 *
 * A touch that waits for the program that serves faults says `fault FLAGS PLACE`; the lines after it are what the server does,
 * up to `join`, which says how the touch ended.
 */
import {
  FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, MADV_HUGEPAGE, MADV_HWPOISON, MADV_SOFT_OFFLINE, MAP_ANONYMOUS, MAP_FIXED, MAP_HUGETLB, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED,
  MFD_HUGETLB, MREMAP_FIXED, MREMAP_MAYMOVE, O_CREAT, O_NONBLOCK, O_RDWR, O_TRUNC, PAGEMAP_SCAN, PAGE_IS_SOFT_DIRTY, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, SIGBUS, SIGSEGV, SyscallError, Syscall, UFFDIO_API, UFFDIO_CONTINUE, UFFDIO_COPY, UFFDIO_MOVE, UFFDIO_POISON,
  UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_WAKE, UFFDIO_WRITEPROTECT, UFFDIO_ZEROPAGE, UFFD_MSG_BYTES, errnoName, isError, signalName,
} from '@pagelab/abi';
import type { Os, SigInfo } from '@pagelab/abi';
import type { Machine } from '../machine.ts';

const HUGE = 2 ** 21;
const GIGANTIC = 2 ** 30;
const HUGETLB_FLAG_ENCODE_1GB = 30 << 26;
const RW = PROT_READ | PROT_WRITE;
const PR_MCE_KILL = 33;
const PR_MCE_KILL_SET = 1;
const BUS_MCEERR_AR = 4;
/** The type of entries that name a broken frame: the frame's number is left out. */
const SWP_HWPOISON = 24n;

interface Region {
  readonly name: string;
  readonly start: number;
  readonly length: number;
  readonly fd: number;
}

/** What a touch was given up for. */
class Abandoned extends Error {
  readonly info: SigInfo;
  constructor(info: SigInfo) {
    super(signalName(info.signo));
    this.info = info;
  }
}

const FILL_REQUESTS: Readonly<Record<string, number>> = { zp: UFFDIO_ZEROPAGE, ct: UFFDIO_CONTINUE, po: UFFDIO_POISON };
const KINDS: Readonly<Record<string, number>> = {
  anon: MAP_PRIVATE | MAP_ANONYMOUS, thp: MAP_PRIVATE | MAP_ANONYMOUS, shm: MAP_SHARED | MAP_ANONYMOUS, mem: MAP_SHARED, tmp: MAP_PRIVATE, file: MAP_SHARED, filep: MAP_PRIVATE,
  huge: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, hugs: MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, hugm: MAP_SHARED, hugp: MAP_PRIVATE,
  gige: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | HUGETLB_FLAG_ENCODE_1GB, gigs: MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | HUGETLB_FLAG_ENCODE_1GB,
};

/** The operations of a recorded script, in order: `line => result`. Empty lines and comments are passed over. */
export function scriptLines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

/** A line of `scan` without PAGE_IS_SOFT_DIRTY: not every kernel has that. */
export function withoutSoftDirty(line: string): string {
  if (!line.startsWith('scan ')) return line;
  return line.replace(/ ([0-9a-f]+)\]/g, (_, categories: string) => ` ${(parseInt(categories, 16) & ~PAGE_IS_SOFT_DIRTY).toString(16)}]`);
}

/** Does the operations of a script on a machine, and returns the lines with what they gave here. */
export function runMemoryScript(machine: Machine, lines: readonly string[]): string[] {
  const script = new MemoryScript(lines);
  const result = machine.run((os) => {
    script.run(os);
  });
  if (result.error !== undefined) throw result.error as Error;
  return script.results;
}

class MemoryScript {
  readonly results: string[] = [];
  private readonly operations: string[];
  private readonly regions: Region[] = [];
  private readonly frames = new Map<string, number>();
  private os!: Os;
  private at = 0;
  private uffd = -1;
  private scratch = 0;
  /** Line of the touch that waits; −1 for none. */
  private touching = -1;
  private isServed = false;
  private isDone = false;
  private caught: SigInfo | null = null;

  constructor(lines: readonly string[]) {
    this.operations = lines.map((line) => line.split(' => ')[0]!);
  }

  run(os: Os): void {
    this.os = os;
    this.scratch = os.mmap(0, 64 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    os.mem.fill(this.scratch, 64 * PAGE_SIZE, 0);
    for (const signal of [SIGBUS, SIGSEGV]) {
      os.sigaction(signal, (info) => {
        if (this.touching < 0) this.caught = info;
        else throw new Abandoned(info);
      });
    }
    const { serve } = this;
    os.thread(function* () {
      yield* serve();
    });
    while (this.at < this.operations.length) this.step();
    this.isDone = true;
  }

  /** Runs beside the script: on a message, it does the lines up to the next `join`. */
  private readonly serve = function* (this: MemoryScript): Generator<void> {
    while (!this.isDone) {
      const message = this.touching < 0 ? null : this.message();
      if (message === null) {
        yield;
        continue;
      }
      this.results[this.at] = this.line(message);
      this.at++;
      this.isServed = true;
      const waiting = this.touching;
      this.touching = -1;
      while (this.operations[this.at] !== 'join') {
        if (this.at >= this.operations.length) throw new Error('a touch that waits for ever');
        this.step();
      }
      this.touching = waiting;
    }
  }.bind(this);

  private line(result: string): string {
    return `${this.operations[this.at]!} => ${result}`;
  }

  private message(): string | null {
    if (this.uffd < 0) return null;
    const { os } = this;
    const at = this.scratch + PAGE_SIZE;
    if (isError(os.syscall(Syscall.read, this.uffd, at, UFFD_MSG_BYTES))) return null;
    return `fault ${os.mem.loadAddress(at + 8)} ${this.where(os.mem.loadAddress(at + 16))}`;
  }

  /** Does one line. A touch that was served meanwhile ends at a later one. */
  private step(): void {
    const [operation, ...args] = this.operations[this.at]!.split(' ') as [string, ...string[]];
    const index = this.at;
    if (operation === 'ld' || operation === 'st') {
      this.touching = index;
      this.isServed = false;
      const result = this.touch(this.address(args[0]!), operation === 'st' ? Number(args[1]) : null);
      this.touching = -1;
      this.results[this.at] = this.line(result);
    } else {
      const before = this.touching;
      this.touching = -1;
      const result = this.perform(operation, args);
      this.touching = before;
      this.results[this.at] = this.line(result);
    }
    this.at++;
  }

  private touch(address: number, value: number | null): string {
    const { mem } = this.os;
    try {
      if (value === null) return String(mem.load8(address));
      mem.store8(address, value);
      return 'ok';
    } catch (thrown) {
      if (thrown instanceof Abandoned) return this.signal(thrown.info);
      throw thrown;
    }
  }

  private signal({ signo, code, addr, addrLsb }: SigInfo): string {
    const lsb = signo === SIGBUS && code >= BUS_MCEERR_AR ? ` lsb ${addrLsb}` : '';
    return `${signalName(signo)} ${code} ${this.where(addr)}${lsb}`;
  }

  private region(name: string): Region {
    const found = this.regions.findLast((region) => region.name === name);
    if (found === undefined) throw new Error(`no region ${name}`);
    return found;
  }

  private address(text: string): number {
    if (/^\d/.test(text)) return Number(text);
    const [name, offset = '0'] = text.split('+') as [string, string?];
    return this.region(name).start + (offset.startsWith('b') ? Number(offset.slice(1)) : Number(offset) * PAGE_SIZE);
  }

  private where(address: number): string {
    const region = this.regions.findLast(({ start, length }) => address >= start && address < start + length);
    if (region === undefined) return `?${address.toString(16)}`;
    const offset = address - region.start;
    const within = offset % PAGE_SIZE;
    return `${region.name}+${Math.floor(offset / PAGE_SIZE)}${within === 0 ? '' : `.${within}`}`;
  }

  private call(name: keyof typeof Syscall, ...args: number[]): string {
    const result = this.os.syscall(Syscall[name], ...args);
    return isError(result) ? errnoName(result) : String(result);
  }

  private ok(name: keyof typeof Syscall, ...args: number[]): string {
    const result = this.call(name, ...args);
    return result === '0' ? 'ok' : result;
  }

  private request(request: number, words: readonly number[], tail: number): [result: string, word: (i: number) => string] {
    const { mem } = this.os;
    words.forEach((word, i) => {
      mem.store64(this.scratch + i * 8, BigInt(word));
    });
    mem.store64(this.scratch + words.length * 8, BigInt(tail));
    return [this.call('ioctl', this.uffd, request, this.scratch), (i) => mem.load64(this.scratch + i * 8).toString(16)];
  }

  private perform(operation: string, args: readonly string[]): string {
    const { os } = this;
    const [first = '', second = '', third = '', fourth = ''] = args;
    switch (operation) {
      case 'map':
        return this.map(first, second, Number(third), fourth === '' ? RW : Number(fourth));
      case 'alias': {
        const { fd, length } = this.region(second);
        return this.add(first, os.syscall(Syscall.mmap, 0, length, RW, third === '' ? MAP_SHARED : MAP_PRIVATE, fd, 0), length, fd);
      }
      case 'new':
        this.uffd = os.syscall(Syscall.userfaultfd, O_NONBLOCK | Number(first));
        return isError(this.uffd) ? errnoName(this.uffd) : 'ok';
      case 'close':
        os.syscall(Syscall.close, this.uffd);
        this.uffd = -1;
        return 'ok';
      case 'api': {
        const [result, word] = this.request(UFFDIO_API, [second === '' ? 0xaa : Number(second), Number(first)], 0);
        return `${result} ${word(0)} ${word(1)} ${word(2)}`;
      }
      case 'reg': {
        const [result, word] = this.request(UFFDIO_REGISTER, [this.address(first), lengthOf(second), Number(third)], 0);
        return result === '0' ? word(3) : result;
      }
      case 'unreg':
        return this.request(UFFDIO_UNREGISTER, [this.address(first), lengthOf(second)], 0)[0];
      case 'wake':
        return this.request(UFFDIO_WAKE, [this.address(first), lengthOf(second)], 0)[0];
      case 'cp':
      case 'mv': {
        const [result] = this.request(operation === 'cp' ? UFFDIO_COPY : UFFDIO_MOVE, [this.address(first), this.address(second), lengthOf(third), Number(fourth)], 77);
        return `${result} ${BigInt.asIntN(64, os.mem.load64(this.scratch + 32))}`;
      }
      case 'zp':
      case 'ct':
      case 'po': {
        const [result] = this.request(FILL_REQUESTS[operation]!, [this.address(first), lengthOf(second), Number(third)], 77);
        return `${result} ${BigInt.asIntN(64, os.mem.load64(this.scratch + 24))}`;
      }
      case 'wp':
        return this.request(UFFDIO_WRITEPROTECT, [this.address(first), lengthOf(second), Number(third)], 0)[0];
      case 'join':
        return 'nothing waits';
      case 'fill':
        os.mem.fill(this.address(first), lengthOf(second), Number(third));
        return 'ok';
      case 'read':
        return this.call('read', this.uffd, this.scratch + PAGE_SIZE, Number(first));
      case 'pm':
        return this.pagemap(os, this.address(first));
      case 'vmflags':
        return this.smaps(this.address(first), 'VmFlags').replace(' sd', '');
      case 'smaps':
        return this.smaps(this.address(first), second);
      case 'maps':
        return this.maps(this.region(first));
      case 'meminfo':
        return field(os.readFile('/proc/meminfo'), first);
      case 'status':
        return field(os.readFile('/proc/self/status'), first);
      case 'cat':
        return os.readFile(first).trimEnd().replaceAll('\n', '|');
      case 'echo':
        return attempt(() => {
          os.writeFile(second, `${first}\n`);
        });
      case 'madv':
        return this.ok('madvise', this.address(first), lengthOf(second), Number(third));
      case 'mprotect':
        return this.ok('mprotect', this.address(first), lengthOf(second), Number(third));
      case 'mlock':
        return this.ok('mlock', this.address(first), lengthOf(second));
      case 'munmap':
        return this.ok('munmap', this.address(first), lengthOf(second));
      case 'trunc':
        return this.ok('ftruncate', this.region(first).fd, lengthOf(second));
      case 'punch':
        return this.ok('fallocate', this.region(first).fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, lengthOf(second), lengthOf(third));
      case 'alloc':
        return this.ok('fallocate', this.region(first).fd, 0, lengthOf(second), lengthOf(third));
      case 'fsync':
        return this.ok('fsync', this.region(first).fd);
      case 'pread': {
        const at = this.scratch + 4 * PAGE_SIZE;
        const result = this.call('pread64', this.region(first).fd, at, third === '' ? 1 : Number(third), lengthOf(second));
        return /^\d/.test(result) ? `${result} ${Number(result) > 0 ? os.mem.load8(at) : -1}` : result;
      }
      case 'pwrite': {
        const at = this.scratch + 4 * PAGE_SIZE;
        os.mem.fill(at, 2 * PAGE_SIZE, Number(third));
        return this.call('pwrite64', this.region(first).fd, at, fourth === '' ? 1 : Number(fourth), lengthOf(second));
      }
      case 'remap': {
        const region = this.region(first);
        const align = region.length >= HUGE ? HUGE : PAGE_SIZE;
        const room = os.mmap(0, region.length + 2 * align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
        const to = Math.ceil(room / align) * align;
        const result = this.call('mremap', region.start, region.length, region.length, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        if (!/^\d/.test(result)) return result;
        this.regions.push({ ...region, start: to });
        return 'ok';
      }
      case 'sleep':
        os.mem.store64(this.scratch, BigInt(first));
        os.mem.store64(this.scratch + 8, 0n);
        return this.ok('nanosleep', this.scratch, 0);
      case 'mce':
        return this.ok('prctl', PR_MCE_KILL, PR_MCE_KILL_SET, Number(first), 0, 0);
      case 'poison':
      case 'soft':
        return this.withSignal(() => this.call('madvise', this.address(first), second === '' ? PAGE_SIZE : lengthOf(second), operation === 'poison' ? MADV_HWPOISON : MADV_SOFT_OFFLINE));
      case 'scan':
        return this.scan(args);
      case 'scanraw':
        return this.scanRaw(args);
      case 'fork':
        return this.fork(args);
      case 'pfn':
        this.frames.set(second, Number(this.entry(os, this.address(first)) & ((1n << 55n) - 1n)));
        return 'ok';
      case 'inject':
      case 'unpoison': {
        const file = `/sys/kernel/debug/hwpoison/${operation === 'inject' ? 'corrupt-pfn' : 'unpoison-pfn'}`;
        return this.withSignal(() => attempt(() => {
          os.writeFile(file, `0x${(this.frames.get(first) ?? Number(`0x${first}`)).toString(16)}\n`);
        }).replace('ok', '0'));
      }
      default:
        throw new Error(`unknown operation ${operation}`);
    }
  }

  private withSignal(body: () => string): string {
    this.caught = null;
    const result = body();
    const caught = this.caught as SigInfo | null;
    return caught === null ? result : `${result} ${this.signal(caught)}`;
  }

  private add(name: string, start: number, length: number, fd: number): string {
    if (isError(start)) return errnoName(start);
    this.regions.push({ name, start, length, fd });
    return 'ok';
  }

  private map(name: string, kind: string, count: number, prot: number): string {
    const { os } = this;
    const unit = kind.startsWith('hug') ? HUGE : kind.startsWith('gig') ? GIGANTIC : PAGE_SIZE;
    const length = count * unit;
    const align = kind === 'thp' || length >= HUGE ? Math.max(HUGE, unit) : unit;
    let fd = -1;
    os.mem.storeCString(this.scratch, `script-${name}`);
    if (kind === 'mem' || kind === 'tmp') fd = os.syscall(Syscall.memfd_create, this.scratch, 0);
    else if (kind === 'hugm' || kind === 'hugp') fd = os.syscall(Syscall.memfd_create, this.scratch, MFD_HUGETLB);
    else if (kind.startsWith('file')) {
      os.mem.storeCString(this.scratch, `/script-${name}`);
      fd = os.syscall(Syscall.open, this.scratch, O_RDWR | O_CREAT | O_TRUNC, 0o600);
    }
    if (fd >= 0) os.syscall(Syscall.ftruncate, fd, length);
    const room = length + 2 * Math.max(align, PAGE_SIZE) + 2 * PAGE_SIZE;
    const base = os.mmap(0, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    os.munmap(base, room);
    const at = Math.ceil((base + PAGE_SIZE) / align) * align;
    const result = this.add(name, os.syscall(Syscall.mmap, at, length, prot, KINDS[kind]! | MAP_FIXED, fd, 0), length, fd);
    if (result !== 'ok') return result;
    os.mmap(at + length, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE);
    if (kind === 'thp') os.madvise(at, length, MADV_HUGEPAGE);
    return 'ok';
  }

  private entry(os: Os, address: number): bigint {
    const bytes = os.readFileBytes('/proc/self/pagemap', (address / PAGE_SIZE) * 8, 8);
    return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  }

  /** Soft dirty is left out: not every kernel has it. */
  private pagemap(os: Os, address: number): string {
    const entry = this.entry(os, Math.floor(address / PAGE_SIZE) * PAGE_SIZE);
    const has = (bit: number): boolean => ((entry >> BigInt(bit)) & 1n) !== 0n;
    const words = ([[63, 'present'], [62, 'swap'], [61, 'file'], [58, 'guard'], [57, 'wp'], [56, 'excl']] as const).filter(([bit]) => has(bit)).map(([, word]) => word as string);
    const offset = entry & ((1n << 55n) - 1n);
    const type = offset & 31n;
    if (has(62) && type >= 23n) words.push(type === SWP_HWPOISON ? `type ${type}` : `type ${type} off ${offset >> 5n}`);
    return words.length === 0 ? 'none' : words.join(' ');
  }

  private smaps(address: number, key: string): string {
    let isInside = false;
    for (const line of this.os.readFile('/proc/self/smaps').split('\n')) {
      const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
      if (range !== null) isInside = address >= parseInt(range[1]!, 16) && address < parseInt(range[2]!, 16);
      else if (isInside && line.startsWith(key)) return line.slice(key.length + 1).trim();
    }
    return '?';
  }

  private maps({ start, length }: Region): string {
    const parts: string[] = [];
    for (const line of this.os.readFile('/proc/self/maps').split('\n')) {
      const match = /^([0-9a-f]+)-([0-9a-f]+) (\S+)/.exec(line);
      if (match === null) continue;
      const from = Math.max(parseInt(match[1]!, 16), start);
      const to = Math.min(parseInt(match[2]!, 16), start + length);
      if (from < to) parts.push(`${(from - start) / PAGE_SIZE}-${(to - start) / PAGE_SIZE} ${match[3]!}`);
    }
    return parts.join('; ');
  }

  /** Touches and looks of a child: `place`, `place=value`, `p:place`. */
  private fork(args: readonly string[]): string {
    const { os } = this;
    const seen: string[] = [];
    const pid = os.fork((child) => {
      this.os = child;
      for (const arg of args) {
        if (arg.startsWith('p:')) seen.push(this.pagemap(child, this.address(arg.slice(2))));
        else {
          const [place, value] = arg.split('=') as [string, string?];
          this.touching = this.at;
          seen.push(this.touch(this.address(place), value === undefined ? null : Number(value)));
          this.touching = -1;
        }
      }
      this.os = os;
    });
    os.waitpid(pid);
    this.os = os;
    return seen.join('; ');
  }

  private scan(args: readonly string[]): string {
    const [place, length, ...numbers] = args as [string, string, ...string[]];
    const [flags, vecLength, maxPages, inverted, mask, anyof, returned] = numbers.map(Number) as [number, number, number, number, number, number, number];
    const { mem } = this.os;
    const start = this.address(place);
    const end = start + lengthOf(length);
    const vec = this.scratch + 8 * PAGE_SIZE;
    const words = [96, flags, start, end, 0, vecLength === 0 ? 0 : vec, vecLength, maxPages, inverted, mask, anyof, returned];
    const result = this.scanCall(words);
    const walkEnd = mem.loadAddress(this.scratch + 32);
    const parts = [result, walkEnd === 0 ? '0' : walkEnd === end ? 'end' : this.where(walkEnd)];
    for (let i = 0; i < Math.min(24, Number(result)); i++) {
      const [from, to, categories] = [0, 8, 16].map((offset) => mem.loadAddress(vec + i * 24 + offset)) as [number, number, number];
      parts.push(`[${this.where(from)},${(to - from) / PAGE_SIZE} ${categories.toString(16)}]`);
    }
    return parts.join(' ');
  }

  private scanRaw(args: readonly string[]): string {
    const [size, flags, start, end, vec, vecLength, mask] = args as [string, string, string, string, string, string, string];
    const result = this.scanCall([Number(size), Number(flags), this.bigAddress(start), this.bigAddress(end), 0, BigInt(vec), Number(vecLength), 0, 0, Number(mask), 0, 0]);
    return result;
  }

  private bigAddress(text: string): bigint {
    return /^\d/.test(text) ? BigInt(text) : BigInt(this.address(text));
  }

  private scanCall(words: readonly (number | bigint)[]): string {
    const { mem } = this.os;
    words.forEach((word, i) => {
      mem.store64(this.scratch + i * 8, BigInt.asUintN(64, BigInt(word)));
    });
    mem.storeCString(this.scratch + PAGE_SIZE, '/proc/self/pagemap');
    const fd = this.os.syscall(Syscall.open, this.scratch + PAGE_SIZE, 0, 0);
    const result = this.call('ioctl', fd, PAGEMAP_SCAN, this.scratch);
    this.os.syscall(Syscall.close, fd);
    return result;
  }
}

function lengthOf(text: string): number {
  return text.startsWith('b') ? Number(text.slice(1)) : Number(text) * PAGE_SIZE;
}

function field(text: string, name: string): string {
  return new RegExp(`^${name}:?\\s+(.*)$`, 'm').exec(text)?.[1]?.trim() ?? '?';
}

function attempt(body: () => void): string {
  try {
    body();
    return 'ok';
  } catch (error) {
    if (error instanceof SyscallError) return error.code;
    throw error;
  }
}
