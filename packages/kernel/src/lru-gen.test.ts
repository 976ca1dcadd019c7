import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { RECLAIM_POLICIES } from './reclaim.ts';

const ENABLED = '/sys/kernel/mm/lru_gen/enabled';
const MIN_TTL = '/sys/kernel/mm/lru_gen/min_ttl_ms';
const PAGE = 4096;

const errorOf = (os: Os, path: string, text: string): string => {
  try {
    os.writeFile(path, text);
    return '';
  } catch (error) {
    return (error as { code: string }).code;
  }
};

test('generations are what a kernel of 6.12 has, and others on request', () => {
  const policyOf = (config: object): string => parseMachineConfig({ memory: '64M', ...config }).reclaim;
  expect([policyOf({}), policyOf({ kernel: '6.1' }), policyOf({ kernel: '6.12' })]).toEqual(['classic', 'classic', 'mglru']);
  expect([policyOf({ reclaim: 'mglru' }), policyOf({ kernel: '6.12', reclaim: 'classic' })]).toEqual(['mglru', 'classic']);
  expect(() => policyOf({ reclaim: 'best' })).toThrow('reclaim: takes "classic", "mglru"');
});

test('they are switched on and off while programs run', () => {
  const machine = boot({ memory: '64M', swap: [{ size: '128M' }] });
  const result = machine.run((os) => {
    const nrPages = 14_000;
    const addr = os.mmap(0, nrPages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    const fill = (salt: number): void => {
      for (let i = 0; i < nrPages; i++) os.mem.store32(addr + i * PAGE, i + salt);
    };
    const isWrong = (salt: number): boolean => Array.from({ length: nrPages }, (_, i) => os.mem.load32(addr + i * PAGE)).some((word, i) => word !== i + salt);
    expect(os.readFile(ENABLED)).toBe('0x0006\n');
    expect(os.readFile('/sys/kernel/debug/lru_gen')).toBe('');
    fill(1);
    os.writeFile(ENABLED, 'y\n');
    expect(os.readFile(ENABLED)).toBe('0x0007\n');
    if (isWrong(1)) return 1;
    fill(2);
    expect(os.readFile('/sys/kernel/debug/lru_gen')).toMatch(/^memcg {5}0 \n node {5}0\n( +\d+){4} \n/);
    os.writeFile(ENABLED, '0x5');
    expect(os.readFile(ENABLED)).toBe('0x0005\n');
    os.writeFile(ENABLED, '0');
    expect(os.readFile(ENABLED)).toBe('0x0000\n');
    return isWrong(2) ? 1 : 0;
  });
  expect(result.status).toBe(0);
  machine.validate();
});

test.each(RECLAIM_POLICIES)('a group is held to its limit by %s', (reclaim) => {
  const machine = boot({ memory: '128M', reclaim: reclaim as 'classic', swap: [{ size: '128M' }] });
  const group = '/sys/fs/cgroup/small';
  const nrPages = 4000;
  const result = machine.run((os) => {
    os.mkdir(group);
    os.writeFile('/sys/fs/cgroup/cgroup.subtree_control', '+memory');
    os.writeFile(`${group}/memory.max`, '8M');
    const child = os.fork((each) => {
      each.writeFile(`${group}/cgroup.procs`, '0');
      const addr = each.mmap(0, nrPages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
      for (let i = 0; i < nrPages; i++) each.mem.store32(addr + i * PAGE, i + 1);
      for (let i = 0; i < nrPages; i++) if (each.mem.load32(addr + i * PAGE) !== i + 1) return 1;
      expect(Number(each.readFile(`${group}/memory.current`))).toBeLessThanOrEqual(2 ** 23);
      expect(Number(each.readFile(`${group}/memory.swap.current`))).toBeGreaterThan(2 ** 22);
      machine.validate();
      return 0;
    });
    return os.waitpid(child)!.status ?? 2;
  });
  expect(result.error).toBeUndefined();
  expect(result.status).toBe(0);
  machine.validate();
});

test('files take what the kernel takes', () => {
  boot({ memory: '64M', reclaim: 'mglru' }).run((os) => {
    expect([os.readFile(ENABLED), os.readFile(MIN_TTL)]).toEqual(['0x0007\n', '0\n']);
    expect([errorOf(os, ENABLED, 'x'), errorOf(os, MIN_TTL, '-1'), errorOf(os, MIN_TTL, '1000')]).toEqual(['EINVAL', 'EINVAL', '']);
    expect(os.readFile(MIN_TTL)).toBe('1000\n');
    return 0;
  });
});

test('a machine with another policy has none of this', () => {
  boot({ memory: '64M', reclaim: 'fifo' }).run((os) => {
    expect(errorOf(os, ENABLED, 'y')).toBe('ENOENT');
    return 0;
  });
});
