import { readdirSync } from 'node:fs';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { boot } from '@pagelab/kernel';
import type { BootOptions, KernelModule, Machine, MachineConfigInput, MachineStats } from '@pagelab/kernel';
import type { Program } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
  .map((file) => file.replace(/\.ts$/, ''));

/** What the command hands in, too: to compress with. */
const HOST: BootOptions = {
  compressors: [{ name: 'deflate', compress: (page) => deflateRawSync(page, { level: 1 }), decompress: (data) => inflateRawSync(data) }],
};
/** What the host of one example hands in. */
const poem = new TextEncoder().encode(`A page that nobody wanted yet\n${'was read with those around it.\n'.repeat(4000)}`);
const OPTIONS: Readonly<Record<string, BootOptions>> = {
  'host-files': {
    hostDirectory: {
      stat: (path) =>
        path === '' ? { kind: 'directory', size: 0, mode: 0o755 } : path === 'poem.txt' ? { kind: 'file', size: poem.length, mode: 0o644 } : undefined,
      read: (_path, position, target) => {
        const part = poem.subarray(position, position + target.length);
        target.set(part);
        return part.length;
      },
    },
  },
};
const DEFAULT: MachineConfigInput = { memory: '3G', cpus: 2 };

async function load(name: string): Promise<{ default: Program; machine?: MachineConfigInput }> {
  return (await import(/* @vite-ignore */ new URL(`./${name}.ts`, import.meta.url).href)) as { default: Program; machine?: MachineConfigInput };
}

/** Frames by owner, and live objects by cache: what a program must leave as it found it. */
function inUse({ framesByOwner, kernelPageTables, slabs }: MachineStats): unknown {
  const { free: _free, 'page table': tables = 0, ...others } = framesByOwner;
  const owners = { ...others, tables: tables - kernelPageTables };
  return { owners, objects: Object.fromEntries(slabs.map(({ name, activeObjects }) => [name, activeObjects])) };
}

function runOn(machine: Machine, program: Program, name: string): void {
  machine.quiesce();
  const before = inUse(machine.stats());
  const result = machine.run(program, { name });
  expect(result.error).toBeUndefined();
  expect(result.status).toBe(0);
  machine.validate();
  machine.quiesce();
  expect(inUse(machine.stats())).toEqual(before);
}

describe.each(names)('example %s', (name) => {
  it('prints what it should and leaves nothing behind', async () => {
    const { default: program, machine: wanted } = await load(name);
    const machine = boot(wanted ?? DEFAULT, OPTIONS[name] ?? HOST);
    // It drops what the machine keeps of names, too.
    if (name in OPTIONS) for (let round = 0; round < 3; round++) machine.writeFile('/proc/sys/vm/drop_caches', '3');
    runOn(machine, program, name);
    await expect(machine.consoleText).toMatchFileSnapshot(`expected/${name}.txt`);
  });

  it.each(['x86-pae', 'x86-32'] as const)('runs on a machine of %s', async (arch) => {
    const { default: program } = await load(name);
    runOn(boot({ arch, memory: '2G', cpus: 2 }), program, name);
  });

  it('runs on a machine of 1 TiB', async () => {
    const { default: program } = await load(name);
    runOn(boot({ memory: '1T', cpus: 4 }), program, name);
  });
});

/** Kernel code: each is run as a module is, and says what it has to say in the kernel's log. */
const modules = readdirSync(new URL('./modules', import.meta.url)).map((file) => file.replace(/\.ts$/, ''));

describe.each(modules)('module %s', (name) => {
  it('logs what it should', async () => {
    const { default: body, machine: wanted } = (await import(/* @vite-ignore */ new URL(`./modules/${name}.ts`, import.meta.url).href)) as {
      default: (kernel: KernelModule) => void;
      machine?: MachineConfigInput;
    };
    const machine = boot(wanted ?? DEFAULT);
    machine.quiesce();
    const before = inUse(machine.stats());
    const logged = machine.dmesg().length;
    machine.module(body, { name: name.replaceAll('-', '_') });
    machine.validate();
    machine.unloadModule(name.replaceAll('-', '_'));
    machine.quiesce();
    // What a report is about is set aside, and what leaked is not freed: it stays.
    if (machine.slabReports().length + machine.kmemleak().length === 0) expect(inUse(machine.stats())).toEqual(before);
    // Where in memory it all lies is no part of it.
    const text = machine.dmesg().slice(logged).replace(/^\[[^\]]*\] /gm, '').replace(/Slab 0x\w+/g, 'Slab 0xffff............').replace(/ffff\w{9}(?=\w{3}\b)/g, 'ffff.........').replace(/\b(PGD|P4D|PUD|PMD|PTE) [1-9a-f]\w*/g, '$1 ...');
    await expect(text).toMatchFileSnapshot(`expected/modules/${name}.txt`);
  });
});

describe.each(names)('example %s, every cache debugged', (name) => {
  it('runs as before, and no report is made', async () => {
    const { default: program, machine: wanted } = await load(name);
    const machine = boot({ ...(wanted ?? DEFAULT), cmdline: `${wanted?.cmdline ?? ''} slub_debug=FZPU` }, HOST);
    const { status, error } = machine.run(program, { name });
    expect(error).toBeUndefined();
    expect(status).toBe(0);
    for (const file of machine.listFiles().filter((path) => /^\/sys\/kernel\/slab\/.*\/validate$/.test(path))) machine.writeFile(file, '1');
    expect(machine.slabReports()).toEqual([]);
    machine.validate();
  });
});

/** What is wrong on purpose with an object of a cache. */
const WRONG = ['use-after-free'];

describe.each(modules.filter((name) => !WRONG.includes(name)))('module %s, every cache debugged', (name) => {
  it('uses its objects as it should', async () => {
    const { default: body, machine: wanted } = (await import(/* @vite-ignore */ new URL(`./modules/${name}.ts`, import.meta.url).href)) as {
      default: (kernel: KernelModule) => void;
      machine?: MachineConfigInput;
    };
    const machine = boot({ ...(wanted ?? DEFAULT), cmdline: `${wanted?.cmdline ?? ''} slub_debug=FZPU` });
    machine.module(body, { name: name.replaceAll('-', '_') });
    expect(machine.slabReports()).toEqual([]);
  });
});
