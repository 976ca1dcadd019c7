/**
 * A process's descriptors.
 *
 * @linux include/linux/fdtable.h:files_struct
 */
import { Errno } from '@pagelab/abi';
import { IdTable } from '@pagelab/lib';
import type { OpenFile } from './task-context.ts';

/** Descriptors of a process, shared by its threads, copied by `fork`. */
export class FileTable {
  private readonly files = new IdTable<OpenFile>(0);
  /** Descriptors that another program does not get. */
  private readonly closeOnExec = new Set<number>();

  /** Descriptors in use. */
  get size(): number {
    return this.files.size;
  }

  /** The file of a descriptor; its reference stays the table's. */
  get(fd: number): OpenFile | undefined {
    return fd < 0 ? undefined : this.files.get(fd);
  }

  /** Takes a file (with the caller's reference) under the lowest free number. @returns the number, or -EMFILE */
  install(file: OpenFile, limit: number): number {
    const fd = this.files.alloc(file);
    if (limit < 0 || fd < limit) return fd;
    this.files.free(fd);
    return -Errno.EMFILE;
  }

  /** Whether the lowest free number is beyond the limit. */
  isFull(limit: number): boolean {
    if (limit < 0 || this.files.size < limit) return false;
    for (let fd = 0; fd < limit; fd++) if (!this.files.has(fd)) return false;
    return true;
  }

  /** As {@link install}, under the lowest free number from `first` on. @linux fs/file.c:f_dupfd */
  installFrom(file: OpenFile, first: number, limit: number): number {
    let fd = first;
    while (this.files.has(fd)) fd++;
    if (limit >= 0 && fd >= limit) return -Errno.EMFILE;
    this.files.set(fd, file);
    return fd;
  }

  /** Whether the descriptor stays here when another program is run. */
  isCloseOnExec(fd: number): boolean {
    return this.closeOnExec.has(fd);
  }

  setCloseOnExec(fd: number, close: boolean): void {
    if (close) this.closeOnExec.add(fd);
    else this.closeOnExec.delete(fd);
  }

  /** Takes a descriptor away, and its reference. @returns 0, or -EBADF */
  close(fd: number): number {
    if (this.get(fd) === undefined) return -Errno.EBADF;
    this.closeOnExec.delete(fd);
    this.files.free(fd).put();
    return 0;
  }

  /** Closes what another program is not to get. @linux fs/file.c:do_close_on_exec */
  closeForExec(): void {
    for (const fd of [...this.closeOnExec]) this.close(fd);
  }

  /** A table with the same files, a reference each. @linux fs/file.c:dup_fd */
  copy(): FileTable {
    const copy = new FileTable();
    this.files.forEach((file, fd) => {
      copy.files.set(fd, file.get());
    });
    for (const fd of this.closeOnExec) copy.closeOnExec.add(fd);
    return copy;
  }

  /** Gives every file back. @linux fs/file.c:put_files_struct */
  closeAll(): void {
    const numbers: number[] = [];
    this.files.forEach((_, fd) => numbers.push(fd));
    for (const fd of numbers) this.close(fd);
  }
}
