/**
 * A slab allocator of one's own: a slab holds up to 32 objects, and one word, in the `private` column of its first frame, has
 * a bit for each that is out. No arrays, no CPUs: the first free object of the first slab that has one.
 *
 *     boot({ memory: '1G' }, { slabAllocator: createBitmapSlab() })
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { popcount32 } from '@pagelab/lib';
import { MAX_PAGE_ORDER, __GFP_COMP, __GFP_ZERO } from '@pagelab/mm-core';
import { KmemCache, cacheOfPage, getOrder, giveSlabPages, takeSlabPages } from '@pagelab/slab';
import type { CacheSpec, SlabAllocator, SlabHost, SlabOwnershipCheck } from '@pagelab/slab';

interface Layout {
  readonly size: number;
  readonly order: number;
  readonly objectsPerSlab: number;
}

/** Four objects a slab or more, where that takes no more than eight pages. */
function layOut({ objectSize, align }: CacheSpec): Layout {
  const size = Math.ceil(objectSize / align) * align;
  const order = Math.max(getOrder(size), Math.min(3, getOrder(4 * size)));
  return { size, order, objectsPerSlab: Math.min(32, Math.floor((PAGE_SIZE * 2 ** order) / size)) };
}

class BitmapCache extends KmemCache {
  private readonly host: SlabHost;
  /** By the first page of each slab: a bit for each object that is out. */
  private readonly out: Int32Array;
  private readonly slabs = new Set<number>();
  /** Slabs with free objects, in the order they are tried. */
  private readonly partial = new Set<number>();

  constructor(host: SlabHost, spec: CacheSpec, layout: Layout) {
    super(spec, layout);
    this.host = host;
    this.out = host.pages.frames.private;
  }

  alloc(gfp: number): VirtAddr {
    return this.allocNode(gfp, -1);
  }

  allocNode(gfp: number, node: number): VirtAddr {
    const [first] = this.partial;
    const pfn = first ?? this.newSlab(gfp, node);
    if (pfn < 0) return 0;
    const free = ~this.out[pfn]!;
    const slot = 31 - Math.clz32(free & -free);
    this.out[pfn]! |= 1 << slot;
    if (popcount32(this.out[pfn]!) === this.objectsPerSlab) this.partial.delete(pfn);
    const object = this.host.pages.pageAddress(pfn) + slot * this.size;
    if ((gfp & __GFP_ZERO) !== 0) this.host.memory.fill(object, this.objectSize, 0);
    return object;
  }

  private newSlab(gfp: number, node: number): number {
    const pfn = takeSlabPages(this.host, this, (gfp & ~__GFP_ZERO) | __GFP_COMP, this.order, node);
    if (pfn < 0) return -1;
    for (let slot = 0; slot < this.objectsPerSlab; slot++) this.ctor?.(this.host.pages.pageAddress(pfn) + slot * this.size);
    this.slabs.add(pfn);
    this.partial.add(pfn);
    return pfn;
  }

  /** Slab and number of the object that contains an address of this cache: slabs begin at multiples of their size. */
  private find(address: VirtAddr): { pfn: number; slot: number } {
    const page = this.host.pages.virtToPfn(address);
    const pfn = page - (page % 2 ** this.order);
    return { pfn, slot: Math.floor((address - this.host.pages.pageAddress(pfn)) / this.size) };
  }

  free(object: VirtAddr): void {
    if (object === 0) return;
    const report = (kind: 'invalid-free' | 'double-free' | 'wrong-cache', text: string): void =>
      this.host.report({ kind, cache: this.name, address: object, text: `${this.name}: ${text}` });
    const owner = cacheOfPage(this.host, this.host.pages.virtToPfn(object));
    if (owner === undefined) return report('invalid-free', 'no object of any cache');
    if (owner !== this) {
      report('wrong-cache', `an object of ${owner.name}`);
      return owner.free(object);
    }
    const { pfn, slot } = this.find(object);
    if (slot >= this.objectsPerSlab || object !== this.host.pages.pageAddress(pfn) + slot * this.size) return report('invalid-free', 'no object begins there');
    if ((this.out[pfn]! & (1 << slot)) === 0) return report('double-free', 'the object is free already');
    this.out[pfn]! &= ~(1 << slot);
    this.partial.add(pfn);
  }

  shrink(): number {
    const empty = [...this.slabs].filter((pfn) => this.out[pfn]! === 0);
    for (const pfn of empty) {
      this.slabs.delete(pfn);
      this.partial.delete(pfn);
      giveSlabPages(this.host, pfn, this.flags, this.order);
    }
    return empty.length * 2 ** this.order;
  }

  shutdown(): boolean {
    this.shrink();
    return this.slabs.size === 0;
  }

  get activeObjects(): number {
    return [...this.slabs].reduce((sum, pfn) => sum + popcount32(this.out[pfn]!), 0);
  }

  get totalObjects(): number {
    return this.slabs.size * this.objectsPerSlab;
  }

  get activeSlabs(): number {
    return this.slabs.size;
  }

  get nrPages(): number {
    return this.slabs.size * 2 ** this.order;
  }

  get usableSize(): number {
    return this.size;
  }

  objectAt(address: VirtAddr): VirtAddr {
    const { pfn, slot } = this.find(address);
    return this.host.pages.pageAddress(pfn) + slot * this.size;
  }

  liveObjects(): VirtAddr[] {
    const slots = Array.from({ length: this.objectsPerSlab }, (_, slot) => slot);
    return [...this.slabs].flatMap((pfn) => slots.filter((slot) => (this.out[pfn]! & (1 << slot)) !== 0).map((slot) => this.host.pages.pageAddress(pfn) + slot * this.size));
  }

  validate(claim: SlabOwnershipCheck): void {
    for (const pfn of this.slabs) claim(pfn, 2 ** this.order, this);
  }
}

/** Makes the allocator, for one machine. */
export default function createBitmapSlab(): SlabAllocator {
  const createCache = (host: SlabHost, spec: CacheSpec): KmemCache | number => {
    const layout = layOut(spec);
    return layout.order > MAX_PAGE_ORDER ? -Errno.E2BIG : new BitmapCache(host, spec, layout);
  };
  return { name: 'bitmap', createCache };
}
