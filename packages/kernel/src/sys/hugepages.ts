/**
 * The pool of huge pages: `/sys/kernel/mm/hugepages`, and what each node has of it.
 *
 * @linux mm/hugetlb_sysfs.c
 */
import { setMaxHugePages } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { sysctlFile } from '../proc/sysctl.ts';
import { kstrtoul, unsignedText } from './kstrto.ts';

/** The files, by path. */
export function hugepageFiles(kernel: Kernel): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  const { vm } = kernel;
  const { hugetlb } = vm;
  const name = `hugepages-${vm.tables.pmdSize / 1024}kB/`;
  const pool = `/sys/kernel/mm/hugepages/${name}`;
  files.set(`${pool}nr_hugepages`, count(() => hugetlb.nrHugePages, (value) => {
    setMaxHugePages(vm, value);
  }));
  if (kernel.config.arch === 'x86-64') {
    const sysctl = sysctlFile(kernel, 'vm/nr_hugepages_mempolicy')!;
    files.set(`${pool}nr_hugepages_mempolicy`, {
      mode: 0o644,
      read: () => `${hugetlb.nrHugePages}\n`,
      write: (text, task) => {
        const value = kstrtoul(text);
        if (value < 0) return value;
        const error = sysctl.write!(String(value), task);
        return error < 0 ? error : text.length;
      },
    });
  }
  files.set(`${pool}nr_overcommit_hugepages`, count(() => hugetlb.nrOvercommit, (value) => {
    hugetlb.nrOvercommit = value;
  }));
  files.set(`${pool}free_hugepages`, count(() => hugetlb.freeHugePages));
  files.set(`${pool}resv_hugepages`, count(() => hugetlb.resvHugePages));
  files.set(`${pool}surplus_hugepages`, count(() => hugetlb.surplusHugePages));
  if (kernel.config.arch !== 'x86-64') return files;
  hugetlb.nodes.forEach((node, nid) => {
    const own = `/sys/devices/system/node/node${nid}/hugepages/${name}`;
    files.set(`${own}nr_hugepages`, count(() => node.nr, (value) => {
      setMaxHugePages(vm, value, nid);
    }));
    files.set(`${own}free_hugepages`, count(() => node.free.length));
    files.set(`${own}surplus_hugepages`, count(() => node.surplus));
  });
  return files;
}

/** A number that is read, and written where `set` says how. */
function count(get: () => number, set?: (value: number) => void): ProcFile {
  const read = (): string => `${unsignedText(get())}\n`;
  if (set === undefined) return { mode: 0o444, read };
  return {
    mode: 0o644,
    read,
    write: (text) => {
      const value = kstrtoul(text);
      if (value < 0) return value;
      set(value);
      return text.length;
    },
  };
}
