/**
 * The reports of a debugged cache, in the kernel's words: what is wrong, who allocated and who freed the object, its slab,
 * and the bytes of and around it.
 *
 * @linux mm/slub.c:object_err, print_trailer
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { PAGE_SIZE } from '@pagelab/hw';
import { blockOrder } from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import type { DirectMap } from './direct-map.ts';
import type { SlabKernelVersion } from './geometry.ts';
import type { SlabCorruption, SlabReport, SlabReportKind, SlabReporter } from './report.ts';
import { slabInuse, slabObjects } from './slab-pages.ts';
import type { SlubObject } from './slub-object.ts';
import type { SlubState } from './slub-state.ts';
import type { SlabTrack, Tracking } from './track.ts';

const DOUBLE_LINE = '='.repeat(77);
const LINE = '-'.repeat(77);
/** Bytes shown before an object that has no red zone. */
const BYTES_BEFORE = 16;

/** Shared by the caches of a machine: whether something was reported before. */
export interface Taint {
  bad: boolean;
}

/** A report that is being written. */
interface Draft extends Omit<SlabReport, 'text'> {
  readonly lines: string[];
}

/** What {@link SlubReports} needs. */
export interface SlubReportParts {
  readonly state: SlubState;
  readonly layout: SlubObject;
  readonly memory: DirectMap;
  readonly tracking: Tracking;
  readonly kernel: SlabKernelVersion;
  readonly taint: Taint;
  readonly report: SlabReporter;
}

/** Collects what one operation finds wrong; {@link flush} hands it over. */
export class SlubReports {
  private readonly parts: SlubReportParts;
  private drafts: Draft[] = [];

  constructor(parts: SlubReportParts) {
    this.parts = parts;
  }

  /** Hands over what was found, in the order it was. */
  flush(): void {
    if (this.drafts.length === 0) return;
    const drafts = this.drafts;
    this.drafts = [];
    for (const { lines, ...rest } of drafts) this.parts.report({ ...rest, text: lines.join('\n') });
  }

  /** Something is wrong with an object. @linux mm/slub.c:object_err */
  object(kind: SlabReportKind, pfn: Pfn, object: VirtAddr, what: string): void {
    const lines = this.heading(what);
    lines.push(...this.trailer(pfn, object));
    this.add(kind, object, lines, this.tracks(object));
  }

  /** Something is wrong with a slab. @linux mm/slub.c:slab_err */
  slab(kind: SlabReportKind, pfn: Pfn, what: string, address: VirtAddr = this.parts.state.host.pages.pageAddress(pfn)): void {
    this.add(kind, address, [...this.heading(what), this.slabLine(pfn)], {});
  }

  /** Bytes around or of an object were overwritten. @linux mm/slub.c:check_bytes_and_report */
  overwritten(kind: SlabReportKind, pfn: Pfn, object: VirtAddr, corruption: SlabCorruption, printsObject: boolean): void {
    const { what, from, to, found, expected } = corruption;
    const where =
      `0x${this.parts.memory.format(from)}-0x${this.parts.memory.format(to)} @offset=${from - this.parts.state.host.pages.pageAddress(pfn)}. ` +
      `First byte 0x${found.toString(16)} instead of 0x${expected.toString(16)}`;
    const lines: string[] = [];
    if (this.parts.kernel === '6.18') {
      lines.push(`[${what} overwritten] ${where}`);
      if (printsObject) lines.push(...this.heading('Object corrupt'), ...this.trailer(pfn, object));
    } else {
      lines.push(...this.heading(`${what} overwritten`), where, ...this.trailer(pfn, object));
    }
    this.add(kind, object, lines, { corruption, ...this.tracks(object) });
  }

  /** The bytes behind a slab's last object were overwritten. @linux mm/slub.c:slab_pad_check */
  slabPadding(pfn: Pfn, corruption: SlabCorruption, pad: VirtAddr, bytes: number): void {
    const { from, to } = corruption;
    const lines = this.heading(
      `Padding overwritten. 0x${this.parts.memory.format(from)}-0x${this.parts.memory.format(to)} @offset=${from - this.parts.state.host.pages.pageAddress(pfn)}`,
    );
    lines.push(...this.parts.memory.dump('Padding  ', pad, bytes));
    this.add('padding', this.parts.state.host.pages.pageAddress(pfn), lines, { corruption });
  }

