import { describe, expect, test } from 'vitest';
import { PAGE_OFFSET } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { boot, bootKernel } from './boot.ts';
import { ConfigError, parseMachineConfig } from './config.ts';
import { createMachine } from './machine.ts';

const bootDebugged = (cmdline: string) => {
  const kernel = bootKernel(parseMachineConfig({ memory: '256M', cmdline }));
  return { kernel, machine: createMachine(kernel) };
};

describe('slub_debug=', () => {
  test('names checks, and the caches they are for', () => {
    const { machine } = bootDebugged('slub_debug=FZ,kmalloc-*;PU,dentry');
    const read = (cache: string, file: string): string => machine.readFile(`/sys/kernel/slab/${cache}/${file}`).trim();
    const letters = (cache: string): string => ['sanity_checks', 'red_zone', 'poison', 'store_user'].map((file) => read(cache, file)).join('');
    expect(letters('kmalloc-64')).toBe('1100');
    expect(letters('dentry')).toBe('0011');
    expect(letters('filp')).toBe('0000');
    expect(boot({ memory: '256M', cmdline: 'slab_debug' }).readFile('/sys/kernel/slab/filp/red_zone')).toBe('1\n');
    expect(() => boot({ memory: '256M', cmdline: 'slub_debug=FQ' })).toThrow(ConfigError);
  });

  test('reports misuse in the log and as a value, and the kernel goes on', () => {
    const { machine } = bootDebugged('slub_debug=FZPU,kmalloc-64');
    const block = machine.module((module) => {
      const [first, other] = [module.kmalloc(60), module.kmalloc(60)];
      for (const address of [first, first, other]) module.kfree(address);
      return first;
    });
    expect(machine.slabReports()).toMatchObject([{ kind: 'double-free', cache: 'kmalloc-64', address: block }]);
    expect(machine.dmesg()).toMatch(/BUG kmalloc-64 \(Not tainted\): Object already free\n/);
    expect(machine.dmesg()).toMatch(/\] Allocated in init_module \[module\] age=0 cpu=0 pid=0\n/);
    expect(machine.run((os) => void os.mem.store8(os.sbrk(4096), 1)).status).toBe(0);
    machine.validate();
  });

  test('is what lets the kernel go on: without, a double free stops it', () => {
    const { kernel, machine } = bootDebugged('');
    const block = kernel.slab.kmalloc(60, GFP_KERNEL);
    kernel.slab.kfree(block);
    expect(() => kernel.slab.kfree(block)).toThrow(KernelBug);
    expect(machine.dmesg()).toMatch(/BUG kmalloc-64: Object already free/);
  });

  test('finds what the kernel itself does wrong, and validate tells of it', () => {
    const { kernel, machine } = bootDebugged('slub_debug=F');
    kernel.caches.pid.free(kernel.caches.signal_cache.alloc(GFP_KERNEL));
    expect(machine.slabReports()).toMatchObject([{ kind: 'wrong-cache' }]);
    expect(() => machine.validate()).toThrow('the kernel misuses its own objects: cache_from_obj: Wrong slab cache. pid but object is from signal_cache');
  });

  test('finds nothing wrong with the kernel itself', () => {
    const { machine } = bootDebugged('slub_debug=FZPU');
    const { status } = machine.run((os) => {
      const area = os.mmap(0, 64 * 4096, 3, 0x22);
      os.mem.fill(area, 64 * 4096, 1);
      for (let i = 0; i < 5; i++) os.waitpid(os.fork((child) => child.mem.store8(area, i)));
      os.munmap(area, 64 * 4096);
    });
    expect(status).toBe(0);
    for (const path of machine.listFiles().filter((name) => /^\/sys\/kernel\/slab\/.*\/validate$/.test(name))) machine.writeFile(path, '1');
    expect(machine.slabReports()).toEqual([]);
    machine.validate();
  });
});

describe('free lists', () => {
  test('are kept as the configuration says', () => {
    const freed = (freelist: object): { order: number[]; isAddress: boolean; stops: boolean } => {
      const kernel = bootKernel(parseMachineConfig({ memory: '256M', freelist }));
      const blocks = Array.from({ length: 8 }, () => kernel.slab.kmalloc(512, GFP_KERNEL));
      const [a, b] = blocks as [number, number];
      kernel.slab.kfree(a);
      kernel.slab.kfree(b);
      const stored = kernel.ram.loadAddress(b + 256 - PAGE_OFFSET);
      let stops = false;
      try {
        kernel.slab.kfree(b);
      } catch {
        stops = true;
      }
      return { order: blocks.map((block) => block - Math.min(...blocks)), isAddress: stored === a, stops };
    };
    const ascending = Array.from({ length: 8 }, (_, i) => i * 512);
    expect(freed({})).toEqual({ order: ascending, isAddress: true, stops: true });
    expect(freed({ hardening: 'none' })).toEqual({ order: ascending, isAddress: true, stops: false });
    expect(freed({ hardening: 'full', random: true })).toMatchObject({ isAddress: false, stops: true });
    expect(freed({ random: true }).order).not.toEqual(ascending);
    expect(() => boot({ memory: '256M', freelist: { hardening: 'some' as 'full' } })).toThrow('freelist: takes an object { hardening:');
  });
});

describe('/sys/kernel/slab', () => {
  test('shrinks and validates', () => {
    const { kernel, machine } = bootDebugged('slub_debug=FZP,kmalloc-2k');
    const blocks = Array.from({ length: 100 }, () => kernel.slab.kmalloc(2048, GFP_KERNEL));
    for (const block of blocks) kernel.slab.kfree(block);
    const slabs = (): number => parseInt(machine.readFile('/sys/kernel/slab/kmalloc-2k/slabs'), 10);
    const before = slabs();
    machine.writeFile('/sys/kernel/slab/kmalloc-2k/shrink', '1\n');
    expect(slabs()).toBeLessThan(before);
    machine.writeFile('/sys/kernel/slab/kmalloc-2k/validate', '1\n');
    expect(() => machine.writeFile('/sys/kernel/slab/kmalloc-2k/validate', '0')).toThrow('EINVAL');
    expect(() => machine.writeFile('/sys/kernel/slab/kmalloc-1k/validate', '1')).toThrow('EINVAL');
  });

  test('tells in debugfs who allocated what lives', () => {
    const { kernel, machine } = bootDebugged('slub_debug=U,kmalloc-2k');
    for (let i = 0; i < 3; i++) kernel.slab.kmalloc(2048, GFP_KERNEL);
    expect(machine.readFile('/sys/kernel/debug/slab/kmalloc-2k/alloc_traces')).toMatch(/^ {6}3 \w+ age=0\/0\/0 pid=0 cpus=0\n$/);
    expect(machine.readFile('/sys/kernel/debug/slab/kmalloc-2k/free_traces')).toBe('No data\n');
    expect(machine.listFiles()).not.toContain('/sys/kernel/debug/slab/kmalloc-1k/alloc_traces');
  });
});
