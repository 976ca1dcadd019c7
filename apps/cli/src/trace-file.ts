/**
 * Traces: files, pipes or standard input, read once as a stream of bytes, unpacked where they are gzipped, and told apart by
 * their content.
 */
import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { CommandFailure, UsageError } from './errors.ts';

/** Bytes read at a time. */
const PIECE = 1 << 18;
/** Bytes within which a trace has a line that tells its kind. */
const BEGINNING = 1 << 16;
/** How standard input is named among files. */
const STANDARD_INPUT = '-';

/** The kinds of traces that can be told apart. */
export type TraceKind = 'malloc' | 'mtrace' | 'strace' | 'pages' | 'lackey';

const KINDS: readonly { readonly kind: TraceKind; readonly line: RegExp }[] = [
  { kind: 'malloc', line: /^(# malloc-trace v1\b|[mcarf] \d+ \d+)/ },
  { kind: 'mtrace', line: /^(= Start$|@ .*[+<>!-] (0x[0-9a-f]+|\(nil\)))/ },
  { kind: 'strace', line: /^(\[pid +\d+\] |\d+ +)?(\d+:\d+:\d+\S* )?(\w+\(|\+\+\+ |--- )/ },
  { kind: 'pages', line: /^(# page-trace v1\b|[RWX] [0-9a-fA-F]+( \d+)?$)/ },
  { kind: 'lackey', line: /^(I | [SLM]) [0-9a-f]+,\d+/ },
];

/** What kind of trace a text is of, by its header or its first line that is of any; `undefined` where none is. */
export function detectTraceKind(text: string): TraceKind | undefined {
  for (const line of text.split('\n')) {
    const found = KINDS.find(({ line: form }) => form.test(line));
    if (found) return found.kind;
  }
  return undefined;
}

/** A trace that is open. Its bytes can be read once. */
export interface Trace {
  /** The file's name, or what stands for standard input. */
  readonly name: string;
  readonly kind: TraceKind;
  /** Its bytes, unpacked. Reading them throws a {@link UsageError} where that fails. */
  readonly pieces: AsyncIterable<Uint8Array>;
}

type Pieces = AsyncGenerator<Uint8Array, void, void>;

/** Pieces that have been taken from a stream already, and then the others. */
async function* putBack(taken: readonly Uint8Array[], rest: Pieces): Pieces {
  yield* taken;
  yield* rest;
}

/** Takes pieces until `enough` says so of their bytes, or there are no more. */
async function take(from: Pieces, enough: (bytes: Uint8Array) => boolean): Promise<{ bytes: Uint8Array; all: Pieces }> {
  const taken: Uint8Array[] = [];
  let bytes: Uint8Array = new Uint8Array();
  while (!enough(bytes)) {
    const { value, done } = await from.next();
    if (done) break;
    taken.push(value);
    bytes = Buffer.concat(taken);
  }
  return { bytes, all: putBack(taken, from) };
}

async function* rawPieces(file: string): Pieces {
  const stream = file === STANDARD_INPUT ? process.stdin : createReadStream(file, { highWaterMark: PIECE });
  yield* stream as AsyncIterable<Uint8Array>;
}

function gunzipped(pieces: Pieces): AsyncIterable<Uint8Array> {
  // What goes wrong with either is thrown where the pieces are read.
  return pipeline(Readable.from(pieces), createGunzip({ chunkSize: PIECE }), () => {});
}

async function* unpackedPieces(file: string): Pieces {
  try {
    const { bytes, all } = await take(rawPieces(file), ({ length }) => length >= 2);
    const packed = bytes[0] === 0x1f && bytes[1] === 0x8b;
    yield* packed ? gunzipped(all) : all;
  } catch (error) {
    throw new UsageError(`cannot read ${file}: ${(error as Error).message}`);
  }
}

/**
 * Opens a trace: a file, a pipe, or `-` for standard input, gzipped or not.
 *
 * @throws UsageError where it cannot be read; CommandFailure where its beginning is of no kind of trace
 */
export async function openTrace(file: string): Promise<Trace> {
  const name = file === STANDARD_INPUT ? 'standard input' : file;
  const opened = unpackedPieces(file);
  let kind: TraceKind | undefined;
  const { all } = await take(opened, (bytes) => {
    kind = detectTraceKind(new TextDecoder().decode(bytes));
    return kind !== undefined || bytes.length >= BEGINNING;
  });
  if (kind === undefined) {
    await opened.return();
    throw new CommandFailure(`${name} is no trace that can be told: a malloc trace has lines like 'm 0 1 24'`);
  }
  return { name, kind, pieces: all };
}
