/**
 * A cache of SLAB that is debugged. Objects lie between red zones, and behind them the call that last allocated or freed them:
 *
 *     | red zone, 8 bytes | object | red zone, 8 bytes | padding | last user, a word |
 *
 * Red zones hold one value while the object is live and another while it is free; a free object holds 0x6b … 0xa5, one that is
 * handed out 0x5a. They are looked at when an object is allocated, freed, and given back with its slab.
 *
 * @linux mm/slab.c (up to 6.7, CONFIG_DEBUG_SLAB)
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { __GFP_ZERO, compoundHead } from '@pagelab/mm-core';
import { ClassicCache } from './classic-slab.ts';
import type { ClassicNode } from './classic-state.ts';
import { SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import { freeForeign } from './foreign-free.ts';
import type { CacheSpec } from './host.ts';
import type { SlabCorruption, SlabReportKind } from './report.ts';
import { POISON_END, POISON_FREE, POISON_INUSE } from './slub-object.ts';

/** Low and high half of what a red zone holds. @linux include/linux/poison.h:RED_INACTIVE, RED_ACTIVE */
const RED_INACTIVE = [0x9d74e35b, 0x09f91102] as const;
const RED_ACTIVE = [0x635688c0, 0xd84156c5] as const;
const RED_ZONE_BYTES = 8;
/** Lines of sixteen bytes that a report shows of an object. */
const MAX_LINES = 6;
const LINE_BYTES = 16;

type RedZone = readonly [number, number];

/** Whether adding red zones and a user leaves a large object in blocks of the same order. */
function hasRoomForRedZones(size: number): boolean {
  const highest = (bytes: number): number => 32 - Math.clz32(bytes);
  return size < 4096 || highest(size - 1) === highest(size - 1 + 3 * RED_ZONE_BYTES);
}

/**
 * What debugging makes of a cache: its flags, how far into its place an object begins, and the bytes that come on top.
 *
 * @linux mm/slab.c:__kmem_cache_create
 */
export function debugShape(asked: CacheSpec, wordBytes: 4 | 8): { spec: CacheSpec; objectOffset: number; extraBytes: number } {
  let { flags, align } = asked;
  if (hasRoomForRedZones(asked.objectSize)) flags |= SLAB_RED_ZONE | SLAB_STORE_USER;
  if ((flags & SLAB_TYPESAFE_BY_RCU) === 0) flags |= SLAB_POISON;
  if ((flags & SLAB_RED_ZONE) !== 0) align = Math.max(align, RED_ZONE_BYTES);
  // What must lie at larger multiples has no room for them.
  if (align > RED_ZONE_BYTES) flags &= ~(SLAB_RED_ZONE | SLAB_STORE_USER);
  const redZone = (flags & SLAB_RED_ZONE) !== 0;
  const user = (flags & SLAB_STORE_USER) === 0 ? 0 : redZone ? RED_ZONE_BYTES : wordBytes;
  return {
    spec: { ...asked, flags, align },
    objectOffset: redZone ? RED_ZONE_BYTES : 0,
    extraBytes: (redZone ? 2 * RED_ZONE_BYTES : 0) + user,
  };
}

/** A debugged cache. */
export class ClassicDebugCache extends ClassicCache {
  private readonly redZone = (this.flags & SLAB_RED_ZONE) !== 0;
  private readonly poison = (this.flags & SLAB_POISON) !== 0;
  private readonly storeUser = (this.flags & SLAB_STORE_USER) !== 0;

  // ------------------------------------------------------------------------------------------- places in an object

  private secondZone(object: VirtAddr): VirtAddr {
    const { wordBytes } = this.host.machine;
    const end = object + this.size - RED_ZONE_BYTES;
    return this.storeUser ? end - Math.max(RED_ZONE_BYTES, wordBytes) : end;
  }

  private userWord(object: VirtAddr): VirtAddr {
    return object + this.size - this.host.machine.wordBytes;
  }

