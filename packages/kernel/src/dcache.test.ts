import { describe, expect, test } from 'vitest';
import { O_CREAT, O_RDWR } from '@pagelab/abi';
import { GFP_KERNEL, GFP_NOFS, NODE_STAT, VM_EVENT } from '@pagelab/mm-core';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { createMachine } from './machine.ts';

const FILES = 500;

function rig(memory = '256M') {
  const kernel = bootKernel(parseMachineConfig({ memory }));
  const machine = createMachine(kernel);
  const { names, caches, slab, pages } = kernel;
  const open = (path: string, flags = O_RDWR) => {
    const file = names.open(null, path, flags, 0o644);
    if (typeof file === 'number') throw new Error(`open ${path}: ${file}`);
    return file;
  };
  return {
    kernel, machine, names, open,
    makeFiles: (count = FILES): void => {
      names.mkdir(null, '/home/many', 0o755);
      for (let i = 0; i < count; i++) open(`/home/many/${i}`, O_CREAT | O_RDWR).put();
    },
    live: () => ({ dentries: caches.dentry.activeObjects, inodes: caches.inode_cache.activeObjects }),
    drop: (gfp = GFP_KERNEL): number => slab.shrinkers.dropSlab(gfp),
    reclaimable: (): number => {
      machine.quiesce();
      return pages.nodeState(NODE_STAT.NR_SLAB_RECLAIMABLE);
    },
  };
}

describe('the dentry and inode caches', () => {
  test('go back when they are dropped, and come back when they are used', () => {
    const { machine, names, makeFiles, live, drop, reclaimable } = rig();
    const before = live();
    makeFiles();
    expect(live()).toEqual({ dentries: before.dentries + FILES + 1, inodes: before.inodes + FILES });
    const pages = reclaimable();

    expect(drop()).toBeGreaterThanOrEqual(2 * FILES);
    expect(live().dentries).toBeLessThanOrEqual(before.dentries);
    expect(live().inodes).toBe(before.inodes);
    expect(reclaimable()).toBeLessThan(pages - 60);
    machine.validate();

    expect(names.status(null, '/home/many/7')).toMatchObject({ size: 0 });
    expect(live().inodes).toBe(before.inodes + 1);
    for (let i = 0; i < FILES; i++) expect(names.unlink(null, `/home/many/${i}`)).toBe(0);
    expect(names.rmdir(null, '/home/many')).toBe(0);
    expect(live().inodes).toBe(before.inodes);
    machine.validate();
  });

  test('keep what is open, and the way to it', () => {
    const { machine, open, makeFiles, live, drop } = rig();
    makeFiles();
    const file = open('/home/many/3');
    drop();
    expect(live().inodes).toBe(1);
    file.put();
    // A round that frees next to nothing is the last.
    while (drop() > 0);
    expect(live().inodes).toBe(0);
    machine.validate();
  });

  test('keep inodes whose pages are in memory', () => {
    const { kernel, machine, open, live, drop } = rig();
    const file = open('/home/written', O_CREAT | O_RDWR);
    const task = null as never;
    expect(file.write(task, 0, new Uint8Array(5000).fill(7))).toBe(5000);
    file.put();
    drop();
    expect(live().inodes).toBe(1);
    const again = open('/home/written');
    expect(again.read(task, 4990, 10)).toEqual(new Uint8Array(10).fill(7));
    again.put();
    expect(kernel.names.unlink(null, '/home/written')).toBe(0);
    expect(live().inodes).toBe(0);
    machine.validate();
  });

  test('give a page of reclaim some, the least recently used first', () => {
    const { kernel, names, makeFiles, live } = rig();
    makeFiles();
    const before = live();
    // A first look only notes that they have not been used since.
    for (let turn = 0; turn < 4; turn++) kernel.slab.shrinkers.shrinkSlab(GFP_KERNEL, 0, 1);
    const after = live();
    expect(after.dentries).toBeLessThan(before.dentries);
    names.status(null, `/home/many/${FILES - 1}`);
    expect(kernel.pages.events[VM_EVENT.SLABS_SCANNED]).toBeGreaterThan(0);
  });

  test('are left alone by who may not wait for file systems, and with vfs_cache_pressure 0', () => {
    const { machine, makeFiles, live, drop } = rig();
    makeFiles();
    const before = live();
    drop(GFP_NOFS);
    expect(live()).toEqual(before);
    machine.writeFile('/proc/sys/vm/vfs_cache_pressure', '0');
    drop();
    expect(live()).toEqual(before);
    machine.writeFile('/proc/sys/vm/vfs_cache_pressure', '100');
    drop();
    expect(live()).not.toEqual(before);
  });

  test('go back when programs need the memory', () => {
    const { machine, kernel, makeFiles, live, reclaimable } = rig('96M');
    makeFiles(8000);
    const before = live();
    const pages = reclaimable();
    let taken = 0;
    const { status } = machine.run((os) => {
      for (; taken % 32 !== 0 || live().inodes > before.inodes / 2; taken++) os.mem.store8(os.sbrk(4096), 1);
    });
    // It was not killed for want of memory.
    expect(status).toBe(0);
    expect(taken).toBeGreaterThan(1000);
    expect(live().dentries).toBeLessThan(before.dentries / 2);
    expect(reclaimable()).toBeLessThan(pages - 500);
    expect(kernel.pages.events[VM_EVENT.SLABS_SCANNED]).toBeGreaterThan(8000);
    machine.validate();
  });

  test('are dropped by drop_caches', () => {
    const { machine, makeFiles, live } = rig();
    makeFiles();
    machine.writeFile('/proc/sys/vm/drop_caches', '2');
    expect(live().inodes).toBeLessThan(2);
  });
});
