/**
 * What a page fault is asked and what it answers.
 *
 * @linux include/linux/mm_types.h
 */

/** The access can be tried again. */
export const FAULT_OK = 0;
/** SIGSEGV, SEGV_MAPERR: nothing is mapped there, or nothing that may be touched. */
export const FAULT_MAPERR = 1;
/** SIGSEGV, SEGV_ACCERR: the mapping does not allow it. */
export const FAULT_ACCERR = 2;
/** SIGBUS, BUS_ADRERR: beyond the end of the object behind the mapping, or an I/O error. */
export const FAULT_SIGBUS = 3;
/** There is no memory, and nothing could be killed for it. */
export const FAULT_OOM = 4;
/** SIGBUS, BUS_MCEERR_AR: the page is broken, or was said to be. */
export const FAULT_HWPOISON = 5;

/** What an access wants, for {@link handleMmFault}. @linux include/linux/mm_types.h:fault_flag */
export const FAULT_FLAG_WRITE = 0x1;
export const FAULT_FLAG_USER = 0x40;
export const FAULT_FLAG_REMOTE = 0x80;
export const FAULT_FLAG_INSTRUCTION = 0x100;
/** The page gets pinned: a shared anonymous one becomes the address space's own first, and stays write-protected. */
export const FAULT_FLAG_UNSHARE = 0x400;
/** A fault that has to wait starts over: what it waited for may have brought in more. @linux include/linux/mm_types.h:FAULT_FLAG_ALLOW_RETRY */
export const FAULT_FLAG_ALLOW_RETRY = 0x4;
/** The caller starts over by itself after a wait: its second fault, which does not wait, is the one that counts. */
export const FAULT_FLAG_RESTARTED = 0x1000;

/** What {@link handleMmFault} answers, combined. @linux include/linux/mm_types.h:vm_fault_reason */
export const VM_FAULT_OOM = 0x1;
export const VM_FAULT_SIGBUS = 0x2;
export const VM_FAULT_MAJOR = 0x4;
export const VM_FAULT_SIGSEGV = 0x40;
/** The entry is in place. */
export const VM_FAULT_NOPAGE = 0x100;
/** A huge page cannot serve it; small ones may. */
export const VM_FAULT_FALLBACK = 0x800;
export const VM_FAULT_HWPOISON = 0x10;
/** Somebody was waited for: what is mapped may have changed, and has to be looked up again. */
export const VM_FAULT_RETRY = 0x400;
/** Any of these, and the fault was not served. */
export const VM_FAULT_ERROR = VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV | VM_FAULT_HWPOISON;
