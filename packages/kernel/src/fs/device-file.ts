import { Errno, O_ACCMODE, O_RDONLY, O_WRONLY } from '@pagelab/abi';
import type { FileStatus, TaskContext } from '@pagelab/syscalls';
import type { ZeroFile } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { BaseFile } from './base-file.ts';
import type { DeviceNode } from './node.ts';
import { deviceNumber, nodeStatus } from './status.ts';

/** `/dev/null`, `/dev/zero`, `/dev/full`. @linux drivers/char/mem.c */
export class DeviceFile extends BaseFile implements ZeroFile {
  /** @linux drivers/char/mem.c:null_lseek */
  readonly staysAtStart = true;
  readonly zeroFile: ZeroFile | null;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly dev: string;
  readonly ino: number;
  private readonly node: DeviceNode;

  constructor(kernel: Kernel, path: string, flags: number, object: number, node: DeviceNode) {
    super(kernel, path, flags, object);
    const access = flags & O_ACCMODE;
    this.node = node;
    this.zeroFile = node.device === 'zero' ? this : null;
    this.readable = access !== O_WRONLY;
    this.writable = access !== O_RDONLY;
    this.dev = deviceNumber(nodeStatus(node).dev);
    this.ino = node.ino;
  }

  override size(): number {
    return 0;
  }

  override read(_task: TaskContext | null, _position: number, length: number): Uint8Array {
    return new Uint8Array(this.node.device === 'null' ? 0 : length);
  }

  override write(_task: TaskContext | null, _position: number, bytes: Uint8Array): number {
    return this.node.device === 'full' ? -Errno.ENOSPC : bytes.length;
  }

  /** Bytes that go nowhere are not looked at. */
  writeFromUser(_task: TaskContext, _position: number, _addr: number, length: number): number {
    return this.node.device === 'full' ? -Errno.ENOSPC : length;
  }

  override status(): FileStatus {
    return nodeStatus(this.node);
  }
}
