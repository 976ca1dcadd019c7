/**
 * Kernel memory that is contiguous in addresses only: frames from anywhere, shown side by side by the kernel's page tables.
 *
 * ```
 *   … | pages of an area | guard | pages of the next | guard | …        each page one entry, nothing at a guard
 * ```
 *
 * Freeing clears the entries and gives the frames back at once; the *addresses* stay unused until a purge has flushed the
 * TLBs of all CPUs for all areas freed meanwhile, which is what makes `vfree` cheap.
 *
 * @linux mm/vmalloc.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn, PhysAddr } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { GFP_KERNEL, __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM, __GFP_NOWARN, __GFP_ZERO } from '@pagelab/mm-core';
import { InitMm } from './init-mm.ts';
import { countVmalloc } from './memcg-charge.ts';
import { VM_ALLOC, VM_ALLOW_HUGE_VMAP, VM_MAP, VM_MAP_PUT_PAGES, VM_NO_GUARD, VM_USERMAP } from './vm-struct.ts';
import type { VmStruct, VmallocLayout, VmallocRequest, VmallocStats } from './vm-struct.ts';
import { VmapSpace } from './vmap-area.ts';
import type { VmapArea } from './vmap-area.ts';
import type { Vm } from './vm.ts';

/** What of the caller's flags goes into the kernel's own bookkeeping. @linux mm/internal.h:GFP_RECLAIM_MASK */
const GFP_RECLAIM_MASK = 0x400 | 0x800 | 0x20 | 0x40 | 0x80 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x80000;

export class Vmalloc {
  readonly layout: VmallocLayout;
  readonly initMm: InitMm;
  readonly space: VmapSpace;
  readonly stats: VmallocStats = { purges: 0, purgedAreas: 0 };
  /** Pages that areas own: `VmallocUsed`. @linux mm/vmalloc.c:nr_vmalloc_pages */
  nrPages = 0;
  /** Told of what `vmalloc` gives out and takes back; `null` while nobody listens. */
  observer: { alloc(addr: VirtAddr, size: number): void; free(addr: VirtAddr): void } | null = null;

  readonly #vm: Vm;

  /** Takes the objects and tables that Linux takes at boot. @linux mm/vmalloc.c:vmalloc_init */
  constructor(vm: Vm, layout: VmallocLayout) {
    this.#vm = vm;
    this.layout = layout;
    this.initMm = new InitMm(vm, layout.countsTables);
    this.space = new VmapSpace(layout.start, layout.end, vm.caches.vmapArea, layout.nrNodes, GFP_KERNEL);
    bugOn(this.initMm.preallocate(layout.start, layout.end) < 0, 'vmalloc: no memory for its page tables');
  }

  // ------------------------------------------------------------------------------------------------- allocating

  /**
   * Allocates `size` bytes whose pages need not lie together, readable and writable, with a guard page behind them.
   *
   * @returns the address, a multiple of the page size, or 0 where there is no memory or no address space
   * @linux mm/vmalloc.c:vmalloc
   */
  vmalloc(size: number, caller = 'vmalloc'): VirtAddr {
    return this.vmallocNodeRange(size, { caller });
  }

  /** As {@link vmalloc}, of large pages where there are some and the size is that of one or more. @linux mm/vmalloc.c:vmalloc_huge_node */
  vmallocHuge(size: number, gfp = GFP_KERNEL, caller = 'vmalloc_huge'): VirtAddr {
    return this.vmallocNodeRange(size, { gfp, flags: VM_ALLOW_HUGE_VMAP, caller });
  }

  /** As {@link vmalloc}, zeroed. @linux mm/vmalloc.c:vzalloc */
  vzalloc(size: number, caller = 'vzalloc'): VirtAddr {
    return this.vmallocNodeRange(size, { gfp: GFP_KERNEL | __GFP_ZERO, caller });
  }

  /** As {@link vzalloc}, for memory that programs may map. @linux mm/vmalloc.c:vmalloc_user */
  vmallocUser(size: number, caller = 'vmalloc_user'): VirtAddr {
    return this.vmallocNodeRange(size, { gfp: GFP_KERNEL | __GFP_ZERO, flags: VM_USERMAP, caller });
  }

