import { Errno } from '@pagelab/abi';
import type { FileStatus, TaskContext } from '@pagelab/syscalls';
import type { Kernel } from '../kernel.ts';
import { BaseFile } from './base-file.ts';
import type { DeviceNode } from './node.ts';
import { nodeStatus } from './status.ts';

/** `/dev/null`, `/dev/zero`, `/dev/full`. @linux drivers/char/mem.c */
export class DeviceFile extends BaseFile {
  /** Mapping `/dev/zero` gives fresh memory. */
  readonly mapsZero: boolean;
  private readonly node: DeviceNode;

  constructor(kernel: Kernel, path: string, flags: number, object: number, node: DeviceNode) {
    super(kernel, path, flags, object);
    this.node = node;
    this.mapsZero = node.device === 'zero';
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

