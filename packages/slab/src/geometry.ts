/**
 * How large an object of a cache becomes and how many of them a slab holds: pure functions of the object, its flags and
 * the machine. A *slab* is a block of 2^order contiguous pages cut into objects of one cache.
 *
 *     object:   | left red zone | object … free pointer … | red zone word | free pointer | two tracks | red zone | pad |
 *               |<- redLeftPad->|<------ inuse ----------------------->|
 *               |<-------------------------------- size, a multiple of align -------------------------------------->|
 *
 * Without debugging, constructor or RCU all that is left is the object itself: its free pointer lies in its middle.
 */
import { Errno } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { MAX_PAGE_ORDER } from '@pagelab/mm-core';
import {
  SLAB_DEBUG_FLAGS,
  SLAB_HWCACHE_ALIGN,
  SLAB_KMALLOC,
  SLAB_POISON,
  SLAB_RED_ZONE,
  SLAB_STORE_USER,
  SLAB_TYPESAFE_BY_RCU,
} from './flags.ts';
import { trackBytes } from './track.ts';

/** Objects a slab can count: 15 bits. @linux mm/slub.c:MAX_OBJS_PER_PAGE */
const MAX_OBJS_PER_PAGE = 32_767;
/** Bounds of the slabs a node keeps although they are empty. @linux mm/slub.c:MIN_PARTIAL */
const MIN_PARTIAL = 5;
const MAX_PARTIAL = 10;
/** x86's cache line, in bytes. */
const CACHE_LINE_SIZE = 64;
/** `__alignof__(unsigned long long)`, which is 8 on 32 bits as well. @linux include/linux/slab.h:ARCH_SLAB_MINALIGN */
const SLAB_MINALIGN = 8;

/** Kernel versions whose rules differ; a rule that changed in between was recorded on these three only. */
export type SlabKernelVersion = '6.1' | '6.12' | '6.18';

/** The machine as far as slab layouts depend on it. */
export interface SlabMachine {
  /** Bytes of a pointer: 8 on x86-64, 4 on 32-bit x86. */
  readonly wordBytes: 4 | 8;
  /** CPUs present at boot. */
  readonly presentCpus: number;
  /** CPUs there could ever be (`nr_cpu_ids`), which counts when only one is present. */
  readonly possibleCpus: number;
  readonly kernel: SlabKernelVersion;
  /** `slub_max_order=`, normally 3. */
  readonly maxOrder: number;
  /** `slub_min_order=`, normally 0. */
  readonly minOrder: number;
  /** `slub_min_objects=`; 0 to derive it from the CPUs. */
  readonly minObjects: number;
}

/** What a cache was asked to hold. */
export interface ObjectShape {
  /** In bytes, as the caller gave it. */
  readonly objectSize: number;
  /** In bytes: a power of two, as {@link calculateAlignment} returns it. */
  readonly align: number;
  /** SLAB_* */
  readonly flags: number;
  readonly hasConstructor: boolean;
  /** Where an RCU-safe object keeps its free pointer inside itself; without it, behind the object. */
  readonly freePointerOffset?: number | undefined;
}

/** The layout of a cache's objects and slabs. */
export interface SlabGeometry {
  /** Bytes from one object to the next. */
  readonly size: number;
  /** Bytes of the object and what must not be touched while it is free. */
  readonly inuse: number;
  /** Byte offset of the free pointer from the object's address. */
  readonly offset: number;
  /** Bytes of red zone before the object. */
  readonly redLeftPad: number;
  readonly order: number;
  readonly objectsPerSlab: number;
  /** The order, and the objects, of a slab when no block of `order` is to be had. */
  readonly minOrder: number;
  readonly minObjects: number;
  /** Objects, and slabs, a CPU may hold on its partial list. */
  readonly cpuPartial: number;
  readonly cpuPartialSlabs: number;
  /** Partial slabs a node keeps before it gives empty ones back. */
  readonly minPartial: number;
}

