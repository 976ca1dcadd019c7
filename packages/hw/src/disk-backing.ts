/** Where a disk keeps its sectors: in memory, or in a file of the host that whoever starts the machine hands in. */

/** Bytes in a sector: the unit of the block layer, whatever the device's own is. */
export const SECTOR_SIZE = 512;

/** What a disk reads from and writes to. Sectors are in range, and arrays whole sectors: the device checked both. */
export interface DiskBacking {
  /** Sectors it holds. */
  readonly nrSectors: number;
  /** Reads the sectors from `sector` on into `target`. Whether that succeeded; if not, `target` does not count. */
  read(sector: number, target: Uint8Array): boolean;
  /** Writes `source` to the sectors from `sector` on. Whether that succeeded. */
  write(sector: number, source: Uint8Array): boolean;
  /** The sectors hold nothing that is needed: they may read as zero from now on. */
  discard(sector: number, nrSectors: number): void;
}

/** Sectors in an extent: 64 KiB. */
const EXTENT_SECTORS = 128;

/** Sectors in memory, of which only the extents of 64 KiB that were written take any. */
export class MemoryBacking implements DiskBacking {
  readonly nrSectors: number;
  readonly #extents = new Map<number, Uint8Array>();

  /** @throws RangeError for a size that is not whole sectors, at least one */
  constructor(bytes: number) {
    this.nrSectors = wholeSectors(bytes);
  }

  /** Bytes that the extents take. */
  get committedBytes(): number {
    return this.#extents.size * EXTENT_SECTORS * SECTOR_SIZE;
  }

  read(sector: number, target: Uint8Array): boolean {
    for (let done = 0; done < target.length; ) {
      const { extent, at, run } = this.#place(sector, done, target.length);
      const bytes = this.#extents.get(extent);
      if (bytes === undefined) target.fill(0, done, done + run);
      else target.set(bytes.subarray(at, at + run), done);
      done += run;
    }
    return true;
  }

  write(sector: number, source: Uint8Array): boolean {
    for (let done = 0; done < source.length; ) {
      const { extent, at, run } = this.#place(sector, done, source.length);
      let bytes = this.#extents.get(extent);
      if (bytes === undefined) {
        bytes = new Uint8Array(EXTENT_SECTORS * SECTOR_SIZE);
        this.#extents.set(extent, bytes);
      }
      bytes.set(source.subarray(done, done + run), at);
      done += run;
    }
    return true;
  }

  discard(sector: number, nrSectors: number): void {
    const length = nrSectors * SECTOR_SIZE;
    for (let done = 0; done < length; ) {
      const { extent, at, run } = this.#place(sector, done, length);
      if (run === EXTENT_SECTORS * SECTOR_SIZE) this.#extents.delete(extent);
      else this.#extents.get(extent)?.fill(0, at, at + run);
      done += run;
    }
  }

  /** The extent of the byte `done` after `sector`, the byte's place in it, and how many of `length` lie in it. */
  #place(sector: number, done: number, length: number): { extent: number; at: number; run: number } {
    const first = sector + done / SECTOR_SIZE;
    const extent = Math.floor(first / EXTENT_SECTORS);
    const at = (first - extent * EXTENT_SECTORS) * SECTOR_SIZE;
    return { extent, at, run: Math.min(EXTENT_SECTORS * SECTOR_SIZE - at, length - done) };
  }
}

/** An open file of the host, as whoever starts the machine hands it in. Both return the bytes they moved. */
export interface HostFile {
  /** Reads into `target` from `position` bytes on; fewer at the file's end. May throw. */
  read(position: number, target: Uint8Array): number;
  /** Writes `source` at `position`. May throw. */
  write(position: number, source: Uint8Array): number;
}

/** Sectors in a file of the host. What lies beyond its end reads as zero; what the host refuses is an I/O error. */
export class FileBacking implements DiskBacking {
  readonly nrSectors: number;
  readonly #file: HostFile;

  /** @throws RangeError for a size that is not whole sectors, at least one */
  constructor(file: HostFile, bytes: number) {
    this.#file = file;
    this.nrSectors = wholeSectors(bytes);
  }

  read(sector: number, target: Uint8Array): boolean {
    try {
      let done = 0;
      while (done < target.length) {
        const read = this.#file.read(sector * SECTOR_SIZE + done, target.subarray(done));
        if (!(read > 0)) break;
        done += read;
      }
      target.fill(0, done);
      return true;
    } catch {
      return false;
    }
  }

  write(sector: number, source: Uint8Array): boolean {
    try {
      for (let done = 0; done < source.length; ) {
        const written = this.#file.write(sector * SECTOR_SIZE + done, source.subarray(done));
        if (!(written > 0)) return false;
        done += written;
      }
      return true;
    } catch {
      return false;
    }
  }

  discard(): void {
    // A file keeps what it has: that is allowed, and costs nothing.
  }
}

function wholeSectors(bytes: number): number {
  if (!Number.isSafeInteger(bytes) || bytes < SECTOR_SIZE || bytes % SECTOR_SIZE !== 0) {
    throw new RangeError(`a disk is whole sectors of ${SECTOR_SIZE} bytes, at least one, not ${bytes} bytes`);
  }
  return bytes / SECTOR_SIZE;
}
