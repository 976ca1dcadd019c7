import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import { GFP_KERNEL, KernelOops, __GFP_ZERO } from './index.ts';
import { inUse, small } from './testing/run.ts';

const PAGE = 4096;

test('a module allocates as Linux has it, and its memory is the machine\'s', () => {
  const machine = small();
  const before = inUse(machine);
  machine.module((k) => {
    const object = k.kzalloc(100);
    expect([k.ksize(object), k.mem.load32(object)]).toEqual([128, 0]);
    k.mem.storeAddress(object + 8, object);
    expect(k.mem.loadAddress(object + 8)).toBe(object);
    const area = k.vmalloc(3 * PAGE, { gfp: GFP_KERNEL | __GFP_ZERO });
    k.mem.fill(area, 3 * PAGE, 0x5a);
    expect(k.mem.load32(k.pageAddress(k.vmallocToPage(area + PAGE)))).toBe(0x5a5a5a5a);
    const pages = [k.allocPages(), k.allocPages()];
    const view = k.vmap(pages);
    k.mem.store8(k.pageAddress(pages[1]!), 9);
    expect(k.mem.load8(view + PAGE)).toBe(9);
    k.vunmap(view);
    for (const pfn of pages) k.freePages(pfn);
    k.kvfree(area);
    k.kvfree(object);
  });
  machine.validate();
  expect(inUse(machine)).toEqual(before);
});

test('what a module keeps stays between its calls, and goes with it', () => {
  const machine = small();
  const data = machine.module((k) => k.data(64), { name: 'demo' });
  machine.module((k) => k.mem.store32(data, 5), { name: 'demo' });
  expect(machine.module((k) => k.mem.load32(data))).toBe(5);
  expect(machine.readFile('/proc/vmallocinfo')).toContain('8192 load_module pages=1 vmalloc N0=1');
  expect([machine.unloadModule('demo'), machine.unloadModule('demo')]).toEqual([true, false]);
  expect(() => machine.module((k) => k.mem.load32(data))).toThrow(KernelOops);
  expect(() => machine.module(() => 0, { name: 'a b' })).toThrow('letters, digits and _');
});

test('vmallocinfo and meminfo tell of areas', () => {
  const machine = small();
  const used = (): number => Number(/VmallocUsed: +(\d+)/.exec(machine.readFile('/proc/meminfo'))![1]);
  // The first module leaves its stack for the next.
  machine.module(() => 0);
  const before = used();
  const at = machine.module((k) => k.call('probe', () => k.vmalloc(600 * PAGE)), { name: 'demo' });
  expect(used() - before).toBe(602 * 4);
  const info = machine.readFile('/proc/vmallocinfo');
  expect(info).toMatch(/^0xffffc9[0-9a-f]{10}-0xffffc9[0-9a-f]{10} 2461696 probe \[demo\] pages=600 vmalloc vpages N0=600$/m);
  expect(info).toMatch(/ {3}12288 probe \[demo\] pages=2 vmalloc N0=2$/m);
  machine.module((k) => k.vfree(at));
  expect(machine.readFile('/proc/vmallocinfo')).toMatch(/^0xffffc9[0-9a-f]{10}-0xffffc9[0-9a-f]{10} 2461696 unpurged vm_area$/m);
  expect(used()).toBe(before);
});

test('an access to a guard page is an oops that says where, and the machine goes on', () => {
  const machine = small();
  const at = machine.module((k) => k.vmalloc(PAGE));
  let caught: unknown;
  try {
    machine.module((k) => k.call('overrun', () => k.mem.store8(at + PAGE, 1)), { name: 'demo' });
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(KernelOops);
  expect(caught).toMatchObject({
    kind: 'page-fault',
    address: at + PAGE,
    errorCode: 2,
    area: 'init_module [module]',
    callTrace: ['overrun [demo]', 'init_module [demo]'],
  });
  expect((caught as KernelOops).text).toMatch(
    /^BUG: unable to handle page fault for address: ffffc9[0-9a-f]{10}\n#PF: supervisor write access in kernel mode\n#PF: error_code\(0x0002\) - not-present page\nPGD [0-9a-f]+ P4D [0-9a-f]+ PUD [0-9a-f]+ PMD [0-9a-f]+ PTE 0 \nOops: 0002 \[#1\]/,
  );
  expect(machine.dmesg()).toContain('unable to handle page fault');
  expect(() => machine.module((k) => k.mem.load8(8))).toThrow('NULL pointer dereference');
  expect(() => machine.module((k) => k.mem.load8(2 ** 60))).toThrow('general protection fault');
  machine.validate();
  expect(machine.run((os) => os.mem.store8(os.sbrk(PAGE), 1)).status).toBe(0);
});

test('vmalloc costs the TLB an entry a page, kmalloc shares those of the direct map', () => {
  const machine = boot({ memory: '1G', tlb: 'modelled:skylake' });
  const misses = (touch: (at: number) => void, at: number): number => {
    const before = machine.stats().tlbModel!.misses;
    for (let round = 0; round < 4; round++) touch(at);
    return machine.stats().tlbModel!.misses - before;
  };
  machine.module((k) => {
    const bytes = 2048 * PAGE;
    const touch = (at: number): void => {
      for (let offset = 0; offset < bytes; offset += PAGE) k.mem.load8(at + offset);
    };
    const area = k.vmalloc(bytes);
    const block = k.pageAddress(k.allocPages(10));
    expect(misses((at) => void touch(at), area)).toBeGreaterThan(2048);
    expect(misses((at) => void touch(at), block)).toBeLessThan(16);
  });
});

test('with 32 bits the areas lie above low memory, and all kernel memory is reached', () => {
  for (const [arch, start] of [['x86-pae', 0xf77fe000], ['x86-32', 0xf73fe000]] as const) {
    const machine = boot({ memory: '1G', arch });
    machine.module((k) => {
      const area = k.vmalloc(3 * PAGE);
      expect(area).toBe(start);
      const counter = k.allocPercpu(8);
      for (const at of [area + 5000, k.kmalloc(100), k.perCpuPtr(counter, 0), k.stack.begin + 100]) {
        k.mem.store32(at, 77);
        expect(k.mem.load32(at)).toBe(77);
      }
      expect(k.stack.end - k.stack.begin).toBe(8192);
      expect(() => k.mem.load8(area + 3 * PAGE)).toThrow('unable to handle page fault');
      k.vfree(area);
      k.freePercpu(counter);
    });
    expect(machine.readFile('/proc/vmallocinfo')).toMatch(/^0xf7[0-9a-f]{6}-0xf7[0-9a-f]{6} +16384 unpurged vm_area$/m);
    machine.validate();
  }
});
