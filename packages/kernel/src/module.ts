/**
 * Kernel code of one's own: what a loadable module sees of the kernel. It allocates as Linux's modules do, its memory is
 * simulated RAM behind kernel addresses, and what it does wrong has the consequences that it has there.
 *
 * @linux kernel/module/main.c:do_init_module
 */
import type { VirtAddr } from '@pagelab/abi';
import type { DmaMaskBits, Pfn, PhysAddr } from '@pagelab/hw';
import { PAGE_SIZE } from '@pagelab/hw';
import { GFP_KERNEL, __GFP_NORETRY, __GFP_NOWARN, __GFP_ZERO } from '@pagelab/mm-core';
import { Mempool, mempoolKmalloc, mempoolPages, mempoolSlab } from '@pagelab/slab';
import type { KmemCache, KmemCacheOptions, PercpuPtr } from '@pagelab/slab';
import { DmaPool, KernelMemory, VM_ALLOW_HUGE_VMAP, pageAddress } from '@pagelab/vm';
import type { DmaDevice, VmallocRequest } from '@pagelab/vm';
import { kernelRead, kernelWrite } from './kernel-file.ts';
import { runDaemons } from './daemons.ts';
import type { Kernel } from './kernel.ts';
import type { ModuleUaccess } from './module-uaccess.ts';
import { oops } from './oops.ts';
import { DEFAULT_FRAME_BYTES, StackUse } from './stack-use.ts';
import { machineStats } from './stats.ts';
import type { MachineStats } from './stats.ts';

/** What stays of a module between its calls. */
export interface LoadedModule {
  readonly name: string;
  /** Its data sections: where they begin, and their bytes. */
  readonly data: { readonly address: VirtAddr; readonly bytes: number }[];
}

/** The kernel as a module sees it: addresses are numbers, 0 is `NULL`. `gfp` is GFP_KERNEL unless told. */
export class KernelModule {
  readonly name: string;
  /** Memory behind any kernel address. An access that hardware refuses ends the module with a `KernelOops`. */
  readonly mem: KernelMemory;

  readonly #kernel: Kernel;
  readonly #module: LoadedModule;
  readonly #user: ModuleUaccess;

  constructor(kernel: Kernel, module: LoadedModule, user: ModuleUaccess) {
    this.#kernel = kernel;
    this.#module = module;
    this.#user = user;
    this.name = module.name;
    this.mem = new KernelMemory(kernel.ram, kernel.smp, (fault) => {
      if (!user.faultIn(fault)) throw oops(kernel, fault, null);
    });
  }

  // ---- objects

  /** @returns the address; 0 without memory @linux include/linux/slab.h:kmalloc */
  kmalloc(size: number, gfp = GFP_KERNEL): VirtAddr {
    return this.#kernel.slab.kmalloc(size, gfp);
  }

  /** @linux include/linux/slab.h:kzalloc */
  kzalloc(size: number, gfp = GFP_KERNEL): VirtAddr {
    return this.#kernel.slab.kmalloc(size, gfp | __GFP_ZERO);
  }

  /** @linux include/linux/slab.h:kcalloc */
  kcalloc(n: number, size: number, gfp = GFP_KERNEL): VirtAddr {
    return this.#kernel.slab.kcalloc(n, size, gfp);
  }

  /** @linux include/linux/slab.h:krealloc */
  krealloc(address: VirtAddr, size: number, gfp = GFP_KERNEL): VirtAddr {
    return this.#kernel.slab.krealloc(address, size, gfp);
  }

  /** @linux mm/slub.c:kfree */
  kfree(address: VirtAddr): void {
    this.#kernel.slab.kfree(address);
  }

  /** `kfree` after a grace period. @linux include/linux/rcupdate.h:kfree_rcu */
  kfreeRcu(address: VirtAddr): void {
    this.#kernel.slab.kfreeRcu(address);
  }

  // ---- RCU

  /** Begins a read-side critical section on the running CPU: what is freed by RCU from now on stays. @linux include/linux/rcupdate.h:rcu_read_lock */
  rcuReadLock(): void {
    this.#kernel.rcu.readLock(this.#kernel.smp.processorId);
  }

