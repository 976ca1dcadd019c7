import type { StructFieldType, StructFields, StructView, UserMemory, VirtAddr } from '@pagelab/abi';

/** Bytes of each scalar type, which is also its alignment, as the x86-64 System V ABI has it. */
const FIELD_BYTES: Readonly<Record<StructFieldType, number>> = Object.freeze({
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  u64: 8,
  pointer: 8,
  f64: 8,
});

/** Where the fields of a structure lie, in bytes. */
export interface StructLayout {
  readonly offsets: Readonly<Record<string, number>>;
  /** Size with the padding at the end, as `sizeof` gives it. */
  readonly size: number;
  readonly align: number;
}

/**
 * Lays out a structure with C's natural alignment.
 *
 * @throws RangeError for a type that there is not
 */
export function structLayout(fields: StructFields): StructLayout {
  const offsets: Record<string, number> = {};
  let offset = 0;
  let align = 1;
  for (const [name, type] of Object.entries(fields)) {
    const bytes = Object.hasOwn(FIELD_BYTES, type) ? FIELD_BYTES[type] : 0;
    if (bytes === 0) throw new RangeError(`field ${name}: no type ${String(type)}`);
    offset = Math.ceil(offset / bytes) * bytes;
    offsets[name] = offset;
    offset += bytes;
    align = Math.max(align, bytes);
  }
  return { offsets, size: Math.ceil(offset / align) * align, align };
}

/** A view of the structure at `addr`: its properties load and store through `memory`. */
export function createStruct<F extends StructFields>(memory: UserMemory, addr: VirtAddr, fields: F): StructView<F> {
  const { offsets } = structLayout(fields);
  const view = {};
  for (const [name, type] of Object.entries(fields)) {
    Object.defineProperty(view, name, { ...accessor(memory, addr + offsets[name], type), enumerable: true });
  }
  return Object.freeze(view) as StructView<F>;
}

function accessor(memory: UserMemory, at: VirtAddr, type: StructFieldType): PropertyDescriptor {
  switch (type) {
    case 'u8':
      return { get: () => memory.load8(at), set: (value: number) => memory.store8(at, value) };
    case 'i8':
      return { get: () => (memory.load8(at) << 24) >> 24, set: (value: number) => memory.store8(at, value) };
    case 'u16':
      return { get: () => memory.load16(at), set: (value: number) => memory.store16(at, value) };
    case 'i16':
      return { get: () => (memory.load16(at) << 16) >> 16, set: (value: number) => memory.store16(at, value) };
    case 'u32':
      return { get: () => memory.load32(at), set: (value: number) => memory.store32(at, value) };
    case 'i32':
      return { get: () => memory.load32(at) | 0, set: (value: number) => memory.store32(at, value) };
    case 'u64':
      return { get: () => memory.load64(at), set: (value: bigint) => memory.store64(at, value) };
    case 'pointer':
      return { get: () => memory.loadAddress(at), set: (value: number) => memory.storeAddress(at, value) };
    case 'f32':
      return { get: () => memory.loadFloat32(at), set: (value: number) => memory.storeFloat32(at, value) };
    case 'f64':
      return { get: () => memory.loadFloat64(at), set: (value: number) => memory.storeFloat64(at, value) };
  }
}
