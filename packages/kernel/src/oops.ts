/**
 * What the kernel does when its own code makes an access that hardware refuses: it reports, ends what ran, and goes on.
 *
 * @linux arch/x86/mm/fault.c:page_fault_oops, arch/x86/kernel/dumpstack.c:oops_end
 */
import { CPU_SMEP, PAGE_SIZE, PF_INSTR, PF_PROT, PF_RSVD, PF_USER, PF_WRITE, PTE_NX_HI, PTE_USER, VECTOR_GENERAL_PROTECTION } from '@pagelab/hw';
import type { KernelFault, KernelWalk } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';
import { hexAddress } from './proc/proc-file.ts';

/** `page-fault`; `general-protection`, at an address that is not canonical; `stack-guard`, where the kernel's stack ran over. */
export type OopsKind = 'page-fault' | 'general-protection' | 'stack-guard';

/** Kernel code made an access that it may not make. What ran has ended; the machine goes on. */
export class KernelOops extends Error {
  override readonly name = 'KernelOops';
  readonly kind: OopsKind;
  readonly address: number;
  /** As the processor pushed it: `PF_…` bits. */
  readonly errorCode: number;
  /** The area of vmalloc whose guard page it is; `''` for none. */
  readonly area: string;
  /** The functions that were being called, the innermost first. */
  readonly callTrace: readonly string[];
  /** What the log says of it. */
  readonly text: string;

  constructor(fields: Omit<KernelOops, 'name' | 'message' | 'stack' | 'cause'>) {
    super(fields.text.split('\n')[0]);
    this.kind = fields.kind;
    this.address = fields.address;
    this.errorCode = fields.errorCode;
    this.area = fields.area;
    this.callTrace = fields.callTrace;
    this.text = fields.text;
  }
}

/**
 * Reports that page tables are damaged: a program's access has met reserved bits that are set in an entry. Its task is to be
 * killed.
 *
 * @linux arch/x86/mm/fault.c:pgtable_bad
 */
export function badPageTable(kernel: Kernel, comm: string, address: number, errorCode: number): void {
  kernel.oopses += 1;
  const at = address.toString(16);
  for (const line of [`${comm}: Corrupted page table at address ${at}`, tables(kernel, address), `Bad pagetable: ${hex4(errorCode)} [#${kernel.oopses}]`]) {
    kernel.log.print(line);
  }
}

/** The bounds of the stack that ran over. */
export interface OverrunStack {
  /** `task`, `IRQ`. @linux arch/x86/kernel/dumpstack_64.c:stack_type_name */
  readonly name: string;
  readonly begin: number;
  readonly end: number;
}

/** Makes the report of a fault, logs it, and counts it. @param overrun the stack, where the access was a push onto it */
export function oops(kernel: Kernel, fault: KernelFault, overrun: OverrunStack | null): KernelOops {
  const { address, errorCode, vector } = fault;
  const general = vector === VECTOR_GENERAL_PROTECTION;
  const kind: OopsKind = overrun !== null ? 'stack-guard' : general ? 'general-protection' : 'page-fault';
  const callTrace = kernel.callTrace.save();
  const lines: string[] = [];
  if (overrun !== null) {
    const { name, begin, end } = overrun;
    lines.push(`BUG: ${name} stack guard page was hit at ${hex(kernel, address)} (stack is ${hex(kernel, begin)}..${hex(kernel, end)})`);
  } else if (!general) {
    lines.push(...fetched(kernel, fault), headline(kernel, address), ...explain(errorCode), tables(kernel, address));
  }
  kernel.oopses += 1;
  const what = overrun !== null ? 'stack guard page: 0000' : general ? 'general protection fault: 0000' : `Oops: ${hex4(errorCode)}`;
  lines.push(`${what} [#${kernel.oopses}]`);
  if (callTrace.length > 0) lines.push('Call Trace:', ' <TASK>', ...callTrace.map((name) => ` ${name}`), ' </TASK>');
  for (const line of lines) kernel.log.print(line);
  const area = kernel.vm.vmalloc.findVmArea(address);
  return new KernelOops({ kind, address, errorCode, area: area?.caller ?? '', callTrace, text: lines.join('\n') });
}

/** @linux arch/x86/mm/fault.c:show_fault_oops */
function headline(kernel: Kernel, address: number): string {
  if (address >= 0 && address < 4096) return `BUG: kernel NULL pointer dereference, address: ${hex(kernel, address)}`;
  return `BUG: unable to handle page fault for address: ${hex(kernel, address)}`;
}

function explain(errorCode: number): string[] {
  const by = (errorCode & PF_USER) !== 0 ? 'user' : 'supervisor';
  const access = (errorCode & PF_INSTR) !== 0 ? 'instruction fetch' : (errorCode & PF_WRITE) !== 0 ? 'write access' : 'read access';
  const why =
    (errorCode & PF_RSVD) !== 0 ? 'reserved bit violation' : (errorCode & PF_PROT) !== 0 ? 'permissions violation' : 'not-present page';
  return [`#PF: ${by} ${access} in kernel mode`, `#PF: error_code(0x${hex4(errorCode)}) - ${why}`];
}

/** What the page tables in use say of an address. */
function walk({ vm, smp }: Kernel, address: number): KernelWalk {
  return vm.vmalloc.initMm.walk(address, Math.floor(smp.current.cr3 / PAGE_SIZE));
}

/** Of a fetch: what kept it from running. @linux arch/x86/mm/fault.c:show_fault_oops */
function fetched(kernel: Kernel, { address, errorCode }: KernelFault): string[] {
  if ((errorCode & PF_INSTR) === 0) return [];
  const { entries, pfn } = walk(kernel, address);
  if (pfn < 0) return [];
  if ((entries.at(-1)!.hi & PTE_NX_HI) !== 0) return ['kernel tried to execute NX-protected page - exploit attempt? (uid: 0)'];
  const isUser = (entries[0]!.lo & PTE_USER) !== 0;
  return isUser && (kernel.smp.current.controls & CPU_SMEP) !== 0 ? ['unable to execute userspace code (SMEP?) (uid: 0)'] : [];
}

/** The entries met on the way down. @linux arch/x86/mm/fault.c:dump_pagetable */
function tables(kernel: Kernel, address: number): string {
  const { config } = kernel;
  const { entries } = walk(kernel, address);
  if (config.arch !== 'x86-64') {
    const width = config.arch === 'x86-pae' ? 16 : 8;
    const names = config.arch === 'x86-pae' ? ['*pdpt', '*pde', '*pte'] : ['*pde', '*pte'];
    return entries.map((entry, i) => `${names[i]} = ${valueOf(entry).padStart(width, '0')} `).join('');
  }
  // Without a fifth level the fourth is the top one's.
  return entries.map((entry) => (entry.level === 'pgd' ? `PGD ${valueOf(entry)} P4D ${valueOf(entry)} ` : `${entry.level.toUpperCase()} ${valueOf(entry)} `)).join('');
}

function valueOf({ lo, hi }: { readonly lo: number; readonly hi: number }): string {
  return ((BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0)).toString(16);
}

/** An address as wide as the kernel's. */
function hex({ config }: Kernel, address: number): string {
  return config.arch === 'x86-64' ? hexAddress(address).padStart(16, '0') : (address >>> 0).toString(16).padStart(8, '0');
}

function hex4(value: number): string {
  return value.toString(16).padStart(4, '0');
}