  /** Ends it. @linux include/linux/rcupdate.h:rcu_read_unlock */
  rcuReadUnlock(): void {
    this.#kernel.rcu.readUnlock(this.#kernel.smp.processorId);
  }

  /** Waits for a grace period, and for all that waits for one. @throws KernelBug within a read-side critical section @linux kernel/rcu/tree.c:rcu_barrier */
  rcuBarrier(): void {
    this.#kernel.rcu.barrier();
  }

  /** @linux mm/slab_common.c:ksize */
  ksize(address: VirtAddr): number {
    return this.#kernel.slab.ksize(address);
  }

  /** @returns the cache, or −errno @linux include/linux/slab.h:kmem_cache_create */
  kmemCacheCreate(options: KmemCacheOptions): KmemCache | number {
    return this.#own(() => this.#kernel.slab.kmemCacheCreate(options));
  }

  /** @returns 0, or −EBUSY where objects are live @linux mm/slab_common.c:kmem_cache_destroy */
  kmemCacheDestroy(cache: KmemCache): number {
    return this.#kernel.slab.kmemCacheDestroy(cache);
  }

  // ---- areas

  /** @returns the address; 0 without memory @linux mm/vmalloc.c:vmalloc */
  vmalloc(size: number, request: VmallocRequest = {}): VirtAddr {
    const { vmalloc } = this.#kernel.vm;
    return this.#area(size, () => vmalloc.vmallocNodeRange(size, { caller: this.#caller('vmalloc'), ...request }));
  }

  /** @linux mm/vmalloc.c:vzalloc */
  vzalloc(size: number): VirtAddr {
    return this.vmalloc(size, { gfp: GFP_KERNEL | __GFP_ZERO });
  }

  /** @linux mm/vmalloc.c:vmalloc_user */
  vmallocUser(size: number): VirtAddr {
    const { vmalloc } = this.#kernel.vm;
    return this.#area(size, () => vmalloc.vmallocUser(size, this.#caller('vmalloc_user')));
  }

  /** @linux mm/vmalloc.c:vfree */
  vfree(address: VirtAddr): void {
    this.#kernel.kmemleak?.remove(address);
    this.#kernel.vm.vmalloc.vfree(address);
  }

  /** Shows frames side by side. @linux mm/vmalloc.c:vmap */
  vmap(pages: readonly Pfn[]): VirtAddr {
    return this.#own(() => this.#kernel.vm.vmalloc.vmap(pages, 0, this.#caller('vmap')));
  }

  /** @linux mm/vmalloc.c:vunmap */
  vunmap(address: VirtAddr): void {
    this.#kernel.vm.vmalloc.vunmap(address);
  }

  /** @linux mm/vmalloc.c:vm_map_ram */
  vmMapRam(pages: readonly Pfn[]): VirtAddr {
    return this.#own(() => this.#kernel.vm.vmalloc.vmMapRam(pages));
  }

  /** @linux mm/vmalloc.c:vm_unmap_ram */
  vmUnmapRam(address: VirtAddr): void {
    this.#kernel.vm.vmalloc.vmUnmapRam(address);
  }

  /** `vmalloc` of large pages, where there are some and the size is that of one or more. @linux mm/vmalloc.c:vmalloc_huge_node */
  vmallocHuge(size: number, gfp = GFP_KERNEL): VirtAddr {
    return this.vmalloc(size, { gfp, flags: VM_ALLOW_HUGE_VMAP });
  }

  /** `kmalloc` where that is easy, `vmalloc` where not. @linux mm/slub.c:kvmalloc_node */
  kvmalloc(size: number, gfp = GFP_KERNEL): VirtAddr {
    if (size <= PAGE_SIZE) return this.kmalloc(size, gfp);
    // As for vmalloc: beyond a page it is only tried.
    const address = this.kmalloc(size, gfp | __GFP_NOWARN | __GFP_NORETRY);
    return address !== 0 ? address : this.vmalloc(size, { gfp, flags: VM_ALLOW_HUGE_VMAP });
  }

