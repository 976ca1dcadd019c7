import { encodeUtf8 } from '@pagelab/syscalls';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import { GFP_KERNEL, __GFP_ZERO } from './index.ts';
import { crc32 } from './crc32.ts';
import type { KernelModule, Machine, MachineConfigInput } from './index.ts';

const FILE = '/sys/kernel/debug/kmemleak';

function watched(config: Partial<MachineConfigInput> = {}): Machine {
  return boot({ memory: '64M', cpus: 2, cmdline: 'kmemleak=on', ...config });
}

/** Lets blocks grow old, and scans twice: the first time what is new is spared. */
function scan(machine: Machine): number[] {
  machine.writeFile(FILE, 'scan');
  machine.module((k) => {
    k.msleep(6000);
  });
  machine.writeFile(FILE, 'scan');
  return machine.kmemleak().map(({ address }) => address).sort((a, b) => a - b);
}

test('a block that nobody can reach is found, one in a list, a tree or the data section is not', () => {
  const machine = watched();
  const lost = machine.module((k) => {
    const head = k.data(16);
    // A list from the data section on.
    let link = head;
    for (let i = 0; i < 5; i++) {
      const node = k.call('list_add', () => k.kzalloc(48));
      k.mem.storeAddress(link, node);
      link = node + 8;
    }
    // A pointer into the middle of a block keeps it too.
    const middle = k.kmalloc(500);
    k.mem.storeAddress(head + 8, middle + 123);
    const leaked = k.call('probe', () => k.kzalloc(100));
    // It alone holds another, which so is lost as well.
    const behind = k.call('probe', () => k.kzalloc(200));
    k.mem.storeAddress(leaked, behind);
    return [leaked, behind];
  }, { name: 'demo' });
  expect(scan(machine)).toEqual(lost.sort((a, b) => a - b));
  const [report] = machine.kmemleak().filter(({ size }) => size === 128);
  expect(report).toMatchObject({ size: 128, ageMs: 6000, comm: 'insmod', backtrace: ['probe [demo]', 'init_module [demo]'] });
  expect(machine.dmesg()).toContain('kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)');
  // Freed, it is no leak any more.
  machine.module((k) => lost.forEach((address) => k.kfree(address)));
  expect(scan(machine)).toEqual([]);
  expect(machine.readFile(FILE)).toBe('');
});

test('a report reads as the kernel writes it', () => {
  for (const [kernel, expected] of [
    ['6.18', /^unreferenced object 0xffff8[0-9a-f]{11} \(size 32\):\n {2}comm "insmod", pid \d+, jiffies 42948922\d\d\n {2}hex dump \(first 32 bytes\):\n {4}6c 6f 73 74 00 00 00 00 00 00 00 00 00 00 00 00 {2}lost\.{12}\n {4}(00 ){16} \.{16}\n {2}backtrace \(crc [0-9a-f]+\):\n {4}probe \[demo\]\n {4}init_module \[demo\]\n$/],
    ['6.1', /^unreferenced object 0xffff8[0-9a-f]{11} \(size 32\):\n {2}comm "insmod", pid \d+, jiffies 42948922\d\d \(age 6\.000s\)\n[^]* {2}backtrace:\n {4}\[<0>\] probe \[demo\]\n/],
  ] as const) {
    const machine = watched({ kernel });
    machine.module((k) => k.call('probe', () => k.mem.set(k.kzalloc(30), encodeUtf8('lost'))), { name: 'demo' });
    scan(machine);
    expect(machine.readFile(FILE)).toMatch(expected);
  }
  expect(crc32(encodeUtf8('123456789'))).toBe(0x2dfd2d88);
});

test('areas, objects of caches, per-CPU memory: each is known, and each keeps what it points to', () => {
  const machine = watched();
  const lost = machine.module((k) => {
    const head = k.data(64);
    const cache = k.kmemCacheCreate({ name: 'things', size: 72 });
    if (typeof cache === 'number') throw new Error('no cache');
    // Not zeroed, an object still holds the pointer to the next free one.
    const percpu = k.allocPercpu(64);
    const kept = [cache.alloc(GFP_KERNEL | __GFP_ZERO), k.vzalloc(9000), percpu];
    kept.forEach((pointer, i) => k.mem.storeAddress(head + i * 8, pointer));
    const inside = [k.kmalloc(10), k.kmalloc(10), k.kmalloc(10)];
    k.mem.storeAddress(kept[0]! + 16, inside[0]!);
    k.mem.storeAddress(kept[1]! + 8192, inside[1]!);
    k.mem.storeAddress(k.perCpuPtr(percpu, 1) + 8, inside[2]!);
    return [cache.alloc(GFP_KERNEL), k.vzalloc(5000), k.allocPercpu(32)];
  });
  expect(scan(machine)).toEqual([...lost].sort((a, b) => a - b));
  expect(machine.kmemleak().find(({ isPercpu }) => isPercpu)?.text).toMatch(/^unreferenced object \(percpu\) 0x[^]*hex dump \(first 32 bytes on cpu 0\)/);
});

test('before 6.13 per-CPU memory is scanned, and never reported', () => {
  const machine = watched({ kernel: '6.12' });
  machine.module((k) => {
    const pointer = k.allocPercpu(32);
    k.mem.storeAddress(k.perCpuPtr(pointer, 1), k.kmalloc(10));
  });
  expect(scan(machine)).toEqual([]);
});

