import type { MallocOs } from '../malloc.ts';

/** A boundary whose memory counts the loads and stores of words that are made through it. */
export function countAccesses(os: MallocOs): { os: MallocOs; readonly count: () => number } {
  let accesses = 0;
  const mem = new Proxy(os.mem, {
    get(target, name) {
      const member = Reflect.get(target, name, target) as unknown;
      if (typeof member !== 'function') return member;
      return (...args: unknown[]): unknown => {
        accesses++;
        return Reflect.apply(member, target, args);
      };
    },
  });
  const names = ['sbrk', 'mmap', 'munmap', 'mremap', 'mprotect', 'madvise', 'getpagesize'] as const;
  const calls = Object.fromEntries(names.map((name) => [name, os[name].bind(os)]));
  return { os: { mem, ...calls } as unknown as MallocOs, count: () => accesses };
}