  /** @linux mm/slub.c:kvfree */
  kvfree(address: VirtAddr): void {
    if (this.#kernel.vm.vmalloc.isVmallocAddr(address)) this.vfree(address);
    else this.kfree(address);
  }

  /** The frame behind an address of vmalloc, or −1. @linux mm/vmalloc.c:vmalloc_to_page */
  vmallocToPage(address: VirtAddr): Pfn {
    return this.#kernel.vm.vmalloc.vmallocToPfn(address);
  }

  /** Flushes the TLBs for areas that were freed, and gives their addresses back; how many. @linux mm/vmalloc.c:vm_unmap_aliases */
  vmUnmapAliases(): number {
    return this.#kernel.vm.vmalloc.purge();
  }

  // ---- pages

  /** @returns the first frame, or −errno @linux mm/page_alloc.c:alloc_pages */
  allocPages(order = 0, gfp = GFP_KERNEL): Pfn {
    return this.#kernel.pages.allocPages(gfp, order);
  }

  /** @linux mm/page_alloc.c:__free_pages */
  freePages(pfn: Pfn, order = 0): void {
    this.#kernel.pages.freePages(pfn, order);
  }

  /** @returns how many frames of `count` there were, which are in `out` @linux mm/page_alloc.c:alloc_pages_bulk_noprof */
  allocPagesBulk(count: number, out: Int32Array, gfp = GFP_KERNEL): number {
    return this.#kernel.pages.allocPagesBulk(gfp, count, out);
  }

  /** @returns the address of a block; 0 without memory @linux mm/page_alloc.c:__get_free_pages */
  getFreePages(order = 0, gfp = GFP_KERNEL): VirtAddr {
    return this.#kernel.pages.getFreePages(gfp, order);
  }

  /** @returns the address of a page of zeros; 0 without memory @linux mm/page_alloc.c:get_zeroed_page */
  getZeroedPage(gfp = GFP_KERNEL): VirtAddr {
    return this.#kernel.pages.getZeroedPage(gfp);
  }

  /** @linux mm/page_alloc.c:free_pages */
  freePagesAt(address: VirtAddr, order = 0): void {
    this.#kernel.pages.freePagesAt(address, order);
  }

  /** @returns the address of as many pages in one piece as `bytes` take; 0 without memory @linux mm/page_alloc.c:alloc_pages_exact */
  allocPagesExact(bytes: number, gfp = GFP_KERNEL): VirtAddr {
    return this.#kernel.pages.allocPagesExact(bytes, gfp);
  }

  /** @linux mm/page_alloc.c:free_pages_exact */
  freePagesExact(address: VirtAddr, bytes: number): void {
    this.#kernel.pages.freePagesExact(address, bytes);
  }

  /** A frame's address in the direct map; of high memory, the one that `kmap` gave it, or 0. @linux include/linux/mm.h:page_address */
  pageAddress(pfn: Pfn): VirtAddr {
    return pageAddress(this.#kernel.vm, pfn);
  }

  // ---- high memory; without any, each page has its address in the direct map, and there is nothing to take back

  /** @returns the address; 0 where all are in use and Linux would sleep @linux include/linux/highmem.h:kmap */
  kmap(pfn: Pfn): VirtAddr {
    return this.#kernel.vm.highmem?.kmap(pfn) ?? this.pageAddress(pfn);
  }

  /** @linux include/linux/highmem.h:kunmap */
  kunmap(pfn: Pfn): void {
    this.#kernel.vm.highmem?.kunmap(pfn);
  }

  /** @returns the address; 0 where the CPU has no slot left @linux include/linux/highmem.h:kmap_local_page */
  kmapLocalPage(pfn: Pfn): VirtAddr {
    return this.#kernel.vm.highmem?.kmapLocal(pfn) ?? this.pageAddress(pfn);
  }

  /** Takes back what `kmapLocalPage` gave last. @linux include/linux/highmem.h:kunmap_local */
  kunmapLocal(address: VirtAddr): void {
    this.#kernel.vm.highmem?.kunmapLocal(address);
  }

  /** As `kmapLocalPage`; until `kunmapAtomic` nothing may sleep. @linux include/linux/highmem.h:kmap_atomic */
  kmapAtomic(pfn: Pfn): VirtAddr {
    return this.#kernel.vm.highmem?.kmapAtomic(pfn) ?? this.pageAddress(pfn);
  }

  /** @linux include/linux/highmem.h:kunmap_atomic */
  kunmapAtomic(address: VirtAddr): void {
    this.#kernel.vm.highmem?.kunmapAtomic(address);
  }

  // ---- user memory: loads and stores of the module's own are kept out by SMAP

  /** Runs `body` in the address space of a process. @throws RangeError where there is no such process @linux kernel/kthread.c:kthread_use_mm */
  useMm<T>(pid: number, body: () => T): T {
    const mm = this.#kernel.tasks.get(pid)?.process.mm;
    if (mm === undefined || mm === null) throw new RangeError(`useMm: takes the number of a process that lives, not ${pid}`);
    return this.#user.use(mm, body);
  }

  /** Runs `body` in an address space of the module's own, which goes with it. @returns what it returns, or −ENOMEM @linux lib/kunit/user_alloc.c:kunit_attach_mm */
  attachMm<T>(body: () => T): T | number {
    return this.#user.attach(body);
  }

  /** Maps anonymous memory in the address space that the module has on. @param prot PROT_ bits @returns the address, or −errno @linux mm/util.c:vm_mmap */
  vmMmap(length: number, prot: number): number {
    return this.#user.mmap(length, prot);
  }

  /** Copies from user memory to the kernel's; what cannot be read is zeroed. @returns the bytes that could not be copied @linux include/linux/uaccess.h:copy_from_user */
  copyFromUser(to: VirtAddr, from: VirtAddr, length: number): number {
    const bytes = this.#user.read(from, length);
    this.mem.set(to, bytes);
    if (bytes.length < length) this.mem.fill(to + bytes.length, length - bytes.length, 0);
    return length - bytes.length;
  }

  /** Copies from the kernel's memory to user memory. @returns the bytes that could not be copied @linux include/linux/uaccess.h:copy_to_user */
  copyToUser(to: VirtAddr, from: VirtAddr, length: number): number {
    return length - this.#user.write(to, this.mem.bytes(from, length));
  }

  /** From here on loads and stores reach user memory too: only between this and {@link clac}. @linux arch/x86/include/asm/smap.h:stac */
  stac(): void {
    this.#user.setAc(true);
  }

  /** No more. @linux arch/x86/include/asm/smap.h:clac */
  clac(): void {
    this.#user.setAc(false);
  }

  /** The physical address of the page tables in use. @linux arch/x86/include/asm/special_insns.h:__read_cr3 */
  readCr3(): PhysAddr {
    return this.#kernel.smp.current.cr3;
  }

  // ---- devices

  /** A device of 24, 32 or 64 address lines, by which the module's driver maps memory and transfers. */
  device(name: string, maskBits: DmaMaskBits = 64): DmaDevice {
    return this.#kernel.dma.addDevice(name, maskBits);
  }

  /** @returns a pool of blocks that the device reaches; −EINVAL, −ENOMEM @linux mm/dmapool.c:dma_pool_create */
  dmaPoolCreate(device: DmaDevice, name: string, size: number, align = 1, boundary = 0): DmaPool | number {
    return this.#own(() => DmaPool.create(device, name, size, align, boundary));
  }

  // ---- per-CPU memory

  /** @returns a per-CPU pointer; 0 without memory, or for a size or alignment it cannot have @linux include/linux/percpu.h:__alloc_percpu_gfp */
  allocPercpu(size: number, align = 8, gfp = GFP_KERNEL): PercpuPtr {
    const { percpu, kmemleak, config } = this.#kernel;
    const pointer = this.#own(() => percpu.alloc(size, align, gfp));
    // Before 6.13 per-CPU memory was scanned, and never a leak.
    kmemleak?.add(pointer, size, config.kernel === '6.18' ? 1 : 0, true);
    return pointer;
  }

  /** @linux mm/percpu.c:free_percpu */
  freePercpu(pointer: PercpuPtr): void {
    this.#kernel.kmemleak?.remove(pointer, true);
    this.#kernel.percpu.free(pointer);
  }

  /** The address of a CPU's copy. @linux include/linux/percpu-defs.h:per_cpu_ptr */
  perCpuPtr(pointer: PercpuPtr, cpu: number): VirtAddr {
    return this.#kernel.percpu.ptr(pointer, cpu);
  }

  /** The address of the running CPU's copy. @linux include/linux/percpu-defs.h:this_cpu_ptr */
  thisCpuPtr(pointer: PercpuPtr): VirtAddr {
    return this.#kernel.percpu.thisPtr(pointer);
  }

  // ---- reserves

  /**
   * Makes a pool that keeps `minNr` elements: of a cache, of `kmalloc`, or blocks of pages.
   *
   * @returns the pool, or −ENOMEM
   * @linux mm/mempool.c:mempool_create
   */
  mempoolCreate(minNr: number, of: { readonly cache: KmemCache } | { readonly bytes: number } | { readonly order: number }): Mempool | number {
    const { slab, pages, mempools } = this.#kernel;
    const source = 'cache' in of ? mempoolSlab(of.cache) : 'bytes' in of ? mempoolKmalloc(slab, of.bytes) : mempoolPages(pages, of.order);
    const pool = this.#own(() => Mempool.create({ slab }, minNr, source));
    if (typeof pool !== 'number') mempools.add(pool);
    return pool;
  }

  /** @linux mm/mempool.c:mempool_destroy */
  mempoolDestroy(pool: Mempool): void {
    this.#kernel.mempools.delete(pool);
    pool.destroy();
  }

  // ---- itself

  /**
   * Zeroed bytes of the module's own data section: what is stored there is found by who looks for pointers. It stays until
   * the module is unloaded.
   *
   * @returns the address; 0 without memory
   * @linux kernel/module/main.c:move_module
   */
  data(bytes: number): VirtAddr {
    const { vmalloc } = this.#kernel.vm;
    const address = this.#own(() => vmalloc.vmallocNodeRange(bytes, { gfp: GFP_KERNEL | __GFP_ZERO, caller: 'load_module' }));
    if (address !== 0) this.#module.data.push({ address, bytes });
    return address;
  }

  /**
   * Calls a function of the module by its name: reports of what is allocated inside show it. Its frame is taken from the stack
   * the caller runs on, and written whole.
   *
   * @param frameBytes at least 16
   * @throws KernelOops where the stack runs over into a guard page; where it has none, what lies below is overwritten
   */
  call<T>(name: string, body: () => T, frameBytes = DEFAULT_FRAME_BYTES): T {
    if (!(frameBytes >= 16)) throw new RangeError(`call: a frame has 16 bytes or more, not ${frameBytes}`);
    const { callTrace, stackUse } = this.#kernel;
    callTrace.enter(name, this.name);
    try {
      stackUse?.push(frameBytes);
      return body();
    } finally {
      stackUse?.pop(frameBytes);
      callTrace.leave();
    }
  }

  /**
   * Runs `body` as a handler of an interrupt, on the interrupt stack of the CPU, where nothing may sleep.
   *
   * @linux arch/x86/include/asm/irq_stack.h:call_on_irqstack
   */
  interrupt<T>(body: () => T): T {
    const kernel = this.#kernel;
    const { stackUse: outer } = kernel;
    const stack = kernel.stacks.irqStacks[kernel.smp.processorId]!;
    // One that comes during another stays on its stack.
    if (outer?.stack !== stack) kernel.stackUse = new StackUse(kernel, stack, 'IRQ');
    kernel.pages.atomicDepth += 1;
    try {
      return body();
    } finally {
      kernel.pages.atomicDepth -= 1;
      kernel.stackUse = outer;
    }
  }

  /** The stack that the module runs on: its bounds, where it stands, and the lowest it stood. */
  get stack(): { readonly begin: VirtAddr; readonly end: VirtAddr; readonly pointer: VirtAddr; readonly lowest: VirtAddr } {
    const { stack, pointer, lowest } = this.#kernel.stackUse!;
    return { begin: stack.begin, end: stack.end, pointer, lowest };
  }

  /** Whether the last word of that stack was overwritten. @linux include/linux/sched/task_stack.h:task_stack_end_corrupted */
  stackEndCorrupted(): boolean {
    return this.#kernel.stacks.endCorrupted(this.#kernel.stackUse!.stack);
  }

  /** The stack of a task: its lowest address, and one past its highest. `undefined` where there is no such task. */
  stackOf(pid: number): { readonly begin: VirtAddr; readonly end: VirtAddr } | undefined {
    const stack = this.#kernel.tasks.get(pid)?.objects.stack;
    return stack === undefined || stack === null ? undefined : { begin: stack.begin, end: stack.end };
  }

  /** Logs a line. @linux kernel/printk/printk.c:_printk */
  printk(text: string): void {
    this.#kernel.log.print(text);
  }

  /** Runs `body` on another CPU. @throws RangeError where there is none @linux kernel/smp.c:smp_call_function_single */
  onCpu<T>(cpu: number, body: () => T): T {
    const { smp } = this.#kernel;
    if (!(cpu in smp.cpus)) throw new RangeError(`onCpu: takes a CPU from 0 to ${smp.cpus.length - 1}, not ${cpu}`);
    const before = smp.processorId;
    smp.processorId = cpu;
    try {
      return body();
    } finally {
      smp.processorId = before;
    }
  }

  /** The text of a file. @throws SyscallError @linux fs/read_write.c:kernel_read */
  readFile(path: string): string {
    return this.#own(() => kernelRead(this.#kernel, path));
  }

  /** @throws SyscallError @linux fs/read_write.c:kernel_write */
  writeFile(path: string, text: string): void {
    this.#own(() => {
      kernelWrite(this.#kernel, path, text);
    });
  }

  /** What memory did, in figures. */
  stats(): MachineStats {
    return machineStats(this.#kernel);
  }

  /** Sleeps: virtual time passes. @linux kernel/time/timer.c:msleep */
  msleep(milliseconds: number): void {
    const kernel = this.#kernel;
    kernel.clock.advance(milliseconds * 1e6);
    if (kernel.clock.now < kernel.daemons.dueNs) return;
    this.#own(() => {
      runDaemons(kernel);
    });
  }