  /**
   * As {@link vmalloc}, for whoever says more: zones and reclaim by `gfp`, alignment, flags, a range of addresses.
   *
   * @linux mm/vmalloc.c:__vmalloc_node_range
   */
  vmallocNodeRange(size: number, request: VmallocRequest = {}): VirtAddr {
    const { gfp = GFP_KERNEL, flags = 0, caller = '__vmalloc' } = request;
    const { pages } = this.#vm;
    const nrPages = Math.ceil(size / PAGE_SIZE);
    if (!(nrPages > 0)) return this.#fail(gfp, `vmalloc error: size ${size}, exceeds total pages`);
    if (nrPages > pages.totalramPages) return this.#fail(gfp, `vmalloc error: size ${size}, exceeds total pages`);
    const { hugeSize } = this.layout;
    if ((flags & VM_ALLOW_HUGE_VMAP) !== 0 && hugeSize > 0 && size >= hugeSize) {
      const address = this.#vmallocHuge(Math.ceil(size / hugeSize) * hugeSize, { ...request, gfp, caller });
      if (address !== 0) {
        this.observer?.alloc(address, size);
        return address;
      }
    }
    const made = this.#getVmArea(size, VM_ALLOC | flags, { ...request, gfp, caller });
    if (typeof made === 'number') {
      const why = made === -Errno.EBUSY ? this.#noSpace(size, request) : `vmalloc error: size ${size}, vm_struct allocation failed`;
      return this.#fail(gfp, why);
    }
    if (!this.#allocPages(made, nrPages, gfp) || !this.#map(made.addr, made.pages)) {
      this.vfree(made.addr);
      return this.#fail(gfp, `vmalloc error: size ${nrPages * PAGE_SIZE}, failed to allocate pages`);
    }
    this.observer?.alloc(made.addr, size);
    return made.addr;
  }

  /** An area of large pages, or 0: small ones will do then. */
  #vmallocHuge(bytes: number, request: VmallocRequest & { readonly gfp: number; readonly caller: string }): VirtAddr {
    const { hugeSize } = this.layout;
    const { flags = 0, align = hugeSize } = request;
    const made = this.#getVmArea(bytes, VM_ALLOC | flags, { ...request, align: Math.max(align, hugeSize) });
    if (typeof made === 'number') return 0;
    if (this.#allocHugePages(made, bytes / PAGE_SIZE, request.gfp) && this.#mapHuge(made.addr, made.pages)) return made.addr;
    this.vfree(made.addr);
    return 0;
  }

