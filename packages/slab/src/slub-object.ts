/**
 * Where the parts of a debugged object lie, and the patterns they hold.
 *
 *     | left red zone | object …………… | right red zone | free pointer | allocated | freed | asked | padding |
 *     |               | objectSize -> | inuse ------->|   info end ->| 2 × 32 (20) bytes | 4     |
 *
 * While an object is free its red zones hold 0xbb and it itself 0x6b … 0xa5; while it is live they hold 0xcc. Bytes that
 * are nobody's hold 0x5a. Of a kmalloc object with SLAB_STORE_USER, what lies beyond the bytes asked for is red zone too.
 *
 * @linux mm/slub.c:init_object
 */
import type { VirtAddr } from '@pagelab/abi';
import type { DirectMap } from './direct-map.ts';
import { SLAB_KMALLOC, SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import type { SlabGeometry } from './geometry.ts';
import { trackBytes } from './track.ts';

/** @linux include/linux/poison.h */
export const SLUB_RED_INACTIVE = 0xbb;
export const SLUB_RED_ACTIVE = 0xcc;
export const POISON_INUSE = 0x5a;
export const POISON_FREE = 0x6b;
export const POISON_END = 0xa5;

/** What the layout of a cache's debugged objects follows from. */
export interface DebuggedShape {
  readonly flags: number;
  readonly objectSize: number;
  readonly hasConstructor: boolean;
  readonly geometry: SlabGeometry;
  /** `asked` is kept: since 6.2. */
  readonly keepsRequestedSize: boolean;
}

/** The debugged objects of one cache. */
export class SlubObject {
  readonly redZone: boolean;
  readonly poison: boolean;
  /** Free objects are poisoned: not those whose contents outlive them. @linux mm/slub.c:__OBJECT_POISON */
  readonly objectPoison: boolean;
  readonly storeUser: boolean;
  /** The bytes asked for are known. @linux mm/slub.c:slub_debug_orig_size */
  readonly origSize: boolean;
  readonly objectSize: number;
  readonly inuse: number;
  readonly redLeftPad: number;
  /** The free pointer lies behind the object. */
  readonly freePointerOutside: boolean;
  /** Bytes from the object to the two tracks; to what was asked for; to the padding; to its end. */
  readonly trackOffset: number;
  readonly trackBytes: number;
  readonly origSizeOffset: number;
  readonly padOffset: number;
  readonly end: number;
  private readonly memory: DirectMap;

  constructor({ flags, objectSize, hasConstructor, geometry, keepsRequestedSize }: DebuggedShape, memory: DirectMap) {
    this.memory = memory;
    this.redZone = (flags & SLAB_RED_ZONE) !== 0;
    this.poison = (flags & SLAB_POISON) !== 0;
    this.objectPoison = this.poison && (flags & SLAB_TYPESAFE_BY_RCU) === 0 && !hasConstructor;
    this.storeUser = (flags & SLAB_STORE_USER) !== 0;
    const sized = this.storeUser && (flags & SLAB_KMALLOC) !== 0;
    this.origSize = sized && keepsRequestedSize;
    this.objectSize = objectSize;
    this.inuse = geometry.inuse;
    this.redLeftPad = geometry.redLeftPad;
    this.freePointerOutside = geometry.offset >= geometry.inuse;
    this.trackOffset = geometry.inuse + (this.freePointerOutside ? memory.wordBytes : 0);
    this.trackBytes = trackBytes(memory.wordBytes);
    this.origSizeOffset = this.trackOffset + (this.storeUser ? 2 * this.trackBytes : 0);
    this.padOffset = this.origSizeOffset + (sized ? 4 : 0);
    this.end = geometry.size - geometry.redLeftPad;
  }

  /** Bytes that whoever allocated a live object asked for. @linux mm/slub.c:get_orig_size */
  requestedSize(object: VirtAddr): number {
    return this.origSize ? this.memory.word(object + this.origSizeOffset) : this.objectSize;
  }

  /** @linux mm/slub.c:set_orig_size */
  setRequestedSize(object: VirtAddr, bytes: number): void {
    if (this.origSize) this.memory.setWord(object + this.origSizeOffset, bytes);
  }

  /** Writes red zones and poison of a live (SLUB_RED_ACTIVE) or a free object. @linux mm/slub.c:init_object */
  init(object: VirtAddr, value: number): void {
    const { memory, objectSize, redZone } = this;
    let poisonSize = objectSize;
    if (redZone) {
      memory.fill(object - this.redLeftPad, this.redLeftPad, value);
      if (value === SLUB_RED_ACTIVE) poisonSize = this.requestedSize(object);
    }
    if (this.objectPoison && poisonSize > 0) {
      memory.fill(object, poisonSize - 1, POISON_FREE);
      memory.setByte(object + poisonSize - 1, POISON_END);
    }
    if (redZone) memory.fill(object + poisonSize, this.inuse - poisonSize, value);
  }

  /** Marks an object that nobody has allocated or freed yet. @linux mm/slub.c:setup_object_debug */
  setUp(object: VirtAddr): void {
    if (!this.storeUser && !this.redZone && !this.objectPoison) return;
    this.init(object, SLUB_RED_INACTIVE);
    if (this.storeUser) this.memory.fill(object + this.trackOffset, 2 * this.trackBytes, 0);
  }
}
