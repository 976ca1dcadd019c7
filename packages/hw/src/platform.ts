/**
 * What the packages use of the platform beyond the language itself: the parts that Node and browsers share. Declared
 * here because the language's own library does not list them.
 */

interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

/** The functions of a module, by name. */
export type WasmExports = Readonly<Record<string, (...args: number[]) => number | void>>;

interface Platform {
  readonly WebAssembly?: {
    readonly Memory: new (descriptor: { initial: number; maximum: number }) => WasmMemory;
    readonly Module: new (code: Uint8Array) => object;
    readonly Instance: new (module: object, imports: object) => { readonly exports: WasmExports };
  };
  readonly TextDecoder: new (label: string, options: { ignoreBOM: boolean }) => { decode(bytes: Uint8Array): string };
  readonly TextEncoder: new () => { encode(text: string): Uint8Array };
}

const platform = globalThis as unknown as Platform;

/** The WebAssembly memories that buffers are of. */
const memories = new WeakMap<ArrayBuffer, WasmMemory>();

/** Bytes in a page of WebAssembly memory. */
const WASM_PAGE_BYTES = 65536;

/** The most that one buffer holds: 65,536 pages of WebAssembly memory. */
export const MAX_BUFFER_BYTES = 65536 * WASM_PAGE_BYTES;

/**
 * A zeroed buffer of at least `bytes`, of which the host commits only what is touched.
 *
 * @param bytes at most {@link MAX_BUFFER_BYTES}
 * @throws RangeError where the host refuses to reserve so much
 */
export function reserveBuffer(bytes: number): ArrayBuffer {
  const pages = Math.ceil(bytes / WASM_PAGE_BYTES);
  if (platform.WebAssembly !== undefined) {
    try {
      const memory = new platform.WebAssembly.Memory({ initial: pages, maximum: pages });
      memories.set(memory.buffer, memory);
      return memory.buffer;
    } catch {
      // The host limits the address space of WebAssembly memories; an ordinary buffer may still fit.
    }
  }
  return new ArrayBuffer(pages * WASM_PAGE_BYTES);
}

/**
 * Compiles a module for a buffer that {@link reserveBuffer} gave, which it imports as memory `a.m`.
 *
 * @returns its functions; `null` where the host has no WebAssembly, or lets nothing be compiled
 */
export function instantiateWasm(code: Uint8Array, buffer: ArrayBuffer): WasmExports | null {
  const memory = memories.get(buffer);
  if (memory === undefined) return null;
  const { Module, Instance } = platform.WebAssembly!;
  try {
    return new Instance(new Module(code), { a: { m: memory } }).exports;
  } catch {
    return null;
  }
}

const decoder = new platform.TextDecoder('utf-8', { ignoreBOM: true });
const encoder = new platform.TextEncoder();

/** Decodes UTF-8, replacing what is not. */
export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** Encodes as UTF-8. */
export function encodeUtf8(text: string): Uint8Array {
  return encoder.encode(text);
}
