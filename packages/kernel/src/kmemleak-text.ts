import type { KmemleakObject } from './kmemleak.ts';

/** What `jiffies` begins with: five minutes before it would run over 32 bits, at 250 a second. @linux include/linux/jiffies.h:INITIAL_JIFFIES */
const INITIAL_JIFFIES = 2 ** 32 - 300 * 250;
const ROW = 16;

/**
 * A leak as `/sys/kernel/debug/kmemleak` has it. Functions have no offsets.
 *
 * @param bytes the first of its contents, at most 32
 * @linux mm/kmemleak.c:print_unreferenced
 */
export function leakText(object: KmemleakObject, kernel: '6.1' | '6.12' | '6.18', ageMs: number, bytes: Uint8Array): string {
  const { pointer, size, comm, pid, isPercpu, trace, checksum } = object;
  const hex = BigInt.asUintN(64, BigInt(pointer)).toString(16).padStart(8, '0');
  const old = kernel === '6.1';
  const what = isPercpu && kernel === '6.18' ? ' (percpu)' : '';
  const age = `(age ${Math.floor(ageMs / 1000)}.${String(ageMs % 1000).padStart(3, '0')}s)`;
  let text = `unreferenced object${what} 0x${hex} (size ${size}):\n`;
  text += `  comm "${comm}", pid ${pid}, jiffies ${INITIAL_JIFFIES + object.jiffies}${old ? ` ${age}` : ''}\n`;
  text += `  hex dump (first ${bytes.length} bytes${isPercpu ? ' on cpu 0' : ''}):\n`;
  for (let at = 0; at < bytes.length; at += ROW) text += `    ${row(bytes.subarray(at, at + ROW))}\n`;
  text += old ? '  backtrace:\n' : `  backtrace (crc ${checksum.toString(16)}):\n`;
  for (const name of trace) text += old ? `    [<0>] ${name}\n` : `    ${name}\n`;
  return text;
}

/** @linux lib/hexdump.c:hex_dump_to_buffer */
function row(bytes: Uint8Array): string {
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const ascii = [...bytes].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
  return `${hex.padEnd(ROW * 3 - 1)}  ${ascii}`;
}