  private zoneHolds(at: VirtAddr, [low, high]: RedZone): boolean {
    const { memory } = this.host;
    return memory.word(at) === low && memory.word(at + 4) === high;
  }

  private setZones(object: VirtAddr, [low, high]: RedZone): void {
    const { memory } = this.host;
    for (const at of [object, this.secondZone(object)]) {
      memory.setWord(at, low);
      memory.setWord(at + 4, high);
    }
  }

  /** @linux mm/slab.c:poison_obj */
  private poisonObject(object: VirtAddr, value: number): void {
    const { memory } = this.host;
    const real = object + this.geometry.objectOffset;
    memory.fill(real, this.objectSize, value);
    memory.setByte(real + this.objectSize - 1, POISON_END);
  }

  private setUser(object: VirtAddr): void {
    if (this.storeUser) this.host.memory.setPointer(this.userWord(object), this.host.tracking.callAddress());
  }

  // ----------------------------------------------------------------------------------------------------------- hooks

  /** @linux mm/slab.c:cache_init_objs_debug */
  protected override initObject(object: VirtAddr): void {
    const { memory } = this.host;
    if (this.storeUser) memory.setPointer(this.userWord(object), 0);
    if (this.redZone) this.setZones(object, RED_INACTIVE);
    if (this.ctor !== undefined && !this.poison) {
      this.ctor(object + this.geometry.objectOffset);
      if (this.redZone && !this.zoneHolds(this.secondZone(object), RED_INACTIVE)) this.error(object, 'redzone', 'cache_init_objs_debug', 'constructor overwrote the end of an object');
      if (this.redZone && !this.zoneHolds(object, RED_INACTIVE)) this.error(object, 'redzone', 'cache_init_objs_debug', 'constructor overwrote the start of an object');
    }
    if (this.poison) this.poisonObject(object, POISON_FREE);
  }

  protected override listLeft(object: VirtAddr): void {
    if (this.poison) this.poisonObject(object, POISON_FREE);
  }

  /** @linux mm/slab.c:cache_alloc_debugcheck_after */
  protected override finish(object: VirtAddr, gfp: number): VirtAddr {
    if (this.poison) {
      this.checkPoison(object);
      this.poisonObject(object, POISON_INUSE);
    }
    this.setUser(object);
    if (this.redZone) {
      if (!this.zoneHolds(object, RED_INACTIVE) || !this.zoneHolds(this.secondZone(object), RED_INACTIVE)) {
        const kind = this.zoneHolds(object, RED_ACTIVE) ? 'double-free' : 'redzone';
        this.error(object, kind, 'cache_alloc_debugcheck_after', 'double free, or memory outside object was overwritten', this.zonesLine(object));
      }
      this.setZones(object, RED_ACTIVE);
    }
    const real = object + this.geometry.objectOffset;
    if (this.ctor !== undefined && this.poison) this.ctor(real);
    const { trace, tracepoints, memory } = this.host;
    if ((gfp & __GFP_ZERO) !== 0) memory.fill(real, this.objectSize, 0);
    if (trace.enabled) trace.emit(tracepoints.kmemCacheAlloc, real, this.objectSize, this.size, gfp);
    return real;
  }

  override free(real: VirtAddr): void {
    const { host } = this;
    const head = this.headOf(real);
    if (head === 0) {
      if (real !== 0) freeForeign(host, this, real, true);
      return;
    }
    const object = real - this.geometry.objectOffset;
    if (!this.mayFree(head, object)) return;
    if (host.trace.enabled) host.trace.emit(host.tracepoints.kmemCacheFree, real);
    this.put(head, object);
  }

