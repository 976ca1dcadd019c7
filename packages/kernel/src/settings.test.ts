/**
 * What the files under `/proc/sys/vm`, `/sys/kernel/mm` and `/sys/module/zswap` take, what they answer, and what they say then,
 * as a kernel of 6.18.15 did; each file is set back at its end.
 */
import { readFileSync } from 'node:fs';
import { deflateRawSync, gunzipSync, inflateRawSync } from 'node:zlib';
import { Syscall, SyscallError } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import type { Machine, Process } from './machine.ts';

/** By file: text, result, and what the file says then; `null` where it cannot be read. */
const recorded = JSON.parse(gunzipSync(readFileSync(new URL('../../../test/data/settings/writes.json.gz', import.meta.url))).toString()) as Readonly<
  Record<string, readonly (readonly [text: string, result: number, shown: string | null])[]>
>;

function outcome<T>(body: () => T): T | number {
  try {
    return body();
  } catch (error) {
    if (error instanceof SyscallError) return -error.errno;
    throw error;
  }
}

function machineOfTwoNodes(): { machine: Machine; process: Process } {
  const lzo = { name: 'lzo', compress: (page: Uint8Array) => deflateRawSync(page), decompress: (data: Uint8Array) => inflateRawSync(data) };
  const machine = boot(
    { memory: '1G', cpus: 2, numa: [{ memory: '512M', cpus: [0] }, { memory: '512M', cpus: [1] }], cmdline: 'transparent_hugepage=always' },
    { compressors: [lzo] },
  );
  machine.writeFile('/sys/kernel/mm/lru_gen/enabled', '7');
  return { machine, process: machine.createProcess() };
}

test('settings take and refuse what Linux does', () => {
  const { machine, process } = machineOfTwoNodes();
  const { os } = process;
  const wrong: string[] = [];
  for (const [file, writes] of Object.entries(recorded)) {
    const before = outcome(() => machine.readFile(file));
    for (const [text, result, shown] of writes) {
      const got = outcome(() => {
        os.writeFile(file, text);
        return text.length;
      });
      const says = outcome(() => os.readFile(file));
      // Many take what begins with a number, and leave the rest.
      const asRecorded = result < 0 ? got === result : got >= 0;
      if (!asRecorded || (shown !== null && says !== shown)) {
        wrong.push(`${file} ${JSON.stringify(text)}: ${result} ${JSON.stringify(shown)}, here ${got} ${JSON.stringify(says)}`);
      }
    }
    if (typeof before === 'string') outcome(() => machine.writeFile(file, /\[(.*)\]/.exec(before)?.[1] ?? before));
  }
  expect(wrong).toEqual([]);
  machine.validate();
});

test('vm.memfd_noexec says whether a memory file can be run', () => {
  const { machine, process } = machineOfTwoNodes();
  const { os } = process;
  const name = os.mmap(0, 4096, 3, 0x22);
  os.mem.storeCString(name, 'x');
  const create = (flags: number): number => os.syscall(Syscall.memfd_create, name, flags);
  const mode = (fd: number): number => Number(os.syscall(Syscall.fstat, fd, name + 1024) === 0 ? os.mem.load32(name + 1024 + 24) & 0o777 : -1);
  const [NOEXEC_SEAL, EXEC] = [8, 16];
  expect([0, NOEXEC_SEAL, EXEC].map((flags) => mode(create(flags)))).toEqual([0o777, 0o666, 0o777]);
  machine.writeFile('/proc/sys/vm/memfd_noexec', '1');
  expect([0, NOEXEC_SEAL, EXEC].map((flags) => mode(create(flags)))).toEqual([0o666, 0o666, 0o777]);
  machine.writeFile('/proc/sys/vm/memfd_noexec', '2');
  expect([mode(create(0)), mode(create(NOEXEC_SEAL)), create(EXEC)]).toEqual([0o666, 0o666, -13]);
});
