/**
 * Recomputes what KSM keeps count of.
 */
import { KernelBug } from '@pagelab/lib';
import type { Vm } from './vm.ts';

/** @throws KernelBug for the first count or link that is wrong */
export function validateKsm(vm: Vm): void {
  const { ksm } = vm;
  const check = (condition: boolean, message: string): void => {
    if (!condition) throw new KernelBug(`ksm: ${message}`);
  };
  let shared = 0;
  let sharing = 0;
  let unshared = 0;
  const merging = new Map<number, number>();
  for (const tree of ksm.stable) {
    tree.validate();
    tree.forEach((pages) => {
      check(pages.length > 0, 'a place without pages');
      for (const page of pages) {
        check(ksm.pages.get(page.id) === page && page.node?.value === pages, `page ${page.pfn}: in the tree and not known, or the reverse`);
        if (page.items.size === 0) continue;
        shared++;
        sharing += page.items.size - 1;
        for (const item of page.items) {
          check(item.shared === page && item.unstable === null, `page ${page.pfn}: one who has it does not know`);
          merging.set(item.mm.id, (merging.get(item.mm.id) ?? 0) + 1);
        }
      }
    });
  }
  for (const tree of ksm.unstable) {
    tree.validate();
    unshared += tree.size;
  }
  check(ksm.pagesShared === shared, `${ksm.pagesShared} pages shared, found ${shared}`);
  check(ksm.pagesSharing === sharing, `${ksm.pagesSharing} more sharing them, found ${sharing}`);
  check(ksm.pagesUnshared === unshared, `${ksm.pagesUnshared} pages seen once, found ${unshared}`);
  let zeros = 0;
  vm.mms.forEach((mm) => {
    zeros += mm.ksmZeroPages;
    check(mm.ksmMerging === (merging.get(mm.id) ?? 0), `mm ${mm.id}: ${mm.ksmMerging} pages shared, found ${merging.get(mm.id) ?? 0}`);
    check(mm.mergeable === ksm.slots.some((slot) => slot.mm === mm), `mm ${mm.id}: known and not looked at, or the reverse`);
  });
  check(ksm.zeroPages === zeros, `${ksm.zeroPages} entries of the zero page, ${zeros} found`);
  for (const { items } of ksm.slots) for (let i = 1; i < items.length; i++) check(items[i - 1].address < items[i].address, 'items out of order');
}
