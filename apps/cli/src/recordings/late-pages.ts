/**
 * Pages that boot gave to the page allocator after the watermarks had been worked out: the initial file system, and parts
 * of the kernel's image.
 */
import type { ZoneRow } from './proc-text.ts';
import type { Recording } from './recording.ts';

const PAGE_KIB = 4;
/** Where the image lies when nobody says. */
const IMAGE_PFN = 4096;

interface LatePages {
  readonly pfn: number;
  readonly pages: number;
  readonly initrd: boolean;
}

function latePages(recording: Recording): LatePages[] {
  const log = recording.text('dmesg.txt');
  const pfnOf = (hex: string | undefined): number | undefined => (hex === undefined ? undefined : Math.floor(parseInt(hex, 16) / 4096));
  const image = pfnOf(/^ *([0-9a-f]+)-[0-9a-f]+ : Kernel code/m.exec(recording.text('iomem.txt'))?.[1]) ?? IMAGE_PFN;
  const moved = /Move RAMDISK from .* to \[mem 0x([0-9a-f]+)/.exec(log)?.[1];
  const initrdPfn = pfnOf(moved ?? /RAMDISK: \[mem 0x([0-9a-f]+)/.exec(log)?.[1]) ?? image;
  return [...log.matchAll(/Freeing (.*?) memory: (\d+)K/g)]
    // These come later still, or were never free.
    .filter(([, what]) => !/SMP alternatives|ACPI/.test(what!))
    .map(([, what, kib]) => {
      const initrd = what!.includes('initrd');
      return { pfn: initrd ? initrdPfn : image, pages: Math.floor(Number(kib) / PAGE_KIB), initrd };
    });
}

/**
 * Managed pages of each zone as they were before the late ones came.
 *
 * @param zones as they were when boot was over
 * @param withInitrd whether the initial file system had been given back already
 */
export function managedAtBoot(recording: Recording, zones: readonly ZoneRow[], withInitrd: boolean): { node: number; zone: string; pages: number }[] {
  // A machine that runs has had its watermarks set anew.
  const late = recording.config.kind === 'host' ? [] : latePages(recording).filter(({ initrd }) => !(withInitrd && initrd));
  return zones.map(({ node, zone, values }) => {
    const { managed = 0, start_pfn: start, spanned = 0 } = values;
    const own = late.filter(({ pfn }) => managed > 0 && start !== undefined && pfn >= start && pfn < start + spanned);
    return { node, zone, pages: own.reduce((pages, part) => pages - part.pages, managed) };
  });
}