  /** Says how the last thing reported was put right. @linux mm/slub.c:slab_fix */
  fix(what: string): void {
    this.drafts.at(-1)?.lines.push(`FIX ${this.parts.state.name}: ${what}`);
  }

  /** Who allocated and who freed an object, as far as that is known. */
  tracks(object: VirtAddr): { allocated?: SlabTrack; freed?: SlabTrack } {
    const { layout, tracking } = this.parts;
    if (!layout.storeUser) return {};
    const allocated = tracking.get(object + layout.trackOffset);
    const freed = tracking.get(object + layout.trackOffset + layout.trackBytes);
    return { ...(allocated === undefined ? {} : { allocated }), ...(freed === undefined ? {} : { freed }) };
  }

  /** @linux mm/slub.c:print_tracking */
  trackLines(object: VirtAddr): string[] {
    const { allocated, freed } = this.tracks(object);
    const { tracking } = this.parts;
    const lines: string[] = [];
    if (allocated !== undefined) lines.push(tracking.text('Allocated', allocated));
    if (freed !== undefined) lines.push(tracking.text('Freed', freed));
    return lines;
  }

  private add(kind: SlabReportKind, address: VirtAddr, lines: string[], rest: Partial<SlabReport>): void {
    this.drafts.push({ kind, cache: this.parts.state.name, address, lines, ...rest });
    this.parts.taint.bad = true;
  }

  /** @linux mm/slub.c:slab_bug */
  private heading(what: string): string[] {
    const { state, taint } = this.parts;
    const tainted = taint.bad ? `Tainted: ${'G    B   W'.padEnd(20)}` : 'Not tainted';
    return [DOUBLE_LINE, `BUG ${state.name} (${tainted}): ${what}`, LINE, ''];
  }

  /** @linux mm/slub.c:print_slab_info */
  private slabLine(pfn: Pfn): string {
    const { frames, host } = this.parts.state;
    const nid = nodeOfPage(host.pages, pfn);
    const zone = host.pages.zoneOf(pfn)?.index ?? 0;
    const head = blockOrder(frames, pfn) > 0;
    const bits = (BigInt(nid) << 58n) | (BigInt(zone) << 56n) | (head ? 0x40n : 0n);
    const names = [...(head ? ['head'] : []), `node=${nid}`, `zone=${zone}`].join('|');
    return (
      `Slab 0x${this.parts.memory.format(host.pages.pfnToPage(pfn))} objects=${slabObjects(frames, pfn)} ` +
      `used=${slabInuse(frames, pfn)} fp=0x${this.parts.memory.format(frames.index[pfn])} flags=0x${bits.toString(16)}(${names})`
    );
  }

  /** @linux mm/slub.c:print_trailer */
  private trailer(pfn: Pfn, object: VirtAddr): string[] {
    const { state, layout, memory } = this.parts;
    const start = this.parts.state.host.pages.pageAddress(pfn);
    const lines = [...this.trackLines(object), this.slabLine(pfn)];
    const section = (name: string, from: VirtAddr, bytes: number): void => {
      if (bytes > 0) lines.push(...memory.dump(name, from, bytes));
    };
    lines.push(`Object 0x${this.parts.memory.format(object)} @offset=${object - start} fp=0x${this.parts.memory.format(state.freePointer(object))}`, '');
    if (layout.redZone) section('Redzone  ', object - layout.redLeftPad, layout.redLeftPad);
    else if (object > start + BYTES_BEFORE) section('Bytes b4 ', object - BYTES_BEFORE, BYTES_BEFORE);
    section('Object   ', object, Math.min(layout.objectSize, PAGE_SIZE));
    if (layout.redZone) section('Redzone  ', object + layout.objectSize, layout.inuse - layout.objectSize);
    section('Padding  ', object + layout.padOffset, layout.end - layout.padOffset);
    return lines;
  }
}
