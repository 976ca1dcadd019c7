/**
 * How long a disk takes: for a command, for bringing the head to the place, and for the bytes.
 *
 * The arm's time grows with the root of the distance, as it is accelerated half the way and slowed down the other half:
 * `seek(d) = trackToTrack + (fullStroke - trackToTrack) * sqrt(d / size)` (C. Ruemmler and J. Wilkes, "An introduction
 * to disk drive modeling", IEEE Computer 27(3), 1994). For places drawn at random the mean of the root is 8/15: a data
 * sheet that gives the average but not the full stroke is turned round by it. Of the drive below that gives both, the
 * formula has 11.1 ms for an average of 12.
 */
export interface DiskModel {
  readonly name: string;
  /** Between the command and the first thing the device does for it, in ns. */
  readonly readCommandNs: number;
  readonly writeCommandNs: number;
  /** Moving the head to the next track, in ns; 0 where nothing moves. */
  readonly trackToTrackNs: number;
  /** Moving it over the whole disk, in ns. */
  readonly fullStrokeNs: number;
  /** One revolution, in ns; a place that is not the next one comes by after half of it on average. */
  readonly revolutionNs: number;
  /** Moving the data, in bytes a second. */
  readonly readBytesPerSecond: number;
  readonly writeBytesPerSecond: number;
  /** How many commands it works on at a time: one arm, or the channels of flash. */
  readonly channels: number;
}

/** Mean of the square root of the distance between two places drawn evenly from 0 to 1. */
const MEAN_ROOT = 8 / 15;
const MS = 1e6;
const US = 1e3;

function fullStroke(averageNs: number, trackToTrackNs: number): number {
  return trackToTrackNs + (averageNs - trackToTrackNs) / MEAN_ROOT;
}

/**
 * A disk of 7,200 revolutions a minute: Western Digital Ultrastar DC HC310. Its OEM specification, section 4.5: average
 * seek 7.4 ms for reads, single track 0.23 ms, a revolution 8.33 ms. Data at 250 MB/s, as of the outer tracks of drives
 * of that kind, and a command of 0.1 ms are estimates.
 */
export const DISK_HDD: DiskModel = Object.freeze({
  name: 'hdd',
  readCommandNs: 0.1 * MS,
  writeCommandNs: 0.1 * MS,
  trackToTrackNs: 0.23 * MS,
  fullStrokeNs: fullStroke(7.4 * MS, 0.23 * MS),
  revolutionNs: 8.33 * MS,
  readBytesPerSecond: 250e6,
  writeBytesPerSecond: 250e6,
  channels: 1,
});

/**
 * A laptop's disk of 5,400 revolutions a minute: Hitachi Travelstar 5K320. Its OEM specification, section 4.4.2: full
 * stroke 20 ms, single track 1.0 ms, a revolution 11.1 ms. Data at 70 MB/s and the command's time are estimates.
 */
export const DISK_LAPTOP_HDD: DiskModel = Object.freeze({
  name: 'laptop-hdd',
  readCommandNs: 0.1 * MS,
  writeCommandNs: 0.1 * MS,
  trackToTrackNs: 1.0 * MS,
  fullStrokeNs: 20 * MS,
  revolutionNs: 11.1 * MS,
  readBytesPerSecond: 70e6,
  writeBytesPerSecond: 70e6,
  channels: 1,
});

/**
 * Flash behind SATA: Intel SSD DC S3700 (800 GB). Its product specification: latency 50 µs for reads and 65 µs for
 * writes, 500 and 460 MB/s in sequence. The link moves one command's data at a time, so the bandwidth is shared; four
 * commands at a time, as 75,000 random reads a second of 4 KiB come to at that latency.
 */
export const DISK_SSD: DiskModel = Object.freeze({
  name: 'ssd',
  readCommandNs: 50 * US,
  writeCommandNs: 65 * US,
  trackToTrackNs: 0,
  fullStrokeNs: 0,
  revolutionNs: 0,
  readBytesPerSecond: 500e6,
  writeBytesPerSecond: 460e6,
  channels: 4,
});

/**
 * Memory cells behind PCI Express: Intel Optane SSD DC P4800X (375 GB). Its product brief: latency below 10 µs, 2,400
 * and 2,000 MB/s. Six commands at a time come to its 550,000 random operations a second.
 */
export const DISK_NVME: DiskModel = Object.freeze({
  name: 'nvme',
  readCommandNs: 10 * US,
  writeCommandNs: 10 * US,
  trackToTrackNs: 0,
  fullStrokeNs: 0,
  revolutionNs: 0,
  readBytesPerSecond: 2400e6,
  writeBytesPerSecond: 2000e6,
  channels: 6,
});

/**
 * A part of memory that poses as a disk: a page is copied in the time that the cost model has for it, 115 ns (35 GB/s).
 * The command's 0.5 µs for the way through the block layer is an estimate.
 */
export const DISK_RAM: DiskModel = Object.freeze({
  name: 'ram',
  readCommandNs: 0.5 * US,
  writeCommandNs: 0.5 * US,
  trackToTrackNs: 0,
  fullStrokeNs: 0,
  revolutionNs: 0,
  readBytesPerSecond: 35e9,
  writeBytesPerSecond: 35e9,
  channels: 1,
});

/** The disks that can be asked for by name. */
export const DISK_MODELS: readonly DiskModel[] = Object.freeze([
  DISK_HDD,
  DISK_LAPTOP_HDD,
  DISK_SSD,
  DISK_NVME,
  DISK_RAM,
]);

/** The disk of a name, or `undefined`. */
export function diskModel(name: string): DiskModel | undefined {
  return DISK_MODELS.find((model) => model.name === name);
}

/**
 * Nanoseconds that moving the head takes, and waiting for the place to come by: none for the place it is at.
 *
 * @param distance sectors between where the head is and where it must go
 * @param size sectors of the disk
 */
export function positioningNs(model: DiskModel, distance: number, size: number): number {
  if (distance === 0 || model.revolutionNs === 0) return 0;
  const travel = model.fullStrokeNs - model.trackToTrackNs;
  return model.trackToTrackNs + travel * Math.sqrt(Math.abs(distance) / size) + model.revolutionNs / 2;
}