  /** @linux mm/slab.c:cache_free_debugcheck */
  private mayFree(head: Pfn, object: VirtAddr): boolean {
    const slot = (object - this.firstObject(head)) / this.size;
    const isObject = Number.isInteger(slot) && slot >= 0 && slot < this.objectsPerSlab;
    if (this.redZone && !this.verifyRedZones(object, isObject)) return false;
    if (!isObject) {
      this.stop(object, 'invalid-free', `kernel BUG: ${this.name}: no object begins at 0x${this.host.memory.format(object + this.geometry.objectOffset)}`);
      return false;
    }
    if (!this.redZone && this.isFree(object)) {
      this.stop(object, 'double-free', `slab: double free detected in cache '${this.name}', objp ${this.host.memory.format(object)}`);
      return false;
    }
    if (this.redZone) this.setZones(object, RED_INACTIVE);
    this.setUser(object);
    if (this.poison) this.poisonObject(object, POISON_FREE);
    return true;
  }

  /** Whether red zones let an object be freed; what was written over them is reported. @linux mm/slab.c:verify_redzone_free */
  private verifyRedZones(object: VirtAddr, isObject: boolean): boolean {
    const second = this.secondZone(object);
    if (this.zoneHolds(object, RED_ACTIVE) && this.zoneHolds(second, RED_ACTIVE)) return true;
    if (this.zoneHolds(object, RED_INACTIVE) && this.zoneHolds(second, RED_INACTIVE)) {
      // Linux frees it once more all the same, and stops when its slab has it twice.
      this.error(object, 'double-free', 'verify_redzone_free', 'double free detected', this.zonesLine(object));
      return false;
    }
    if (isObject) this.error(object, 'redzone', 'verify_redzone_free', 'memory outside object was overwritten', this.zonesLine(object));
    return true;
  }

  /** Whether an object without red zones is on its slab's free list, or in an array. @linux mm/slab.c:slab_put_obj */
  private isFree(object: VirtAddr): boolean {
    return this.arrayObjects().includes(object) || !this.liveObjects().includes(object + this.geometry.objectOffset);
  }

  /** @linux mm/slab.c:slab_destroy_debugcheck */
  protected override destroySlab(node: ClassicNode, pfn: Pfn): void {
    const { frames, geometry } = this;
    if (geometry.freeList === 'object' && frames.index[pfn] !== 0) this.listLeft(frames.index[pfn] - geometry.objectOffset);
    for (let i = 0; i < this.objectsPerSlab; i++) {
      const object = this.firstObject(pfn) + i * this.size;
      if (this.poison) this.checkPoison(object);
      if (!this.redZone) continue;
      if (!this.zoneHolds(object, RED_INACTIVE)) this.error(object, 'redzone', 'slab_destroy_debugcheck', 'start of a freed object was overwritten');
      if (!this.zoneHolds(this.secondZone(object), RED_INACTIVE)) this.error(object, 'redzone', 'slab_destroy_debugcheck', 'end of a freed object was overwritten');
    }
    super.destroySlab(node, pfn);
  }

  // --------------------------------------------------------------------------------------------------------- reports

  /** Looks whether a free object was written to. @linux mm/slab.c:check_poison_obj */
  private checkPoison(object: VirtAddr): void {
    const { memory, taint } = this.host;
    const real = object + this.geometry.objectOffset;
    const bytes = memory.read(real, this.objectSize);
    const expected = (at: number): number => (at === this.objectSize - 1 ? POISON_END : POISON_FREE);
    const wrong = [...bytes.keys()].filter((at) => bytes[at] !== expected(at));
    if (wrong.length === 0) return;
    const [first] = wrong;
    const last = wrong[wrong.length - 1];
    const lines = [`Slab corruption (${taint.bad ? 'Tainted: G    B' : 'Not tainted'}): ${this.name} start=${memory.format(real)}, len=${this.objectSize}`];
    lines.push(...this.objectInfo(object, 0));
    for (let line = 0, at = 0; line < MAX_LINES && at < this.objectSize; at++) {
      if (bytes[at] === expected(at)) continue;
      at = Math.floor(at / LINE_BYTES) * LINE_BYTES;
      lines.push(...this.dumpLine(bytes, at));
      at += LINE_BYTES - 1;
      line++;
    }
    const start = this.firstObject(compoundHead(this.frames, this.host.pages.virtToPfn(object)));
    const slot = (object - start) / this.size;
    if (slot > 0) lines.push(...this.neighbour('Prev', object - this.size));
    if (slot + 1 < this.objectsPerSlab) lines.push(...this.neighbour('Next', object + this.size));
    const what = first === this.objectSize - 1 ? 'End Poison' : 'Poison';
    this.tell('poison', real, lines, { what, from: real + first, to: real + last, found: bytes[first], expected: expected(first) });
  }

