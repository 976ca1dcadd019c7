/**
 * What follows from a machine's shape alone: zones, watermarks, slab layouts. For whoever compares a machine with what a
 * real one reported of itself, and so has to put in some of what that one had.
 */
import { ARM64_ZONES, PageAllocSysctl } from '@pagelab/mm-core';
import type { ManagedPages, Zone } from '@pagelab/mm-core';
import { bootKernel } from './boot.ts';
import type { MachineConfig } from './config.ts';
import { createMachine } from './machine.ts';
import type { Machine } from './machine.ts';
import { zoneLayout } from './memory-shape.ts';
export { availableFrom } from './proc/meminfo.ts';

export {
  SLAB_CONSISTENCY_CHECKS,
  SLAB_HWCACHE_ALIGN,
  SLAB_KMALLOC,
  SLAB_POISON,
  SLAB_RED_ZONE,
  SLAB_STORE_USER,
  SLAB_TYPESAFE_BY_RCU,
  calculateSizes,
} from '@pagelab/slab';
export type { ObjectShape, SlabGeometry, SlabMachine } from '@pagelab/slab';

export { firmwareMemoryMap } from '@pagelab/hw';
export type { MemoryRange } from '@pagelab/hw';

export type { ManagedPages } from '@pagelab/mm-core';

/** A booted machine whose figures can be made to follow from other numbers of managed pages than its own. */
export interface MachineShape {
  readonly machine: Machine;
  /** Nodes in the order an allocation tries them, by the node it is made on. */
  readonly fallbackOrders: readonly (readonly number[])[];
  /**
   * Takes these numbers of pages as managed from now on. Nothing is moved: the machine's invariants do not hold any longer,
   * and what is computed from managed pages changes with the next write to `/proc/sys/vm`.
   */
  setManaged(rows: readonly ManagedPages[]): void;
  /** Works watermarks, reserves and `min_free_kbytes` out anew, as booting does. */
  startOver(): void;
  /** Sets the watermarks that `min_free_kbytes` of `kib` gives, without `min_free_kbytes` having been written. */
  setWatermarks(kib: number): void;
}

/**
 * Boots a machine for its shape.
 *
 * @param zones whose zones memory is divided into: the configuration's architecture, or another of which there is only this
 * @throws ConfigError where the configuration cannot be used
 */
export function bootShape(config: MachineConfig, zones: 'own' | 'arm64' = 'own'): MachineShape {
  const layout = zones === 'arm64' ? ARM64_ZONES : zoneLayout(config);
  const kernel = bootKernel(config, {}, layout);
  const { pages } = kernel;
  const find = ({ node, zone }: ManagedPages): Zone | undefined => pages.nodes[node]?.zones.find(({ name }) => name === zone);
  return {
    machine: createMachine(kernel),
    fallbackOrders: pages.nodes.map(({ fallbackOrder }) => fallbackOrder),
    setManaged(rows) {
      for (const row of rows) {
        const zone = find(row);
        if (zone !== undefined) zone.managed = row.pages;
      }
    },
    startOver() {
      for (const zone of pages.zones) {
        zone.watermark.fill(0);
        zone.setWatermarkBoost(0);
      }
      const { transparentHugepage = 'madvise' } = config.commandLine;
      pages.sysctl.init({}, transparentHugepage !== 'never');
      kernel.transparentHugepage = pages.sysctl.transparentHugepage ? transparentHugepage : 'never';
    },
    setWatermarks(kib) {
      const recent = config.kernel !== '6.1';
      const sysctl = new PageAllocSysctl(pages.nodes, config.cpus, layout.lowmemReserveRatio, {
        movableLikeHighmem: recent,
        pcpAutoTune: recent,
        pageblockOrder: layout.pageblockOrder,
      });
      sysctl.setMinFreeKbytes(kib);
    },
  };
}