/** Smallest order whose block holds `bytes`. @linux include/asm-generic/getorder.h:get_order */
export function getOrder(bytes: number): number {
  let order = 0;
  while (PAGE_SIZE * 2 ** order < bytes) order++;
  return order;
}

function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

function orderObjects(order: number, size: number): number {
  return Math.floor((PAGE_SIZE * 2 ** order) / size);
}

/** Index of the highest bit set, from 1; 0 of 0. */
function fls(value: number): number {
  return 32 - Math.clz32(value);
}

/**
 * The alignment in bytes a cache gets: at least `align`, at least 8, and with SLAB_HWCACHE_ALIGN the cache line, or the
 * half, quarter … of it that still holds an object of `size` bytes.
 *
 * @linux mm/slab_common.c:calculate_alignment
 */
export function calculateAlignment(flags: number, align: number, size: number, wordBytes: 4 | 8 = 8): number {
  let result = align;
  if ((flags & SLAB_HWCACHE_ALIGN) !== 0) {
    let line = CACHE_LINE_SIZE;
    while (size <= line / 2) line /= 2;
    result = Math.max(result, line);
  }
  return alignUp(Math.max(result, SLAB_MINALIGN), wordBytes);
}

/**
 * Objects a slab should hold at least: more CPUs take more slabs, so each should last longer.
 *
 * @linux mm/slub.c:calculate_order
 */
export function slubMinObjects(machine: SlabMachine): number {
  if (machine.minObjects > 0) return machine.minObjects;
  const cpus = machine.presentCpus <= 1 ? machine.possibleCpus : machine.presentCpus;
  return 4 * (fls(cpus) + 1);
}

/** First order from `from` to `to` that wastes at most 1/`fraction` of the slab; `to` + 1 where there is none. */
function slabOrder(size: number, from: number, to: number, fraction: number): number {
  let order = from;
  for (; order <= to; order++) {
    const bytes = PAGE_SIZE * 2 ** order;
    if (bytes % size <= Math.floor(bytes / fraction)) break;
  }
  return order;
}

/** Up to 6.7: ask for less waste first, then for fewer objects. */
function calculateOrderBefore68(size: number, machine: SlabMachine): number {
  const { maxOrder, minOrder } = machine;
  const attempt = (objects: number, max: number, fraction: number): number =>
    orderObjects(minOrder, size) > MAX_OBJS_PER_PAGE
      ? getOrder(size * MAX_OBJS_PER_PAGE) - 1
      : slabOrder(size, Math.max(minOrder, getOrder(objects * size)), max, fraction);
  let objects = Math.min(slubMinObjects(machine), orderObjects(maxOrder, size));
  for (; objects > 1; objects--) {
    for (let fraction = 16; fraction >= 4; fraction /= 2) {
      const order = attempt(objects, maxOrder, fraction);
      if (order <= maxOrder) return order;
    }
  }
  const single = attempt(1, maxOrder, 1);
  if (single <= maxOrder) return single;
  const any = attempt(1, MAX_PAGE_ORDER, 1);
  return any <= MAX_PAGE_ORDER ? any : -Errno.ENOSYS;
}

/**
 * The order of a cache's slabs: smallest that holds the objects wanted and wastes little, at most `maxOrder` unless one
 * object needs more.
 *
 * @returns an order, or -ENOSYS where no block is large enough
 * @linux mm/slub.c:calculate_order
 */
export function calculateOrder(size: number, machine: SlabMachine): number {
  if (machine.kernel === '6.1') return calculateOrderBefore68(size, machine);
  const { maxOrder } = machine;
  const objects = Math.min(slubMinObjects(machine), Math.max(orderObjects(maxOrder, size), 1));
  const from = Math.max(machine.minOrder, getOrder(objects * size));
  if (orderObjects(from, size) > MAX_OBJS_PER_PAGE) return getOrder(size * MAX_OBJS_PER_PAGE) - 1;
  for (let fraction = 16; fraction > 1; fraction /= 2) {
    const order = slabOrder(size, from, maxOrder, fraction);
    if (order <= maxOrder) return order;
  }
  const order = getOrder(size);
  return order <= MAX_PAGE_ORDER ? order : -Errno.ENOSYS;
}

