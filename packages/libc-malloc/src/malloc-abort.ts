/**
 * What an allocator does when it finds its heap smashed or a pointer that it never gave out. C prints the message and
 * raises SIGABRT; here the message is the error's.
 */
export class MallocAbort extends Error {
  override readonly name = 'MallocAbort';
}

/**
 * Gives up with the allocator's own message.
 *
 * @linux glibc malloc/malloc.c:malloc_printerr
 */
export function mallocAbort(message: string): never {
  throw new MallocAbort(message);
}
