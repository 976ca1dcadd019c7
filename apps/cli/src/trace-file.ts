/**
 * Trace files: opened as a stream of bytes, unpacked where they are gzipped, and told apart by their content.
 */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { UsageError } from './errors.ts';

/** Bytes read at a time. */
const PIECE = 1 << 18;

/** The kinds of traces that can be told apart. */
export type TraceKind = 'malloc' | 'mtrace' | 'strace' | 'pages' | 'lackey';

const KINDS: readonly { readonly kind: TraceKind; readonly line: RegExp }[] = [
  { kind: 'malloc', line: /^[mcarf] \d+ \d+/ },
  { kind: 'mtrace', line: /^(= Start$|@ .*[+<>!-] (0x[0-9a-f]+|\(nil\)))/ },
  { kind: 'strace', line: /^(\[pid +\d+\] |\d+ +)?(\d+:\d+:\d+\S* )?(\w+\(|\+\+\+ |--- )/ },
  { kind: 'pages', line: /^[RWX] [0-9a-fA-F]+( \d+)?$/ },
  { kind: 'lackey', line: /^(I | [SLM]) [0-9a-f]+,\d+/ },
];

/** What kind of trace a text begins; `undefined` where no line is of any kind. */
export function detectTraceKind(text: string): TraceKind | undefined {
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#') || line.startsWith('==')) continue;
    return KINDS.find(({ line: form }) => form.test(line))?.kind;
  }
  return undefined;
}

async function isGzip(file: string): Promise<boolean> {
  const handle = await open(file);
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(2), 0, 2, 0);
    return bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b;
  } finally {
    await handle.close();
  }
}

/**
 * The bytes of a trace file, piece by piece.
 *
 * @throws UsageError where it cannot be read
 */
export async function* readTrace(file: string): AsyncGenerator<Uint8Array> {
  try {
    const packed = await isGzip(file);
    const raw = createReadStream(file, { highWaterMark: PIECE });
    yield* (packed ? raw.compose(createGunzip({ chunkSize: PIECE })) : raw) as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw new UsageError(`cannot read ${file}: ${(error as Error).message}`);
  }
}
