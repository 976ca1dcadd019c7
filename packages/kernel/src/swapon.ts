/**
 * Swap areas by their paths: the machine's swap disks, and files.
 *
 * @linux mm/swapfile.c:swapon, swapoff, swap_show
 */
import { CAP_SYS_ADMIN, Errno, O_RDWR, PAGE_SIZE } from '@pagelab/abi';
import { BlockDevice, DISK_MODELS, DISK_SSD, DmaEngine, FileBacking, MemoryBacking } from '@pagelab/hw';
import type { DiskBacking, HostFile } from '@pagelab/hw';
import {
  DiskSwapDevice,
  FileSwapDevice,
  SWAP_FLAG_DISCARD,
  SWAP_FLAG_DISCARD_ONCE,
  SWAP_FLAG_DISCARD_PAGES,
  SWAP_FLAG_PREFER,
  SWAP_FLAG_PRIO_MASK,
  enableSwapArea,
  inodePut,
  readSwapHeader,
  swapoffArea,
  writeSwapHeader,
} from '@pagelab/vm';
import type { BlockFs, Inode, SwapArea, SwapDevice, SwapDeviceFactory } from '@pagelab/vm';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { ConfigError } from './config.ts';
import { RegularFile } from './fs/regular-file.ts';
import type { Kernel } from './kernel.ts';
import { openPath } from './open.ts';
import { pagesToKb } from './proc/proc-file.ts';
import type { Task } from './task.ts';

/** Columns of a path in `/proc/swaps`. */
const PATH_COLUMNS = 40;

/** Opens a file of the host for reading and writing, made where it is not there. */
export type OpenHostFile = (path: string) => HostFile;

function fileBacking(path: string, bytes: number, open: OpenHostFile | undefined): DiskBacking {
  if (open === undefined) throw new ConfigError('swap: a file of the host needs a host that opens files, as the command does');
  try {
    return new FileBacking(open(path), bytes);
  } catch (error) {
    throw new ConfigError(`swap: ${path}: ${(error as Error).message}`);
  }
}

/** Makes the disks that the configuration asks for, with a header each, and takes them into use. */
export function bootSwap(kernel: Kernel, openHostFile?: OpenHostFile): void {
  const { config, ram, clock, vm } = kernel;
  config.swap.forEach(({ size, priority, model, file }, i) => {
    const nrPages = Math.floor(size / PAGE_SIZE);
    const name = `vd${String.fromCharCode(98 + i)}`;
    const backing = file === undefined ? new MemoryBacking(nrPages * PAGE_SIZE) : fileBacking(file, nrPages * PAGE_SIZE, openHostFile);
    const header = new Uint8Array(PAGE_SIZE);
    writeSwapHeader(header, nrPages);
    if (!backing.write(0, header)) throw new ConfigError(`swap: the host does not write to ${file}`);
    const disk = new BlockDevice(name, backing, new DmaEngine(ram), clock, {
      seed: config.seed,
      model: DISK_MODELS.find((each) => each.name === model) ?? DISK_SSD,
    });
    kernel.swapDisks.set(`/dev/${name}`, disk);
    const flags = priority === undefined ? 0 : SWAP_FLAG_PREFER | (priority & SWAP_FLAG_PRIO_MASK);
    const area = enableSwapArea(
      vm,
      new DiskSwapDevice(disk),
      { path: `/dev/${name}`, kind: 'partition', inode: null, max: nrPages, badPages: [] },
      flags,
    );
    if (typeof area === 'number') throw new ConfigError(`swap: there can be 23 areas at most, not ${config.swap.length}`);
  });
}

/** Takes the devices that the host handed in into use, each with a header. */
export function bootSwapDevices(kernel: Kernel, factories: readonly SwapDeviceFactory[]): void {
  const { pages, ram, vm } = kernel;
  for (const factory of factories) {
    const { name, priority } = factory;
    const path = `/dev/${name}`;
    const device = factory.create(ram);
    const { nrPages } = device;
    if (!Number.isSafeInteger(nrPages) || nrPages < 2) throw new ConfigError(`swapDevices: ${name} has ${nrPages} pages; it takes 2 at least`);
    if (kernel.swapDisks.has(path) || kernel.swapDevices.has(path)) throw new ConfigError(`swapDevices: there is a ${path} already`);
    const pfn = pages.allocPage(GFP_KERNEL);
    if (pfn < 0) throw new ConfigError('swapDevices: the machine has no memory for a header');
    const host = ram.frameWord(pfn) * 4;
    writeSwapHeader(ram.u8.subarray(host, host + PAGE_SIZE), nrPages);
    const error = device.write(0, pfn);
    pages.freePage(pfn);
    if (error !== 0) throw new ConfigError(`swapDevices: ${name} does not take its header`);
    kernel.swapDevices.set(path, device);
    const flags = priority === undefined ? 0 : SWAP_FLAG_PREFER | (priority & SWAP_FLAG_PRIO_MASK);
    const area = enableSwapArea(vm, device, { path, kind: 'partition', inode: null, max: nrPages, badPages: [] }, flags);
    if (typeof area === 'number') throw new ConfigError('swapDevices: there can be 23 areas at most');
  }
}

/**
 * Takes a disk or a file into use for swapping.
 *
 * @returns 0; −EPERM; −EINVAL for unknown flags, or what is no swap area; −ENOENT and what else opening gives; −EBUSY
 * @linux mm/swapfile.c:swapon
 */