  // ---- what kmemleak is told; false where it is off, or knows no such block

  /** The block is no leak, whoever points to it, and is scanned. @linux mm/kmemleak.c:kmemleak_not_leak */
  kmemleakNotLeak(address: VirtAddr): boolean {
    return this.#kernel.kmemleak?.paint(address, 0) ?? false;
  }

  /** The block is no leak, and holds no pointers. @linux mm/kmemleak.c:kmemleak_ignore */
  kmemleakIgnore(address: VirtAddr): boolean {
    return this.#kernel.kmemleak?.paint(address, -1) ?? false;
  }

  /** The block holds no pointers, but must be pointed to. @linux mm/kmemleak.c:kmemleak_no_scan */
  kmemleakNoScan(address: VirtAddr): boolean {
    return this.#kernel.kmemleak?.noScan(address) ?? false;
  }

  /** An area of vmalloc, which the kernel's own object for it points to as well. @linux mm/kmemleak.c:kmemleak_vmalloc */
  #area(size: number, allocate: () => VirtAddr): VirtAddr {
    const address = this.#own(allocate);
    this.#kernel.kmemleak?.add(address, Math.max(size, 1), 2);
    return address;
  }

  /** Runs what allocates objects of the kernel's own, which are no leaks of the module's. */
  #own<T>(body: () => T): T {
    return this.#kernel.asKernel(body);
  }

  #caller(otherwise: string): string {
    return this.#kernel.callTrace.innermost ?? otherwise;
  }
}
