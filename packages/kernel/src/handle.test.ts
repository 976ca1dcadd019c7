/**
 * A program cannot reach the kernel through what it is given.
 */
import { SIGSEGV, SyscallError } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { startProcess } from './exec.ts';
import type { Kernel } from './kernel.ts';
import { schedule } from './scheduler.ts';
import type { Task } from './task.ts';
import { runChecked, small } from './testing/run.ts';

const INTRINSICS = [
  'Object', 'Function', 'Array', 'String', 'Number', 'Boolean', 'Symbol', 'BigInt', 'Error', 'RangeError', 'TypeError',
  'Map', 'Set', 'WeakMap', 'WeakSet', 'Promise', 'Proxy', 'Reflect', 'JSON', 'Math', 'Date', 'RegExp', 'ArrayBuffer',
  'SharedArrayBuffer', 'DataView', 'Int8Array', 'Uint8Array', 'Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array',
  'Float32Array', 'Float64Array', 'BigInt64Array', 'BigUint64Array', 'TextDecoder', 'TextEncoder',
];

/** What every program has without a handle: the language's own objects. */
function realm(): Set<unknown> {
  const known = new Set<unknown>();
  const queue: unknown[] = INTRINSICS.map((name) => (globalThis as Record<string, unknown>)[name]);
  queue.push(Object.getPrototypeOf(function* () {}), Object.getPrototypeOf([][Symbol.iterator]()));
  // From Node 22 on, all errors share the accessors of their stack.
  queue.push(...parts(new Error()));
  while (queue.length > 0) {
    const value = queue.pop();
    if ((typeof value !== 'object' && typeof value !== 'function') || value === null || known.has(value)) continue;
    known.add(value);
    queue.push(...parts(value));
  }
  return known;
}

/** Everything that hangs on an object: properties, getters and setters and what they return, prototype. */
function parts(value: object): unknown[] {
  const found: unknown[] = [Object.getPrototypeOf(value)];
  if (ArrayBuffer.isView(value)) return [...found, value.buffer];
  for (const key of Reflect.ownKeys(value)) {
    const descriptor = Object.getOwnPropertyDescriptor(value, key)!;
    found.push(descriptor.value, Reflect.get(descriptor, 'get'), Reflect.get(descriptor, 'set'));
    if ('get' in descriptor) {
      try {
        found.push(Reflect.get(value, key));
      } catch {
        // A getter that refuses shows nothing.
      }
    }
  }
  if (value instanceof Map) found.push(...value.keys(), ...value.values());
  if (value instanceof Set) found.push(...value.values());
  return found;
}

/** Everything reachable from `roots` that is not the language's own, and not only through what is in `stop`. */
function reachable(
  roots: readonly unknown[],
  known: ReadonlySet<unknown>,
  stop: ReadonlySet<unknown> = new Set(),
): Set<object> {
  const seen = new Set<object>();
  const queue = [...roots];
  while (queue.length > 0) {
    const value = queue.pop();
    if ((typeof value !== 'object' && typeof value !== 'function') || value === null) continue;
    if (known.has(value) || stop.has(value) || seen.has(value)) continue;
    seen.add(value);
    for (const each of parts(value)) queue.push(each);
  }
  return seen;
}

function start(program: (os: Os) => number | void): { kernel: Kernel; tasks: Task[] } {
  const kernel = bootKernel(parseMachineConfig({ memory: '64M' }));
  const task = startProcess(kernel, program, {}) as Task;
  kernel.scheduler.enqueue(task);
  schedule(kernel);
  if (task.process.error !== undefined) throw task.process.error as Error;
  return { kernel, tasks: [task] };
}