export function swapon(kernel: Kernel, task: Task, path: string, flags: number): number {
  const disk = kernel.swapDisks.get(path);
  if (disk !== undefined) return enable(kernel, new DiskSwapDevice(disk), path, 'partition', null, flags);
  const handedIn = kernel.swapDevices.get(path);
  if (handedIn !== undefined) return enable(kernel, handedIn, path, 'partition', null, flags);
  const inode = openInode(kernel, task, path);
  if (typeof inode === 'number') return inode;
  if (inode.isSwapfile) {
    inodePut(inode);
    return -Errno.EBUSY;
  }
  const error = isWhole(inode) ? enable(kernel, fileDevice(kernel, inode), path, 'file', inode, flags) : -Errno.EINVAL;
  if (error !== 0) inodePut(inode);
  return error;
}

function enable(kernel: Kernel, device: SwapDevice, path: string, kind: 'partition' | 'file', inode: Inode | null, flags: number): number {
  const { vm } = kernel;
  if (vm.swap.areas.some((area) => area !== null && area.path === path)) return -Errno.EBUSY;
  const header = readHeader(kernel, device);
  if (typeof header === 'number') return header;
  const { maxPages, badPages } = header;
  const area = enableSwapArea(vm, device, { path, kind, inode, max: maxPages, badPages }, flags);
  if (typeof area === 'number') return area;
  if (inode !== null) inode.isSwapfile = true;
  kernel.log.print(`Adding ${pagesToKb(area.pages)}k swap on ${path}.  Priority:${area.priority} extents:1 across:${pagesToKb(area.pages)}k ${kindOf(device, flags)}`);
  return 0;
}

/** Of a device: no head has to move (SS); it is told of pages that are free (D), of all at once (s), cluster by cluster (c). */
function kindOf(device: SwapDevice, flags: number): string {
  let text = device.solidState ? 'SS' : '';
  if (device.discard === undefined || (flags & SWAP_FLAG_DISCARD) === 0) return text;
  text += 'D';
  const once = (flags & SWAP_FLAG_DISCARD_ONCE) !== 0;
  if (once || (flags & SWAP_FLAG_DISCARD_PAGES) === 0) text += 's';
  return once ? text : `${text}c`;
}

/** Reads an area's first page through a frame of its own. */
function readHeader(kernel: Kernel, device: SwapDevice): { maxPages: number; badPages: number[] } | number {
  if (device.nrPages < 2) return -Errno.EINVAL;
  const { pages, ram } = kernel;
  const pfn = pages.allocPage(GFP_KERNEL);
  if (pfn < 0) return -Errno.ENOMEM;
  const host = ram.frameWord(pfn) * 4;
  const error = device.read(0, pfn);
  const header = error === 0 ? readSwapHeader(ram.u8.subarray(host, host + PAGE_SIZE), device.nrPages) : error;
  pages.freePage(pfn);
  return header;
}

/** The inode of a regular file on the disk, with a reference. */
function openInode(kernel: Kernel, task: Task, path: string): Inode | number {
  const file = openPath(kernel, task, path, O_RDWR, 0);
  if (typeof file === 'number') return file;
  const inode = file instanceof RegularFile ? file.vmFile.inode : null;
  if (inode !== null) inode.refcount++;
  file.put();
  return inode ?? -Errno.EINVAL;
}

/** Whether every page of a file has its place on a device: holes cannot be swapped to. */
function isWhole({ blockMap, size }: Inode): boolean {
  return blockMap !== null && blockMap.size >= Math.floor(size / PAGE_SIZE);
}

function fileDevice(kernel: Kernel, inode: Inode): SwapDevice {
  // What was written to the file has to be where swap will look for it.
  inode.mapping.ops.sync(inode, 0, Infinity);
  const { ops } = inode.mapping;
  return new FileSwapDevice(kernel.ram, (ops as BlockFs).store, inode);
}

/**
 * Stops using an area; every page comes back.
 *
 * @returns 0; −EPERM; −EINVAL where the path is no area in use; −ENOMEM, and then it may be killed; −EIO
 * @linux mm/swapfile.c:swapoff
 */
export function swapoff(kernel: Kernel, task: Task, path: string): number {
  if (!task.capable(CAP_SYS_ADMIN)) return -Errno.EPERM;
  const { vm } = kernel;
  let area: SwapArea | null | undefined;
  if (kernel.swapDisks.has(path) || kernel.swapDevices.has(path)) {
    area = vm.swap.areas.find((other) => other !== null && other.path === path);
  } else {
    const inode = openInode(kernel, task, path);
    if (typeof inode === 'number') return inode;
    area = vm.swap.areas.find((other) => other !== null && other.inode === inode);
    inodePut(inode);
  }
  if (area === null || area === undefined) return -Errno.EINVAL;
  // Who takes away what others have in swap goes first if there is no room for it.
  task.process.isOomOrigin = true;
  const error = swapoffArea(vm, area, task.mm);
  task.process.isOomOrigin = false;
  if (error !== 0) return error;
  if (area.inode !== null) {
    area.inode.isSwapfile = false;
    inodePut(area.inode);
  }
  return 0;
}

/** `/proc/swaps`. @linux mm/swapfile.c:swap_show */
export function procSwaps({ vm }: Kernel): string {
  let text = 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n';
  const column = (pages: number): string => `${pagesToKb(pages)}\t${pagesToKb(pages) < 10_000_000 ? '\t' : ''}`;
  for (const area of vm.swap.areas) {
    if (area === null) continue;
    const gap = ' '.repeat(Math.max(1, PATH_COLUMNS - area.path.length));
    text += `${area.path}${gap}${area.kind === 'file' ? 'file\t' : 'partition'}\t${column(area.pages)}${column(area.inusePages)}${area.priority}\n`;
  }
  return text;
}