  private neighbour(which: 'Prev' | 'Next', object: VirtAddr): string[] {
    const real = object + this.geometry.objectOffset;
    return [`${which} obj: start=${this.host.memory.format(real)}, len=${this.objectSize}`, ...this.objectInfo(object, 2)];
  }

  /** @linux mm/slab.c:print_objinfo */
  private objectInfo(object: VirtAddr, nrLines: number): string[] {
    const { memory, tracking } = this.host;
    const lines: string[] = [];
    const zone = (at: VirtAddr): string => `0x${((BigInt(memory.word(at + 4)) << 32n) | BigInt(memory.word(at))).toString(16)}`;
    if (this.redZone) lines.push(`Redzone: ${zone(object)}/${zone(this.secondZone(object))}`);
    if (this.storeUser) lines.push(`Last user: (${tracking.callName(memory.pointer(this.userWord(object))) ?? '0x0'})`);
    const bytes = memory.read(object + this.geometry.objectOffset, this.objectSize);
    for (let line = 0; line < nrLines && line * LINE_BYTES < this.objectSize; line++) lines.push(...this.dumpLine(bytes, line * LINE_BYTES));
    return lines;
  }

  /** @linux mm/slab.c:dump_line */
  private dumpLine(bytes: Uint8Array, at: number): string[] {
    const row = [...bytes.subarray(at, at + LINE_BYTES)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const characters = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    const lines = [`${at.toString(16).padStart(3, '0')}: ${hex.padEnd(49)}${characters}`];
    const wrong = row.filter((byte, i) => byte !== (at + i === this.objectSize - 1 ? POISON_END : POISON_FREE));
    const flipped = wrong.length === 1 ? wrong[0] ^ POISON_FREE : 0;
    if (flipped !== 0 && (flipped & (flipped - 1)) === 0) {
      lines.push('Single bit error detected. Probably bad RAM.', 'Run memtest86+ or a similar memory test tool.');
    }
    return lines;
  }

  /** The two red zones of an object, as the log has them. */
  private zonesLine(object: VirtAddr): string {
    const { memory } = this.host;
    const zone = (at: VirtAddr): string => `0x${((BigInt(memory.word(at + 4)) << 32n) | BigInt(memory.word(at))).toString(16)}`;
    return `${memory.format(object)}: redzone 1:${zone(object)}, redzone 2:${zone(this.secondZone(object))}`;
  }

  /** @linux mm/slab.c:slab_error */
  private error(object: VirtAddr, kind: SlabReportKind, where: string, message: string, ...more: string[]): void {
    this.tell(kind, object + this.geometry.objectOffset, [`slab error in ${where}(): cache \`${this.name}': ${message}`, ...more]);
  }

  private tell(kind: SlabReportKind, address: VirtAddr, lines: readonly string[], corruption?: SlabCorruption): void {
    this.host.report({ kind, cache: this.name, address, text: lines.join('\n'), ...(corruption === undefined ? {} : { corruption }) });
    this.host.taint.bad = true;
  }

  /** Linux has no way to go on. */
  private stop(object: VirtAddr, kind: SlabReportKind, text: string): void {
    this.host.report({ kind, cache: this.name, address: object + this.geometry.objectOffset, text, fatal: true });
  }
}
