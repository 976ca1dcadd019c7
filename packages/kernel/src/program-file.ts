/**
 * What a program's file looks like to `execve`: a small static program, of the sizes that its description names.
 */
import { PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { ProgramDescription, VirtAddr } from '@pagelab/abi';
import type { ProgramImage, ProgramSegment } from '@pagelab/vm';

/** Where linkers put programs: of 64 bits, and of 32. */
const TEXT_START = 0x40_0000;
const TEXT_START_32 = 0x804_8000;

/** No part is larger: what a linker puts there stays below 2 GiB. In bytes. */
const MAX_PART = 2 ** 30;

const DEFAULTS = { text: 32 * 1024, constants: 8 * 1024, data: PAGE_SIZE, bss: 128 * 1024, pie: false } as const;

const PARTS = ['text', 'constants', 'data', 'bss'] as const;

/** A program's description, complete and checked; parts are whole pages. @throws TypeError or RangeError that names what is wrong */
export function describeProgram(description: ProgramDescription = {}): Required<ProgramDescription> {
  for (const key of Object.keys(description)) {
    if (!(key in DEFAULTS)) throw new TypeError(`a program's image has ${PARTS.join(', ')} and pie, but no '${key}'`);
  }
  const { pie } = { ...DEFAULTS, ...description };
  if (typeof pie !== 'boolean') throw new TypeError(`a program's pie is true or false, not ${String(pie)}`);
  const parts = PARTS.map((part): [string, number] => {
    const bytes = description[part] ?? DEFAULTS[part];
    const least = part === 'text' ? 1 : 0;
    if (!Number.isInteger(bytes) || bytes < least || bytes > MAX_PART) {
      throw new RangeError(`a program's ${part} has ${least} to ${MAX_PART} bytes, not ${String(bytes)}`);
    }
    return [part, Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE];
  });
  return { ...(Object.fromEntries(parts) as Record<(typeof PARTS)[number], number>), pie };
}

/**
 * Code, constants, data with zeroed memory behind it, and a page of constants at the end, so that the heap has no writable
 * neighbour.
 *
 * @param path as `/proc/PID/maps` names it
 */
export function programFile(path: string, { text, constants, data, bss, pie }: Required<ProgramDescription>, is32Bit: boolean): ProgramImage {
  const segments: ProgramSegment[] = [];
  let start: VirtAddr = pie ? 0 : is32Bit ? TEXT_START_32 : TEXT_START;
  let offset = 0;
  const add = (fileBytes: number, memoryBytes: number, prot: number): void => {
    if (memoryBytes > 0) segments.push({ start, offset, fileBytes, memoryBytes, prot });
    start += memoryBytes;
    offset += fileBytes;
  };
  add(text, text, PROT_READ | PROT_EXEC);
  add(constants, constants, PROT_READ);
  add(data, data + bss, PROT_READ | PROT_WRITE);
  add(PAGE_SIZE, PAGE_SIZE, PROT_READ);
  return { path, segments, pie };
}