test('nothing of the kernel is reachable from the handle, its results, or its errors', () => {
  const known = realm();
  let roots: unknown[] = [];
  const { kernel, tasks } = start((os) => {
    const errors: unknown[] = [];
    const attempt = (action: () => unknown): void => {
      try {
        roots.push(action());
      } catch (error) {
        errors.push(error);
      }
    };
    const page = os.mmap(0, 4096, 3, 0x22);
    attempt(() => os.mem.struct(page, { a: 'u32', b: 'u64' }));
    attempt(() => os.mem.read(page, 16));
    attempt(() => os.mincore(page, 4096));
    attempt(() => os.munmap(1, 1));
    attempt(() => os.readFile('/nowhere'));
    attempt(() => os.getrusage());
    attempt(() => os.getrlimit(3));
    attempt(() => os.syscall('constructor' as unknown as number));
    attempt(() => os.syscall(9, {} as unknown as number));
    attempt(() => os.fork(null as unknown as () => void));
    attempt(() => os.waitpid(os.fork((child) => void roots.push(child))));
    attempt(() => os.mem.load8(NaN));
    os.sigaction(SIGSEGV, (info) => {
      roots.push(info);
      throw new Error('handled');
    });
    attempt(() => os.mem.load8(0));
    try {
      os.exit(0);
    } catch (error) {
      errors.push(error);
    }
    roots.push(os, ...errors);
  });
  const found = reachable(roots, known);
  roots = [];
  // The walk did see the handle.
  expect(found.size).toBeGreaterThan(60);
  // A task's record holds its program's handle; the way back is what must not exist.
  const handles = new Set<unknown>();
  for (const task of tasks) {
    for (const each of [task.os, task.os.mem, task.program, ...(Object.values(task.os) as unknown[]), ...(Object.values(task.os.mem) as unknown[])]) handles.add(each);
  }
  const kernelObjects = reachable([kernel, ...tasks], known, handles);
  expect(kernelObjects.size).toBeGreaterThan(1000);
  expect(kernelObjects.has(kernel.vm) && kernelObjects.has(tasks[0]!.process)).toBe(true);
  expect([...found].filter((value) => kernelObjects.has(value) && !isErrorPrototype(value))).toEqual([]);
  for (const value of found) {
    if (ArrayBuffer.isView(value)) expect(value.buffer.byteLength).toBeLessThan(4096);
  }
});

/** Classes and prototypes of errors are shared, and hold nothing. */
function isErrorPrototype(value: unknown): boolean {
  return value === SyscallError || value instanceof Error || (typeof value === 'function' && value.prototype instanceof Error);
}

test('the handle is frozen, all the way', () => {
  runChecked(small(), (os) => {
    expect(Object.isFrozen(os)).toBe(true);
    expect(Object.isFrozen(os.mem)).toBe(true);
    for (const member of [...(Object.values(os) as unknown[]), ...(Object.values(os.mem) as unknown[])]) {
      if (typeof member === 'function') expect(Object.hasOwn(member, 'prototype')).toBe(false);
    }
    expect(() => {
      (os as { mmap: unknown }).mmap = null;
    }).toThrow(TypeError);
  });
});

test('objects that a program hands in get no view of memory', () => {
  runChecked(small(), (os) => {
    const page = os.mmap(0, 8192, 3, 0x22);
    os.mem.fill(page, 8192, 7);
    const stolen: ArrayBufferLike[] = [];
    class Spy extends Uint8Array {
      static get [Symbol.species](): Uint8ArrayConstructor {
        return Uint8Array;
      }
      override set(source: ArrayLike<number>, offset?: number): void {
        if (ArrayBuffer.isView(source)) stolen.push(source.buffer);
        super.set(source, offset);
      }
      override subarray(...args: [number?, number?]): Uint8Array<ArrayBuffer> {
        stolen.push(this.buffer);
        return super.subarray(...args);
      }
    }
    const target = new Spy(4096);
    const own = target.buffer;
    os.mem.readInto(page + 100, target);
    os.mem.write(page + 100, target);
    expect(stolen.filter((buffer) => buffer !== own && buffer.byteLength > 8192)).toEqual([]);
    const fake = { length: 16, set: (source: Uint8Array) => stolen.push(source.buffer) } as unknown as Uint8Array;
    try {
      os.mem.readInto(page, fake);
    } catch {
      // Refused is as good.
    }
    expect(stolen.filter((buffer) => buffer !== own && buffer.byteLength > 8192)).toEqual([]);
  });
});
