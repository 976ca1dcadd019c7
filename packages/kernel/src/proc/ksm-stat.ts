import type { MmStruct } from '@pagelab/vm';
import { VM_MERGEABLE } from '@pagelab/vm';

const PAGE_SIZE = 4096;
const ITEM_BYTES = 64;

/** `/proc/PID/ksm_stat`: what merging does for a process. @linux fs/proc/base.c:proc_pid_ksm_stat */
export function ksmStat(mm: MmStruct | null): string {
  if (mm === null) return '';
  const items = mm.vm.ksm.slots.find((slot) => slot.mm === mm)?.items.length ?? 0;
  const isMergeable = [...mm.vmas].some(({ flags }) => (flags & VM_MERGEABLE) !== 0);
  const yes = (what: boolean): string => (what ? 'yes' : 'no');
  return (
    `ksm_rmap_items ${items}\nksm_zero_pages ${mm.ksmZeroPages}\nksm_merging_pages ${mm.ksmMerging}\nksm_process_profit ${(mm.ksmMerging + mm.ksmZeroPages) * PAGE_SIZE - items * ITEM_BYTES}\n` +
    `ksm_merge_any: ${yes(mm.mergeAny)}\nksm_mergeable: ${yes(isMergeable)}\n`
  );
}