test('a stack holds what its frames hold', () => {
  const machine = watched();
  machine.module((k) => {
    const block = k.kzalloc(64);
    k.call('holder', () => {
      k.mem.storeAddress(k.stack.pointer, block);
      expect(scan(machine)).toEqual([]);
      machine.writeFile(FILE, 'stack=off');
      expect(scan(machine)).toEqual([block]);
      machine.writeFile(FILE, 'stack=on');
    });
  });
});

test('young blocks and those that change wait; clear, notleak, ignore and off', () => {
  const machine = watched();
  const block = machine.module((k) => k.kzalloc(64));
  machine.writeFile(FILE, 'scan');
  machine.writeFile(FILE, 'scan');
  expect(machine.kmemleak()).toEqual([]);
  machine.module((k) => k.msleep(6000));
  machine.module((k) => k.mem.store32(block, 1));
  machine.writeFile(FILE, 'scan');
  expect(machine.kmemleak()).toEqual([]);
  expect(scan(machine)).toEqual([block]);
  machine.writeFile(FILE, `dump=0x${BigInt.asUintN(64, BigInt(block)).toString(16)}`);
  expect(machine.dmesg()).toMatch(/kmemleak: Object 0xffff8[0-9a-f]+ \(size 64\):\n.*comm "insmod"/);
  machine.writeFile(FILE, 'clear');
  expect(scan(machine)).toEqual([]);
  machine.module((k) => {
    const inside = k.kzalloc(32);
    const outer = k.kzalloc(32);
    k.mem.storeAddress(outer, inside);
    expect([k.kmemleakNotLeak(outer), k.kmemleakNotLeak(outer + 8)]).toEqual([true, false]);
  });
  expect(scan(machine)).toEqual([]);
  const found = machine.module((k) => {
    const inside = k.kzalloc(32);
    const outer = k.kzalloc(32);
    k.mem.storeAddress(outer, inside);
    k.kmemleakIgnore(outer);
    return inside;
  });
  expect(scan(machine)).toEqual([found]);
  expect(() => machine.writeFile(FILE, 'nonsense')).toThrow('EINVAL');
  machine.writeFile(FILE, 'off');
  expect(() => machine.writeFile(FILE, 'scan')).toThrow('EPERM');
  expect(machine.kmemleak()).toEqual([]);
});

test('programs, and modules that clean up, leak nothing; without the word there is no such file', () => {
  const machine = watched();
  machine.run((os) => {
    const at = os.mmap(0, 65536, 3, 0x22);
    os.mem.fill(at, 65536, 1);
    os.waitpid(os.fork((child) => child.mem.store8(child.sbrk(4096), 1)));
  });
  machine.module((k) => {
    k.kfree(k.kmalloc(100));
    k.vfree(k.vmalloc(10_000));
    k.freePercpu(k.allocPercpu(8));
    const pool = k.mempoolCreate(4, { bytes: 100 });
    if (typeof pool === 'number') throw new Error('no pool');
    k.dmaPoolCreate(k.device('x', 32), 'p', 64);
  });
  // What programs make the kernel allocate is not a module's, though it starts them.
  machine.module(() => {
    const process = machine.createProcess();
    process.os.mem.fill(process.os.mmap(0, 65536, 3, 0x22), 65536, 1);
  });
  expect(scan(machine)).toEqual([]);
  machine.validate();
  expect(() => boot({ memory: '64M' }).readFile(FILE)).toThrow('ENOENT');
});

test('for every slab allocator, random graphs: what cannot be reached from the data section is found, no more and no less', () => {
  for (const slab of ['slub', 'slab', 'slob'] as const) {
    const node = fc.record({ kind: fc.nat(2), size: fc.integer({ min: 64, max: 6000 }), to: fc.array(fc.nat(30), { maxLength: 3 }) });
    fc.assert(
      fc.property(fc.array(node, { minLength: 1, maxLength: 14 }), fc.array(fc.nat(30), { maxLength: 4 }), (nodes, roots) => {
        const machine = watched({ slab });
        const make = (k: KernelModule, kind: number, size: number): number => (kind === 0 ? k.vzalloc(size) : kind === 1 ? k.kzalloc(size) : k.kzalloc(size + 8000));
        const addresses = machine.module((k) => {
          const data = k.data(64);
          const made = nodes.map(({ kind, size }) => make(k, kind, size));
          roots.forEach((to, i) => k.mem.storeAddress(data + i * 8, made[to % nodes.length]!));
          nodes.forEach(({ to }, i) => to.forEach((target, j) => k.mem.storeAddress(made[i]! + j * 8, made[target % nodes.length]! + 4 * j)));
          return made;
        });
        const reached = new Set<number>();
        const visit = (i: number): void => {
          if (reached.has(i)) return;
          reached.add(i);
          for (const target of nodes[i]!.to) visit(target % nodes.length);
        };
        for (const to of roots) visit(to % nodes.length);
        const lost = addresses.filter((_, i) => !reached.has(i)).sort((a, b) => a - b);
        expect(scan(machine)).toEqual(lost);
      }),
      { numRuns: 5, verbose: true },
    );
  }
});