/** Objects a CPU may keep on its partial list; with debugging it has none. @linux mm/slub.c:set_cpu_partial */
export function calculateCpuPartial(size: number, flags: number): number {
  if ((flags & SLAB_DEBUG_FLAGS) !== 0) return 0;
  if (size >= PAGE_SIZE) return 6;
  if (size >= 1024) return 24;
  return size >= 256 ? 52 : 120;
}

/** Partial slabs a node keeps before it gives an empty one back. @linux mm/slub.c:set_min_partial */
export function calculateMinPartial(size: number): number {
  return Math.min(MAX_PARTIAL, Math.max(MIN_PARTIAL, Math.floor((fls(size) - 1) / 2)));
}

/**
 * Lays out a cache: the size of its objects with all that debugging, constructor and RCU add, and its slabs.
 *
 * @returns the layout, or -EINVAL where no slab can hold one object
 * @linux mm/slub.c:calculate_sizes
 */
export function calculateSizes(shape: ObjectShape, machine: SlabMachine): SlabGeometry | number {
  const { objectSize, align, flags } = shape;
  const { wordBytes, kernel } = machine;
  const redZone = (flags & SLAB_RED_ZONE) !== 0;
  const storeUser = (flags & SLAB_STORE_USER) !== 0;
  const kmalloc = (flags & SLAB_KMALLOC) !== 0;
  const rcu = (flags & SLAB_TYPESAFE_BY_RCU) !== 0;
  const innerFreePointer = shape.freePointerOffset !== undefined;

  let size = alignUp(objectSize, wordBytes);
  // A red zone needs a word behind the object, where rounding up did not leave a gap.
  if (redZone && size === objectSize) size += wordBytes;
  const inuse = size;

  const keepsRequestedSize = kernel !== '6.1' && storeUser && kmalloc;
  const behind =
    (rcu && !innerFreePointer) ||
    (flags & SLAB_POISON) !== 0 ||
    shape.hasConstructor ||
    (redZone && (objectSize < wordBytes || keepsRequestedSize));
  let offset: number;
  if (behind) {
    offset = size;
    size += wordBytes;
  } else if (rcu && shape.freePointerOffset !== undefined) {
    offset = shape.freePointerOffset;
  } else {
    // In the middle: an overrun of a neighbour does not reach the pointer first.
    offset = Math.floor(objectSize / 2 / wordBytes) * wordBytes;
  }

  if (storeUser) {
    size += 2 * trackBytes(wordBytes);
    if (kmalloc) size += 4; // the size that was asked for
  }
  let redLeftPad = 0;
  if (redZone) {
    size += wordBytes;
    redLeftPad = alignUp(wordBytes, align);
    size += redLeftPad;
  }
  size = alignUp(size, align);

  const order = calculateOrder(size, machine);
  if (order < 0) return -Errno.EINVAL;
  const objectsPerSlab = Math.min(orderObjects(order, size), MAX_OBJS_PER_PAGE);
  if (objectsPerSlab === 0) return -Errno.EINVAL;
  const minOrder = getOrder(size);
  const cpuPartial = calculateCpuPartial(size, flags);
  return {
    size,
    inuse,
    offset,
    redLeftPad,
    order,
    objectsPerSlab,
    minOrder,
    minObjects: Math.min(orderObjects(minOrder, size), MAX_OBJS_PER_PAGE),
    cpuPartial,
    // Half full on average.
    cpuPartialSlabs: Math.ceil((cpuPartial * 2) / objectsPerSlab),
    minPartial: calculateMinPartial(size),
  };
}