  /** Blocks of a large page each, and the array of pointers to their pages, which are freed one by one. @linux mm/vmalloc.c:vm_area_alloc_pages */
  #allocHugePages(vm: VmStruct, nrPages: number, gfp: number): boolean {
    const { pages } = this.#vm;
    vm.pagesArray = this.#allocArray(vm, nrPages, gfp);
    if (vm.pagesArray === 0) return false;
    const perBlock = this.layout.hugeSize / PAGE_SIZE;
    const order = Math.log2(perBlock);
    const frames = new Int32Array(nrPages);
    for (let i = 0; i < nrPages; i += perBlock) {
      const pfn = pages.allocPages(gfp | __GFP_NOWARN, order);
      if (pfn >= 0) pages.splitPage(pfn, order);
      vm.pages = frames.subarray(0, pfn < 0 ? i : i + perBlock);
      if (pfn < 0) return false;
      this.nrPages += perBlock;
      for (let page = 0; page < perBlock; page++) frames[i + page] = pfn + page;
    }
    this.#storePagePointers(vm);
    return true;
  }

  /** Enters blocks at addresses side by side. @linux mm/vmalloc.c:vmap_range_noflush */
  #mapHuge(addr: VirtAddr, frames: Int32Array): boolean {
    for (let i = 0; i < frames.length; i += this.layout.hugeSize / PAGE_SIZE) {
      const entry = this.initMm.allocPmd(addr + i * PAGE_SIZE);
      if (entry < 0) return false;
      this.initMm.setPmd(entry, frames[i]);
    }
    return true;
  }

  #noSpace(size: number, { start = this.layout.start, end = this.layout.end }: VmallocRequest): string {
    const range = `Address range restricted to 0x${this.#vm.slab.memory.format(start)} - 0x${this.#vm.slab.memory.format(end)}`;
    return `vmalloc_node_range for size ${size + PAGE_SIZE} failed: ${range}`;
  }

  /** The frames, and the array of pointers to them. What was taken before a failure is the area's. @linux mm/vmalloc.c:__vmalloc_area_node */
  #allocPages(vm: VmStruct, nrPages: number, gfp: number): boolean {
    const { pages } = this.#vm;
    vm.pagesArray = this.#allocArray(vm, nrPages, gfp);
    if (vm.pagesArray === 0) return false;
    // Pages without a permanent address will do, unless a device wants them low.
    const highmem = (gfp & (__GFP_DMA | __GFP_DMA32)) === 0 ? __GFP_HIGHMEM : 0;
    const wanted = gfp | __GFP_NOWARN | highmem;
    const frames = new Int32Array(nrPages);
    for (let i = 0; i < nrPages; i++) {
      const pfn = pages.allocPage(wanted);
      if (pfn < 0) {
        vm.pages = frames.slice(0, i);
        this.nrPages += i;
        return false;
      }
      frames[i] = pfn;
    }
    vm.pages = frames;
    this.nrPages += nrPages;
    if (this.#vm.memcgs !== null) countVmalloc(this.#vm.memcgs, frames, 1);
    this.#storePagePointers(vm);
    return true;
  }

  /** Where the pointers to an area's pages go; 0 without memory. */
  #allocArray(vm: VmStruct, nrPages: number, gfp: number): VirtAddr {
    const bytes = nrPages * this.#vm.slab.memory.wordBytes;
    const nested = (gfp & GFP_RECLAIM_MASK) | __GFP_ZERO;
    if (bytes > PAGE_SIZE) return this.vmallocNodeRange(bytes, { gfp: nested, caller: vm.caller });
    return this.#vm.slab.kmalloc(bytes, nested);
  }

  #storePointer(at: VirtAddr, pointer: number): void {
    const { ram, slab } = this.#vm;
    if (slab.memory.wordBytes === 8) ram.storeAddress(this.physAddr(at), pointer);
    else ram.store32(this.physAddr(at), pointer);
  }

  #storePagePointers(vm: VmStruct): void {
    const { pages, slab } = this.#vm;
    for (let i = 0; i < vm.pages.length; i++) this.#storePointer(vm.pagesArray + i * slab.memory.wordBytes, pages.pfnToPage(vm.pages[i]));
  }

  /**
   * Shows frames that somebody has at addresses side by side.
   *
   * @param flags VM_MAP_PUT_PAGES where {@link vfree} is to drop a reference to each
   * @returns the address, or 0
   * @linux mm/vmalloc.c:vmap
   */
  vmap(frames: ArrayLike<Pfn>, flags = 0, caller = 'vmap'): VirtAddr {
    const nrPages = frames.length;
    if (nrPages === 0 || nrPages > this.#vm.pages.totalramPages) return 0;
    const made = this.#getVmArea(nrPages * PAGE_SIZE, VM_MAP | flags, { gfp: GFP_KERNEL, caller });
    if (typeof made === 'number') return 0;
    const shown = Int32Array.from(frames);
    if (!this.#map(made.addr, shown)) {
      this.vunmap(made.addr);
      return 0;
    }
    if ((flags & VM_MAP_PUT_PAGES) !== 0) made.pages = shown;
    return made.addr;
  }

  /**
   * Takes addresses without showing anything at them.
   *
   * @returns the area, or −ENOMEM, −EBUSY
   * @linux mm/vmalloc.c:__get_vm_area_node
   */
  #getVmArea(size: number, flags: number, request: VmallocRequest & { readonly gfp: number; readonly caller: string }): VmStruct | number {
    const { slab } = this.#vm;
    const { align = PAGE_SIZE, start = this.layout.start, end = this.layout.end, gfp, caller } = request;
    const nested = gfp & GFP_RECLAIM_MASK;
    const object = slab.kzalloc(this.layout.vmStructBytes, nested);
    if (object === 0) return -Errno.ENOMEM;
    const guarded = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE + ((flags & VM_NO_GUARD) === 0 ? PAGE_SIZE : 0);
    let area = this.space.alloc(guarded, align, start, end, nested);
    if (area === -Errno.EBUSY && this.space.lazyPages > 0) {
      this.purge();
      area = this.space.alloc(guarded, align, start, end, nested);
    }
    if (typeof area === 'number') {
      slab.kfree(object);
      return area;
    }
    this.#storePointer(object + slab.memory.wordBytes, area.start);
    const pages = new Int32Array(0);
    const made: VmStruct = { area, object, addr: area.start, size: guarded, requested: size, flags, pages, pagesArray: 0, phys: 0, caller };
    area.vm = made;
    return made;
  }

  /**
   * Takes the highest addresses that are free, with nothing at them: for {@link mapFrame}. {@link vunmap} gives them back.
   *
   * @returns the address, or 0
   * @linux mm/vmalloc.c:pcpu_get_vm_areas
   */
  getHighArea(size: number, caller: string): VirtAddr {
    const { slab } = this.#vm;
    const object = slab.kzalloc(this.layout.vmStructBytes, GFP_KERNEL);
    if (object === 0) return 0;
    const area = this.space.allocHighest(size, PAGE_SIZE, GFP_KERNEL);
    if (typeof area === 'number') {
      slab.kfree(object);
      return 0;
    }
    this.#storePointer(object + slab.memory.wordBytes, area.start);
    area.vm = { area, object, addr: area.start, size, requested: size, flags: VM_ALLOC, pages: new Int32Array(0), pagesArray: 0, phys: 0, caller };
    return area.start;
  }

  /** Shows a frame at a page of an area. @returns 0, or −ENOMEM without memory for a table */
  mapFrame(addr: VirtAddr, pfn: Pfn): number {
    const entry = this.initMm.allocPte(addr);
    if (entry < 0) return entry;
    bugOn(!this.initMm.isNone(entry), 'vmap: something is mapped there already');
    this.initMm.setPte(entry, pfn);
    return 0;
  }

  /** Takes a frame away again, which TLBs may still know; −1 where there is none. */
  unmapFrame(addr: VirtAddr): Pfn {
    const entry = this.initMm.findPte(addr);
    return entry < 0 ? -1 : this.initMm.clearPte(entry);
  }

  /** Enters frames at addresses side by side; false without memory for a table, with what was entered left. */
  #map(addr: VirtAddr, frames: Int32Array): boolean {
    for (let i = 0; i < frames.length; i++) if (this.mapFrame(addr + i * PAGE_SIZE, frames[i]) < 0) return false;
    return true;
  }

  #fail(gfp: number, text: string): 0 {
    if ((gfp & __GFP_NOWARN) === 0) this.#vm.warn({ kind: 'vmalloc-failed', address: 0, text });
    return 0;
  }

  // ------------------------------------------------------------------------------------------------------ freeing

  /**
   * Frees memory of {@link vmalloc}; 0 is nothing. Addresses that are no area's are reported.
   *
   * @linux mm/vmalloc.c:vfree
   */
  vfree(addr: VirtAddr): void {
    if (addr === 0) return;
    if (addr % PAGE_SIZE !== 0) return this.#warn('vfree-bad-address', addr, 'Trying to vfree() bad address');
    const vm = this.#removeVmArea(addr);
    if (vm === null) return this.#warn('vfree-nonexistent', addr, 'Trying to vfree() nonexistent vm area');
    const owns = (vm.flags & VM_ALLOC) !== 0;
    if (owns) this.observer?.free(addr);
    if (this.#vm.memcgs !== null) countVmalloc(this.#vm.memcgs, vm.pages, -1);
    for (let i = 0; i < vm.pages.length; i++) this.#vm.pages.putPage(vm.pages[i]);
    if (owns) this.nrPages -= vm.pages.length;
    if (vm.pagesArray !== 0) this.kvfree(vm.pagesArray);
    this.#vm.slab.kfree(vm.object);
  }

  /** Takes away what {@link vmap} made; the frames are the caller's still. @linux mm/vmalloc.c:vunmap */
  vunmap(addr: VirtAddr): void {
    if (addr === 0) return;
    const vm = addr % PAGE_SIZE === 0 ? this.#removeVmArea(addr) : null;
    if (vm === null) return this.#warn('vunmap-nonexistent', addr, 'Trying to vunmap() nonexistent vm area');
    this.#vm.slab.kfree(vm.object);
  }

  /**
   * Shows frames at addresses side by side, without an area of its own name nor a guard page: for short use.
   *
   * @returns the address, or 0
   * @linux mm/vmalloc.c:vm_map_ram
   */
  vmMapRam(frames: ArrayLike<Pfn>): VirtAddr {
    const area = frames.length === 0 ? -Errno.ENOMEM : this.space.alloc(frames.length * PAGE_SIZE, PAGE_SIZE, this.layout.start, this.layout.end, GFP_KERNEL);
    if (typeof area === 'number') return 0;
    if (this.#map(area.start, Int32Array.from(frames))) return area.start;
    this.vmUnmapRam(area.start);
    return 0;
  }

  /** Takes away what {@link vmMapRam} made. @linux mm/vmalloc.c:vm_unmap_ram */
  vmUnmapRam(addr: VirtAddr): void {
    const area = this.space.areas.get(addr);
    if (area === undefined || area.start !== addr || area.vm !== null || area.isLazy) {
      return this.#warn('vunmap-nonexistent', addr, 'Trying to vm_unmap_ram() nonexistent area');
    }
    this.#unmapArea(area);
  }

  #warn(kind: string, address: VirtAddr, what: string): void {
    this.#vm.warn({ kind, address, text: `${what} (${this.#vm.slab.memory.format(address)})` });
  }

  /** Frees memory of `kmalloc` or of `vmalloc`, whichever it is. @linux mm/util.c:kvfree */
  kvfree(addr: VirtAddr): void {
    if (this.isVmallocAddr(addr)) this.vfree(addr);
    else this.#vm.slab.kfree(addr);
  }

  /** `kmalloc` where that succeeds without effort, else `vmalloc`. @returns the address, or 0 @linux mm/slub.c:kvmalloc_node */
  kvmalloc(size: number, gfp = GFP_KERNEL, caller = 'kvmalloc'): VirtAddr {
    if (size <= PAGE_SIZE) return this.#vm.slab.kmalloc(size, gfp);
    // Beyond a page it is only tried: no retries, no warning.
    const address = this.#vm.slab.kmalloc(size, gfp | __GFP_NOWARN | 0x10000);
    return address !== 0 ? address : this.vmallocNodeRange(size, { gfp, flags: VM_ALLOW_HUGE_VMAP, caller });
  }

  /** Unmaps an area that begins at `addr`; its addresses wait for a purge. @linux mm/vmalloc.c:remove_vm_area */
  #removeVmArea(addr: VirtAddr): VmStruct | null {
    const area = this.space.areas.get(addr);
    const vm = area?.vm ?? null;
    if (area === undefined || vm === null || area.start !== addr) return null;
    this.#unmapArea(area);
    return vm;
  }

  /** @linux mm/vmalloc.c:free_unmap_vmap_area */
  #unmapArea(area: VmapArea): void {
    const { initMm } = this;
    const { hugeSize } = this.layout;
    for (let addr = area.start; addr < area.end; ) {
      const large = hugeSize > 0 && addr % hugeSize === 0 ? initMm.clearPmd(addr) : 0;
      if (large === 0) {
        const entry = initMm.findPte(addr);
        if (entry >= 0) initMm.clearPte(entry);
      }
      addr += large === 0 ? PAGE_SIZE : large;
    }
    this.space.makeLazy(area);
    if (this.space.lazyPages > this.lazyMaxPages) this.purge();
  }

  /** Pages that may wait for a purge: 32 MiB for each doubling of the CPUs. @linux mm/vmalloc.c:lazy_max_pages */
  get lazyMaxPages(): number {
    return (32 - Math.clz32(this.#vm.smp.cpus.length)) * ((32 * 2 ** 20) / PAGE_SIZE);
  }

  /**
   * Flushes the TLBs of all CPUs for the areas that were freed, once, and gives their addresses back.
   *
   * @returns the areas given back
   * @linux mm/vmalloc.c:__purge_vmap_area_lazy
   */
  purge(): number {
    const { space } = this;
    const { lazy } = space;
    if (lazy.length === 0) return 0;
    let start = Infinity;
    let end = -Infinity;
    for (const area of lazy) {
      start = Math.min(start, area.start);
      end = Math.max(end, area.end);
    }
    this.#vm.smp.flushTlbKernelRange(start, end);
    space.lazy = [];
    space.lazyPages = 0;
    for (const area of lazy) space.release(area);
    this.stats.purges += 1;
    this.stats.purgedAreas += lazy.length;
    return lazy.length;
  }

  // ---------------------------------------------------------------------------------------------------- questions

  /** Whether an address is vmalloc's. @linux include/linux/mm.h:is_vmalloc_addr */
  isVmallocAddr(addr: VirtAddr): boolean {
    return addr >= this.layout.start && addr < this.layout.end;
  }

  /** The frame behind a vmalloc address, or −1. @linux mm/vmalloc.c:vmalloc_to_page */
  vmallocToPfn(addr: VirtAddr): Pfn {
    return this.isVmallocAddr(addr) ? this.initMm.walk(addr).pfn : -1;
  }

  /** The physical address of a byte in the direct map or of vmalloc; −1 where there is none. @linux arch/x86/mm/pat/set_memory.c:slow_virt_to_phys */
  physAddr(addr: VirtAddr): PhysAddr {
    if (!this.isVmallocAddr(addr)) return addr - this.#vm.pages.pageOffset;
    const { pfn } = this.initMm.walk(addr);
    return pfn < 0 ? -1 : pfn * PAGE_SIZE + (addr & (PAGE_SIZE - 1));
  }

  /** The area that holds `addr`, guard page included; `undefined` for none. @linux mm/vmalloc.c:find_vm_area */
  findVmArea(addr: VirtAddr): VmStruct | undefined {
    return this.space.areas.get(addr)?.vm ?? undefined;
  }

  /**
   * Recomputes areas, entries, frames and counts.
   *
   * @throws KernelBug for the first that does not hold
   */
  validate(): void {
    const { initMm, space } = this;
    space.validate();
    initMm.validate();
    let owned = 0;
    let mapped = 0;
    space.areas.forEach(({ vm, isLazy }, start, end) => {
      bugOn(isLazy && vm !== null, 'vmalloc: an area to be purged is in use');
      const here = initMm.countMapped(start, end);
      mapped += here;
      bugOn(isLazy && here > 0, 'vmalloc: an area to be purged shows something');
      if (vm === null) return;
      bugOn(vm.addr !== start || vm.size !== end - start, 'vmalloc: an area of another size');
      // Who asked for addresses alone maps what they like there.
      if (vm.pagesArray === 0) return;
      owned += vm.pages.length;
      vm.pages.forEach((pfn, i) => {
        const { ram, slab, pages } = this.#vm;
        const { wordBytes } = slab.memory;
        const at = this.physAddr(vm.pagesArray + i * wordBytes);
        const pointer = wordBytes === 8 ? ram.loadAddress(at) : ram.load32(at);
        bugOn(pointer !== pages.pfnToPage(pfn), `vmalloc: page ${i} of 0x${this.#vm.slab.memory.format(start)} is another in its array`);
      });
      for (let addr = start, i = 0; addr < end; addr += PAGE_SIZE, i++) {
        const { pfn } = initMm.walk(addr);
        bugOn(pfn !== (vm.pages[i] ?? -1), `vmalloc: 0x${this.#vm.slab.memory.format(addr)} shows frame ${pfn}, not ${vm.pages[i] ?? -1}`);
        bugOn(pfn >= 0 && this.#vm.frames.refcount[pfn] <= 0, `vmalloc: frame ${pfn} is free`);
      }
    });
    const all = initMm.countMapped(this.layout.start, this.layout.end);
    bugOn(all !== mapped, `vmalloc: ${all} pages are shown, ${mapped} of them in areas`);
    bugOn(owned !== this.nrPages, `vmalloc: ${this.nrPages} pages counted, ${owned} found`);
  }
}
